// SPDX-License-Identifier: Apache-2.0 OR MIT
// chip: cuda:sm_80
// Copies, streams and launches of the host's side, and what goes wrong there.
// mutate: "cudaMemcpyHostToDevice, stream" -> "stream, cudaMemcpyHostToDevice" : no matching function
// mutate: "cudaFree(x)" -> "cudaFree(x + 1)" : what is freed is not the start of an allocation
// mutate: "double_it<<<2, 32, 0, stream>>>" -> "double_it<<<2, 32, 65536, stream>>>" : must be asked for
// mutate: "double_it<<<2, 32, 0, stream>>>(x)" -> "double_it<<<2, 32, 0, stream>>>(host)" : no memory of the device
// mutate: "double_it<<<2, 32, 0, stream>>>(x)" -> "double_it<<<2, 32, 0, stream>>>(nullptr)" : null pointer
// mutate: "cudaMalloc(&x, bytes)" -> "cudaMalloc(&x, bytes - 4)" : leaves an allocation
#include <cuda_runtime.h>
#include <stdio.h>
#define CHECK(call) do { cudaError_t e = (call); if (e) return fprintf(stderr, "%s\n", cudaGetErrorString(e)), 1; } while (0)
__constant__ float factor;
__global__ void double_it(float *x) { x[blockIdx.x * blockDim.x + threadIdx.x] *= factor; }
int main() {
  float host[64], *x;
  const size_t bytes = sizeof host;
  cudaStream_t stream;
  for (int i = 0; i < 64; i++) host[i] = (float)i;
  const float two = 2;
  CHECK(cudaStreamCreate(&stream));
  CHECK(cudaMemcpyToSymbol(factor, &two, sizeof two));
  CHECK(cudaMalloc(&x, bytes));
  CHECK(cudaMemcpyAsync(x, host, bytes, cudaMemcpyHostToDevice, stream));
  double_it<<<2, 32, 0, stream>>>(x);
  CHECK(cudaGetLastError());
  CHECK(cudaMemcpyAsync(host, x, bytes, cudaMemcpyDeviceToHost, stream));
  CHECK(cudaStreamSynchronize(stream));
  CHECK(cudaFree(x));
  for (int i = 0; i < 64; i++)
    if (host[i] != 2.0f * i) return fprintf(stderr, "%d: %g\n", i, host[i]), 1;
}
