// SPDX-License-Identifier: Apache-2.0 OR MIT
// chip: cuda:sm_80
// needs: crates/candle-kernels/src
// Gathers and scatters of candle-kernels (MIT or Apache-2.0).
// mutate: "to[i] = i % 3" -> "to[i] = i % 4" : Assertion
// mutate: "inp[strided_i]" -> "inp[strided_i + 6300]" : out of bounds
#include "dialect.h"
#include "indexing.cu"

int main() {
  Numbers<float> x(6 * 63);
  Numbers<size_t> of(8);
  const size_t dims[] = {2, 3, 9, 7}, strides[] = {189, 63, 7, 1};
  for (int i = 0; i < 4; i++) of[i] = dims[i], of[4 + i] = strides[i];
  for (size_t i = 0; i < x.n; i++) x[i] = noise(i);
  // Rows by number, and sums of rows by number.
  Numbers<uint32_t> rows(5);
  Numbers<float> chosen(5 * 63);
  for (int i = 0; i < 5; i++) rows[i] = i * i % 6;
  is_u32_f32<<<4, 96>>>(5 * 63, 4, of.in(), rows.in(), x.in(), chosen.device, 1, 6, 5, 63);
  chosen.out();
  for (int i = 0; i < 5 * 63; i++) near(chosen[i], x[rows[i / 63] * 63 + i % 63], 0, "index_select", i);
  Numbers<uint32_t> to(8 * 10);
  Numbers<float> from(8 * 10), sums(3 * 10);
  for (int i = 0; i < 80; i++) to[i] = i % 3, from[i] = noise(i);
  must(cudaMemset(sums.device, 0, 30 * sizeof(float)));
  sa_u32_f32<<<1, 32>>>(to.in(), from.in(), sums.device, 1, 8, 3, 10);
  sums.out();
  for (int r = 0; r < 3; r++)
    for (int c = 0; c < 10; c++) {
      double sum = 0;
      for (int i = 0; i < 8; i++) sum += (i * 10 + c) % 3 == r ? from[i * 10 + c] : 0;
      near(sums[r * 10 + c], sum, 1e-6, "scatter_add", r);
    }
}
