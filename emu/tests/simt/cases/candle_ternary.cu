// SPDX-License-Identifier: Apache-2.0 OR MIT
// chip: cuda:sm_80
// needs: crates/candle-kernels/src
// Selection of candle-kernels (MIT or Apache-2.0).
// mutate: "dim3(1), dim3(128)" -> "dim3(1), dim3(2048)" : 2048 threads a block
#include "dialect.h"
#include "ternary.cu"

int main() {
  // Selection.
  Numbers<uint8_t> which(80);
  Numbers<float> from(80), other(80), picked(80);
  Numbers<size_t> flat(4);
  flat[0] = 80, flat[1] = flat[2] = flat[3] = 1;
  for (int i = 0; i < 80; i++) which[i] = i % 3 == 1, from[i] = noise(i), other[i] = noise(i + 100);
  where_u8_f32<<<dim3(1), dim3(128)>>>(80, 1, flat.in(), which.in(), from.in(), other.in(), picked.device);
  picked.out();
  for (int i = 0; i < 80; i++) {
    const double v = which[i] ? from[i] : other[i];
    near(picked[i], v, 0, "where", i);
  }
}
