// SPDX-License-Identifier: Apache-2.0 OR MIT
// Part of runtime.cpp: what -fsanitize=thread calls before accesses.
#pragma once

using simt::check;
// A chip traps where a type's alignment does not hold. (Of 16 bytes the compiler promises 8.)
static inline void aligned(void *p, size_t n, uintptr_t from) {
  if (__builtin_expect((uintptr_t)p & ((n < 8 ? n : 8) - 1), 0) && (uintptr_t)p - simt::exempt_from >= simt::exempt_bytes)
    simt::fault("an access of %zu bytes at %p, which is no multiple of its alignment, at @%lx", n, p, (unsigned long)from);
}
#define HOOKS(n)                                                                                                                    \
  extern "C" void __tsan_read##n(void *p) {                                                                                        \
    aligned(p, n, (uintptr_t)__builtin_return_address(0)), check(p, n, simt::Read, (uintptr_t)__builtin_return_address(0));         \
  }                                                                                                                                \
  extern "C" void __tsan_write##n(void *p) {                                                                                       \
    aligned(p, n, (uintptr_t)__builtin_return_address(0)), check(p, n, simt::Write, (uintptr_t)__builtin_return_address(0));        \
  }                                                                                                                                \
  extern "C" void __tsan_read_write##n(void *p) {                                                                                  \
    check(p, n, simt::Read, (uintptr_t)__builtin_return_address(0)), check(p, n, simt::Write, (uintptr_t)__builtin_return_address(0)); \
  }                                                                                                                                \
  extern "C" void __tsan_unaligned_read##n(void *p) { check(p, n, simt::Read, (uintptr_t)__builtin_return_address(0)); }           \
  extern "C" void __tsan_unaligned_write##n(void *p) { check(p, n, simt::Write, (uintptr_t)__builtin_return_address(0)); }         \
  extern "C" void __tsan_unaligned_read_write##n(void *p) {                                                                        \
    check(p, n, simt::Read, (uintptr_t)__builtin_return_address(0)), check(p, n, simt::Write, (uintptr_t)__builtin_return_address(0)); \
  }
HOOKS(1) HOOKS(2) HOOKS(4) HOOKS(8) HOOKS(16)
extern "C" void __tsan_init() {}
extern "C" void __tsan_func_entry(void *) {}
extern "C" void __tsan_func_exit() {}
extern "C" void __tsan_vptr_update(void **, void *) {}
extern "C" void __tsan_vptr_read(void **) {}
extern "C" void *__tsan_memcpy(void *to, const void *from, size_t n) {
  if (n) check(from, n, simt::Read, (uintptr_t)__builtin_return_address(0)), check(to, n, simt::Write, (uintptr_t)__builtin_return_address(0));
  return memcpy(to, from, n);
}
extern "C" void *__tsan_memmove(void *to, const void *from, size_t n) {
  if (n) check(from, n, simt::Read, (uintptr_t)__builtin_return_address(0)), check(to, n, simt::Write, (uintptr_t)__builtin_return_address(0));
  return memmove(to, from, n);
}
extern "C" void *__tsan_memset(void *to, int byte, size_t n) {
  if (n) check(to, n, simt::Write, (uintptr_t)__builtin_return_address(0));
  return memset(to, byte, n);
}
