/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * A model written by hand in the form that the compiler emits: two kernels and a plan. The description (its blob) comes from
 * the test. Inputs: x f32[N,4], index i64[M], cache f32[2,P,3], mode i64[1]. Outputs: y f32[M,4] = (x * w + 1)[index],
 * cache_out f32[2,P+1,3] = cache with x[0,0] appended, twice i64[1] = 2 * M. Weights: w f32[4] at 64.
 */
#include "pw_plan.h"

typedef float f32;

enum { STEPS = 60, CHAINS = 7 };

enum { NORMAL, RESHAPE, LOOP, HUGE_ARENA, NEGATIVE, SLOW, NO_OUTPUT, ORIGINS_SECOND, OVERFLOWING };

/* A group is a row: t[row,:] = x[row,:] * w + 1, by way of scratch memory. */
static void scale(void *const *bufs, const int64_t *syms, const int64_t *grid, int64_t begin, int64_t end, void *scratch,
                  void *status) {
  const f32 *x = bufs[0], *w = bufs[1];
  f32 *t = bufs[2], *row = scratch;
  (void)grid, (void)status;
  for (int64_t r = begin; r < end; r++) {
    for (int i = 0; i < 4; i++) row[i] = x[r * 4 + i] * w[i];
    for (int64_t spin = 0; spin < syms[1]; spin++) row[3] = row[3] * 1.0001f;
    for (int i = 0; i < 4; i++) t[r * 4 + i] = row[i] + 1.0f;
  }
}

/* A group is a row of the result: y[row,:] = t[index[row],:], the index is checked and clamped. */
static void gather(void *const *bufs, const int64_t *syms, const int64_t *grid, int64_t begin, int64_t end, void *scratch,
                   void *status) {
  const f32 *t = bufs[0];
  const int64_t *index = bufs[1];
  f32 *y = bufs[2];
  (void)grid, (void)scratch;
  for (int64_t r = begin; r < end; r++) {
    int64_t i = index[r];
    if (i < 0 || i >= syms[0]) {
      pw_rt_guard(status, PW_CODE_INDEX, r, i);
      i = 0;
    }
    for (int c = 0; c < 4; c++) y[r * 4 + c] = t[i * 4 + c];
  }
}

/* A launch in steps: h[z,x] = h[z - 1,x + 1] and once m; so each row is 2 * m but for the first, which is m. */
static void pass_on(void *const *bufs, const int64_t *syms, const int64_t *grid, int64_t begin, int64_t end, void *scratch,
                    void *status) {
  int64_t *h = bufs[0], n = grid[0];
  (void)scratch, (void)status;
  for (int64_t g = begin; g < end; g++) {
    int64_t x = g % n, z = g / n;
    h[g] = z ? h[(z - 1) * n + (x + 1) % n] + (z == 1 ? syms[0] : 0) : syms[0];
  }
}

int32_t pw_plan_main(pw_ctx *ctx) {
  int64_t n = pw_rt_dim(ctx, 0, 0), m = pw_rt_dim(ctx, 1, 0), p = pw_rt_dim(ctx, 2, 1);
  const f32 *x = pw_rt_input(ctx, 0), *cache = pw_rt_input(ctx, 2);
  const void *index = pw_rt_input(ctx, 1);
  int64_t mode = *(const int64_t *)pw_rt_input(ctx, 3);
  if (mode == RESHAPE) return pw_rt_fail(ctx, PW_CODE_RESHAPE, 1, 4 * n, 5 * n);
  if (mode == LOOP)
    for (int64_t trip = 0;; trip++)
      if (pw_rt_loop(ctx, 2, trip, 1000)) return pw_rt_status(ctx);
  const void *w = pw_rt_weight(ctx, 64);
  int64_t history = STEPS * CHAINS * 8;
  int64_t *h = pw_rt_arena(ctx, 0, mode == HUGE_ARENA ? (int64_t)1 << 60 : mode == OVERFLOWING ? -1 : history + n * 16);
  if (!h) return pw_rt_status(ctx);
  f32 *t = (f32 *)(void *)(h + STEPS * CHAINS);
  int64_t dims[3] = {mode == NEGATIVE ? -3 : m, 4, 0};
  f32 *y = pw_rt_output(ctx, 0, dims, 2);
  if (!y) return pw_rt_status(ctx);
  dims[0] = 2, dims[1] = p + 1, dims[2] = 3;
  f32 *next = pw_rt_output(ctx, 1, dims, 3);
  if (!next) return pw_rt_status(ctx);
  dims[0] = 1;
  int64_t *twice = mode == NO_OUTPUT ? 0 : pw_rt_output(ctx, 2, dims, 1);

  int64_t grid[3] = {n, 1, 1}, syms[2] = {n, mode == SLOW ? 500000 : n >= 1000 ? 200 : 0};
  void *first[3] = {(void *)x, (void *)w, t};
  if (pw_rt_launch(ctx, (void *)scale, first, syms, grid, 16, 0, n < 100 ? PW_COST_TINY : PW_COST_LARGE)) return pw_rt_status(ctx);
  grid[0] = 1, grid[1] = m;
  void *second[3] = {t, (void *)index, y};
  if (pw_rt_launch(ctx, (void *)gather, second, syms, grid, 0, 1, m < 100 ? PW_COST_TINY : PW_COST_EVEN)) return pw_rt_status(ctx);
  int64_t chains[3] = {CHAINS, 1, m < 100 ? 2 : STEPS};
  void *third[1] = {h};
  if (pw_rt_launch(ctx, (void *)pass_on, third, &m, chains, 0, 1, (m < 100 ? PW_COST_TINY : PW_COST_EVEN) | PW_COST_STEPS))
    return pw_rt_status(ctx);
  if (pw_rt_inferring(ctx)) return 0;
  for (int64_t b = 0; b < 2; b++) {
    for (int64_t i = 0; i < p * 3; i++) next[b * (p + 1) * 3 + i] = cache[b * p * 3 + i];
    for (int64_t i = 0; i < 3; i++) next[(b * (p + 1) + p) * 3 + i] = n ? x[0] : 0;
  }
  if (twice) *twice = h[(chains[2] - 1) * CHAINS + m % CHAINS];
  return pw_rt_status(ctx);
}

#ifdef MUTABLE_BLOB
/* The bytes may be changed between loads. */
__attribute__((visibility("default"))) uint8_t *pw_test_blob(uint64_t *bytes);
uint8_t *pw_test_blob(uint64_t *bytes) {
  *bytes = pw_model_blob_size;
  return (uint8_t *)(uintptr_t)pw_model_blob;
}
#endif
