// SPDX-License-Identifier: Apache-2.0 OR MIT
// Part of runtime.cpp: how the machine goes from lane to lane.
#pragma once
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace simt {
namespace {

#if defined(__x86_64__)
typedef void *Context;
// Keeps what a call must keep on the stack that is left, and goes on where the other one was left.
__attribute__((naked, noinline)) void swap_to(Context *, Context) {
  asm("pushq %rbp\n pushq %rbx\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n movq %rsp, (%rdi)\n movq %rsi, %rsp\n"
      "popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbx\n popq %rbp\n ret");
}
void change(Context &from, Context &to) { swap_to(&from, to); }
void begin_at(Context &c, char *stack, size_t bytes, void (*entry)()) {
  void **sp = (void **)(stack + bytes - 64); // 16-byte aligned; a function begins 8 below that
  *--sp = nullptr;
  *--sp = (void *)entry;
  for (int i = 0; i < 6; i++) *--sp = nullptr;
  c = sp;
}
#else
typedef ucontext_t Context;
void change(Context &from, Context &to) { swapcontext(&from, &to); }
void begin_at(Context &c, char *stack, size_t bytes, void (*entry)()) {
  getcontext(&c);
  c.uc_stack.ss_sp = stack, c.uc_stack.ss_size = bytes, c.uc_link = nullptr;
  makecontext(&c, entry, 0);
}
#endif

} // namespace
} // namespace simt
