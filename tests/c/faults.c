/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* A kernel that misbehaves, in place of a compiled one: FAULT says how, KERNEL is the symbol that it replaces. */
#include <stddef.h>
#include <stdint.h>

static volatile int64_t zero;

#if FAULT == 3
static int64_t deeper(volatile int64_t n) {
  volatile char room[4096];
  room[n & 4095] = 1;
  return deeper(n + 1) + room[0];
}
#endif

void KERNEL(void *const *bufs, const int64_t *syms, const int64_t *grid, int64_t begin, int64_t end, void *scratch, void *status) {
  (void)bufs, (void)syms, (void)grid, (void)begin, (void)end, (void)scratch, (void)status;
#if FAULT == 0
  zero = *(volatile int64_t *)(uintptr_t)zero;
#elif FAULT == 1
  zero = 1000 / zero;
#elif FAULT == 2
  while (!zero) {
  }
#else
  zero = deeper(zero);
#endif
}
