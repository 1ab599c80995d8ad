// SPDX-License-Identifier: Apache-2.0 OR MIT
// chip: cuda:sm_80
// needs: crates/candle-kernels/src
// The bitonic sort of candle-kernels (MIT or Apache-2.0; after ggml, MIT): shared memory of dynamic size, barriers in loops.
// mutate: "            __syncthreads();\n        }" -> "        }" : race
// mutate: "dst_row[ixj] < ncols && (order == SORT_ORDER_ASC ?\n                            x_row[dst_row[col]] > " -> "(order == SORT_ORDER_ASC ?\n                            x_row[dst_row[col]] > " : out of bounds
// mutate: "block, block * sizeof(int)" -> "block, block * sizeof(short)" : out of bounds
// mutate: "int ixj = col ^ j;" -> "int ixj = col + j;" : race
// mutate: "if (col >= ncols_pad) {" -> "if (col >= ncols) {" : divergence
#include "dialect.h"
#include "sort.cu"

int main() {
  const int rows = 3, n = 77, block = 128;
  Numbers<float> x(rows * n);
  Numbers<uint32_t> up(rows * n), down(rows * n);
  for (int i = 0; i < rows * n; i++) x[i] = noise(i);
  float *px = x.in();
  asort_asc_f32<<<dim3(1, rows), block, block * sizeof(int)>>>(px, up.device, n, block);
  asort_desc_f32<<<dim3(1, rows), block, block * sizeof(int)>>>(px, down.device, n, block);
  up.out(), down.out();
  for (int r = 0; r < rows; r++)
    for (int i = 0; i < n; i++) {
      int less = 0, seen = 0;
      const float v = x[r * n + up[r * n + i]];
      for (int k = 0; k < n; k++) less += x[r * n + k] < v, seen += up[r * n + k] == (unsigned)i;
      if (less != i || seen != 1) wrong("place %d of row %d has one that belongs to %d", i, r, less);
      if (x[r * n + down[r * n + n - 1 - i]] != v) wrong("down from %d", i);
    }
}
