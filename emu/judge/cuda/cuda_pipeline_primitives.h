// SPDX-License-Identifier: Apache-2.0 OR MIT
// Asynchronous copies, by the instructions that they are.
#pragma once
JUDGE_FN void __pipeline_memcpy_async(void *to, const void *from, size_t bytes, size_t zeros = 0) {
  const unsigned at = (unsigned)(size_t)(__attribute__((address_space(3))) void *)to;
  const unsigned taken = (unsigned)(bytes - zeros);
  if (bytes == 16) __asm__ volatile("cp.async.ca.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from), "r"(taken) : "memory");
  if (bytes == 8) __asm__ volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(at), "l"(from), "r"(taken) : "memory");
  if (bytes == 4) __asm__ volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(at), "l"(from), "r"(taken) : "memory");
}
JUDGE_FN void __pipeline_commit() { __asm__ volatile("cp.async.commit_group;" ::: "memory"); }
#define __pipeline_wait_prior(n) __asm__ volatile("cp.async.wait_group %0;" ::"n"(n) : "memory")
