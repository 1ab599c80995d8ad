// SPDX-License-Identifier: Apache-2.0 OR MIT
// chip: cuda:sm_80
// needs: crates/candle-kernels/src
// Reductions of candle-kernels (MIT or Apache-2.0; softmax and norms after ggml, MIT): shared memory, shuffles, templates, halves.
// mutate: "      shr[tid] += shr[tid + s];" -> "      shr[tid] += shr[tid + s + 1];" : fast_sum
// mutate: "    __syncthreads();\n    if (tid < s)\n      shr[tid] +=" -> "    if (tid < s)\n      shr[tid] +=" : race
// mutate: "        __syncthreads();\n        tmp = s_sum[lane_id];" -> "        tmp = s_sum[lane_id];" : race
// mutate: "w.device, 2, t * d" -> "w.device, 3, t * d" : out of bounds
// mutate: "max_val = maxg(max_val, __shfl_xor_sync(0xffffffff, max_val, mask, 32));" -> "if (tid < 16) max_val = maxg(max_val, __shfl_xor_sync(0xffffffff, max_val, mask, 32));" : divergence
#include "dialect.h"
#include "reduce.cu"

template <class T> void norms(double tolerance, void (*soft)(const T *, T *, int), void (*rms)(const T *, T *, const T *, int, int, float),
                              void (*layer)(const T *, T *, const T *, const T *, int, int, float)) {
  for (int n : {48, 1500}) {
    const int rows = 3, block = n < 1024 ? 32 : 1024;
    Numbers<T> x(rows * n), y(rows * n), a(n), b(n);
    for (int i = 0; i < rows * n; i++) x[i] = T(noise(i));
    for (int i = 0; i < n; i++) a[i] = T(noise(i + 7)), b[i] = T(noise(i + 9));
    T *px = x.in(), *pa = a.in(), *pb = b.in();
    soft<<<rows, dim3(1, 32)>>>(px, y.device, n);
    y.out();
    for (int r = 0; r < rows; r++) {
      double sum = 0;
      for (int i = 0; i < n; i++) sum += exp((double)(float)x[r * n + i]);
      for (int i = 0; i < n; i++) near((float)y[r * n + i], exp((double)(float)x[r * n + i]) / sum, tolerance, "softmax", i);
    }
    rms<<<rows, block>>>(px, y.device, pa, n, block, 1e-5f);
    y.out();
    for (int r = 0; r < rows; r++) {
      double sum = 0;
      for (int i = 0; i < n; i++) sum += pow((double)(float)x[r * n + i], 2);
      for (int i = 0; i < n; i++)
        near((float)y[r * n + i], (float)x[r * n + i] / sqrt(sum / n + 1e-5) * (float)a[i], 4 * tolerance, "rmsnorm", i);
    }
    layer<<<rows, block>>>(px, y.device, pa, pb, n, block, 1e-5f);
    y.out();
    for (int r = 0; r < rows; r++) {
      double sum = 0, squares = 0;
      for (int i = 0; i < n; i++) sum += (float)x[r * n + i];
      for (int i = 0; i < n; i++) squares += pow((float)x[r * n + i] - sum / n, 2);
      for (int i = 0; i < n; i++)
        near((float)y[r * n + i], ((float)x[r * n + i] - sum / n) / sqrt(squares / n + 1e-5) * (float)a[i] + (float)b[i], 8 * tolerance,
             "layernorm", i);
    }
  }
}

int main() {
  // Sums and maxima of rows of a transposed matrix.
  const int rows = 4, n = 700;
  Numbers<float> x(rows * n), y(rows);
  Numbers<size_t> info(4);
  Numbers<uint32_t> at(rows);
  info[0] = rows, info[1] = n, info[2] = 1, info[3] = rows;
  for (int i = 0; i < rows * n; i++) x[i] = noise(i);
  float *px = x.in();
  size_t *pi = info.in();
  fast_sum_f32<<<rows, 512>>>(rows * n, n, 2, pi, px, y.device);
  y.out();
  for (int r = 0; r < rows; r++) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += x[i * rows + r];
    near(y[r], sum, 1e-5, "fast_sum", r);
  }
  fast_max_f32<<<rows, 512>>>(rows * n, n, 2, pi, px, y.device);
  fast_argmax_f32<<<rows, 512>>>(rows * n, n, 2, pi, px, at.device);
  y.out(), at.out();
  for (int r = 0; r < rows; r++) {
    int most = 0;
    for (int i = 0; i < n; i++)
      if (x[i * rows + r] > x[most * rows + r]) most = i;
    near(y[r], x[most * rows + r], 0, "fast_max", r);
    near(x[at[r] * rows + r], x[most * rows + r], 0, "fast_argmax", r);
  }
  norms<float>(1e-5, softmax_f32, rmsnorm_f32, layernorm_f32);
  norms<__half>(2e-3, softmax_f16, rmsnorm_f16, layernorm_f16);
  norms<__nv_bfloat16>(1.6e-2, softmax_bf16, rmsnorm_bf16, layernorm_bf16);
  // Rotations of halves of rows.
  const int t = 5, d = 16;
  Numbers<float> v(2 * t * d), c(t * d / 2), s(t * d / 2), w(2 * t * d);
  for (int i = 0; i < 2 * t * d; i++) v[i] = noise(i);
  for (int i = 0; i < t * d / 2; i++) c[i] = cosf(i), s[i] = sinf(i);
  rope_f32<<<3, 32>>>(v.in(), c.in(), s.in(), w.device, 2, t * d, d, 0);
  w.out();
  for (int b = 0; b < 2; b++)
    for (int i = 0; i < t; i++)
      for (int k = 0; k < d / 2; k++) {
        const int one = (b * t + i) * d + k, two = one + d / 2, angle = i * d / 2 + k;
        near(w[one], v[one] * cos(angle) - v[two] * sin(angle), 1e-5, "rope", one);
        near(w[two], v[one] * sin(angle) + v[two] * cos(angle), 1e-5, "rope", two);
      }
}
