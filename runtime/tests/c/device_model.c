/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* A model whose one kernel runs on a device, in the form that the compiler emits: y f32[N] of x f32[N] and w f32[4]; read i64[1] is what
 * the plan reads of mode i64[1], plus one. */
#include "device.h"
#include "pw_plan.h"

int32_t pw_plan_main(pw_ctx *ctx) {
  int64_t n = pw_rt_dim(ctx, 0, 0), one = 1;
  const void *x = pw_rt_input(ctx, 0), *mode = pw_rt_input(ctx, 1);
  if (!x || !mode) return pw_rt_status(ctx);
  uint8_t *arena = pw_rt_arena(ctx, 0, 64 + 4 * n);
  void *y = pw_rt_output(ctx, 0, &n, 1), *read = pw_rt_output(ctx, 1, &one, 1);
  if (!arena || !y || !read) return pw_rt_status(ctx);
  void *bufs[] = {(void *)(uintptr_t)x, (void *)(uintptr_t)pw_rt_weight(ctx, 64), arena + 64};
  int64_t syms[] = {n}, grid[] = {(n + 31) / 32, 1, 1};
  if (pw_rt_device_launch(ctx, 0, bufs, syms, grid, 1)) return pw_rt_status(ctx);
  pw_rt_device_copy(ctx, y, arena + 64, 4 * n);
  pw_rt_device_put(ctx, read, pw_rt_device_get(ctx, mode, 8) + 1, 8);
  return pw_rt_status(ctx);
}
