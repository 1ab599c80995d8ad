// SPDX-License-Identifier: Apache-2.0 OR MIT
// chip: cuda:sm_80
// needs: crates/candle-kernels/src
// Convolutions and pooling of candle-kernels (MIT or Apache-2.0).
// mutate: "if (src_l_idx < padding || src_l_idx >= l_in + padding) {" -> "if (src_l_idx >= l_in + padding) {" : out of bounds
// mutate: "cols(LO * 3 * 5)" -> "cols(LO * 3 * 5 - 1)" : out of bounds
#include "dialect.h"
#include "conv.cu"

int main() {
  // conv2d, channels first: 2 x 3 x 9 x 7 with 4 x 3 x 3 x 3, stride 2, padding 1.
  const int B = 2, C = 3, W = 9, H = 7, O = 4, K = 3, S = 2, P = 1, WO = (W + 2 * P - K) / S + 1, HO = (H + 2 * P - K) / S + 1;
  Numbers<float> x(B * C * W * H), k(O * C * K * K), y(B * O * WO * HO), m(B * C * (W / 2) * (H / 2));
  Numbers<size_t> info(16);
  const size_t dims[] = {B, C, W, H}, kernel[] = {O, C, K, K};
  for (int i = 0; i < 4; i++) {
    info[i] = dims[i], info[8 + i] = kernel[i];
    info[4 + i] = info[12 + i] = 1;
    for (int j = i + 1; j < 4; j++) info[4 + i] *= dims[j], info[12 + i] *= kernel[j];
  }
  for (size_t i = 0; i < x.n; i++) x[i] = noise(i);
  for (size_t i = 0; i < k.n; i++) k[i] = noise(i + 5);
  float *px = x.in();
  size_t *pi = info.in();
  conv2d_f32<<<(y.n + 63) / 64, 64>>>(x.n, HO, WO, S, P, 1, pi, px, k.in(), y.device);
  y.out();
  for (int b = 0; b < B; b++)
    for (int o = 0; o < O; o++)
      for (int i = 0; i < WO; i++)
        for (int j = 0; j < HO; j++) {
          double sum = 0;
          for (int c = 0; c < C; c++)
            for (int p = 0; p < K; p++)
              for (int q = 0; q < K; q++) {
                const int u = i * S + p - P, v = j * S + q - P;
                if (u >= 0 && u < W && v >= 0 && v < H)
                  sum += (double)x[((b * C + c) * W + u) * H + v] * k[((o * C + c) * K + p) * K + q];
              }
          const int at = ((b * O + o) * WO + i) * HO + j;
          near(y[at], sum, 1e-5, "conv2d", at);
        }
  max_pool2d_f32<<<3, 64>>>(x.n, 2, 2, 2, 2, pi, px, m.device);
  m.out();
  for (int a = 0; a < B * C; a++)
    for (int i = 0; i < W / 2; i++)
      for (int j = 0; j < H / 2; j++) {
        const float *f = &x[(a * W + 2 * i) * H + 2 * j];
        near(m[(a * (W / 2) + i) * (H / 2) + j], fmaxf(fmaxf(f[0], f[1]), fmaxf(f[H], f[H + 1])), 0, "max_pool2d", i);
      }
  // im2col of one axis, of 1 x 3 x 21 numbers and windows of 5.
  const int L = 21, LO = L + 2 * 2 - 5 + 1;
  Numbers<float> line(3 * L), cols(LO * 3 * 5);
  Numbers<size_t> of(6);
  of[0] = 1, of[1] = 3, of[2] = L, of[3] = 3 * L, of[4] = L, of[5] = 1;
  for (int i = 0; i < 3 * L; i++) line[i] = noise(i);
  im2col1d_f32<<<2, 64>>>(LO * 3, LO, 5, 1, 2, 1, of.in(), line.in(), cols.device);
  cols.out();
  for (int l = 0; l < LO; l++)
    for (int c = 0; c < 3; c++)
      for (int w = 0; w < 5; w++) {
        const int from = l + w - 2;
        near(cols[(l * 3 + c) * 5 + w], from < 0 || from >= L ? 0 : line[c * L + from], 0, "im2col1d", l);
      }
}
