// SPDX-License-Identifier: Apache-2.0 OR MIT
// chip: cuda:sm_80
// needs: crates/candle-kernels/src
// Functions of candle-kernels (MIT or Apache-2.0), in place, from one kernel per function, of halves too.
// mutate: "i += blockDim.x * gridDim.x) {" -> "i += blockDim.x) {" : race
#include "dialect.h"
#include "unary.cu"

template <class T> void function(void (*kernel)(size_t, size_t, const size_t *, const T *, T *), double (*want)(double), double tolerance) {
  Numbers<T> x(80);
  double of[80];
  for (int i = 0; i < 80; i++) x[i] = T(3 * noise(i)), of[i] = (float)x[i];
  x.in();
  kernel<<<2, 16>>>(80, 0, nullptr, nullptr, x.device);
  x.out();
  for (int i = 0; i < 80; i++) near((float)x[i], want(of[i]), tolerance, "a function", i);
}

int main() {
  function<float>(ugelu_erf_f32, [](double v) { return v * 0.5 * erfc(-v / sqrt(2.0)); }, 1e-6);
  function<float>(usilu_f32, [](double v) { return v / (1 + exp(-v)); }, 1e-6);
  function<float>(utanh_f32, [](double v) { return tanh(v); }, 1e-6);
  function<__half>(utanh_f16, [](double v) { return tanh(v); }, 1e-3);
  function<__half>(uexp_f16, [](double v) { return exp(v); }, 1e-3);
  function<__nv_bfloat16>(usqr_bf16, [](double v) { return v * v; }, 4e-3);
}
