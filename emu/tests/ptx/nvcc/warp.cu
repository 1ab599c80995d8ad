// SPDX-License-Identifier: Apache-2.0 OR MIT
#include <cuda_runtime.h>

// One row a group: softmax with shuffles inside warps and shared memory between them.
extern "C" __global__ void softmax(const float *x, float *y, int n) {
    __shared__ float part[32];
    const float *row = x + (long)blockIdx.x * n;
    float m = -3e38f;
    for (int i = threadIdx.x; i < n; i += blockDim.x) m = fmaxf(m, row[i]);
    for (int d = 16; d; d >>= 1) m = fmaxf(m, __shfl_xor_sync(~0u, m, d));
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = m;
    __syncthreads();
    m = part[0];
    for (int i = 1; i < blockDim.x / 32; i++) m = fmaxf(m, part[i]);
    __syncthreads();
    float s = 0.f;
    for (int i = threadIdx.x; i < n; i += blockDim.x) s += __expf(row[i] - m);
    for (int d = 16; d; d >>= 1) s += __shfl_xor_sync(~0u, s, d);
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = s;
    __syncthreads();
    s = 0.f;
    for (int i = 0; i < blockDim.x / 32; i++) s += part[i];
    for (int i = threadIdx.x; i < n; i += blockDim.x) y[(long)blockIdx.x * n + i] = __expf(row[i] - m) / s;
}

// Inclusive sums of a warp's numbers.
extern "C" __global__ void scan(const int *x, int *y) {
    int v = x[blockIdx.x * 32 + threadIdx.x];
    for (int d = 1; d < 32; d *= 2) {
        int o = __shfl_up_sync(~0u, v, d);
        if (threadIdx.x >= d) v += o;
    }
    y[blockIdx.x * 32 + threadIdx.x] = v;
}

// Keeps positive numbers; order inside a warp stays, order of warps is that of the atomics.
extern "C" __global__ void compact(const int *x, int *y, int *count, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, lane = threadIdx.x % 32;
    bool keep = i < n && x[i] > 0;
    unsigned b = __ballot_sync(~0u, keep);
    int base = 0;
    if (lane == 0) base = atomicAdd(count, __popc(b));
    base = __shfl_sync(~0u, base, 0);
    if (keep) y[base + __popc(b & ((1u << lane) - 1))] = x[i];
}

// Lanes with the same key add together once; the rest of the warp waits for them.
extern "C" __global__ void groups(const int *keys, int *sums) {
    int k = keys[blockIdx.x * blockDim.x + threadIdx.x];
    unsigned m = __match_any_sync(~0u, k);
    int all;
    unsigned a = __match_all_sync(~0u, k, &all);
    if (threadIdx.x % 32 == __ffs(m) - 1) atomicAdd(&sums[k], __popc(m) + (all ? 1000 : 0) + (a ? 0 : 0));
}

extern "C" __global__ void reduxes(const int *x, int *y) {
    int v = x[threadIdx.x];
    y[threadIdx.x * 6 + 0] = __reduce_add_sync(~0u, v);
    y[threadIdx.x * 6 + 1] = __reduce_min_sync(~0u, v);
    y[threadIdx.x * 6 + 2] = __reduce_max_sync(~0u, v);
    y[threadIdx.x * 6 + 3] = __reduce_and_sync(~0u, (unsigned)v);
    y[threadIdx.x * 6 + 4] = __reduce_or_sync(~0u, (unsigned)v);
    y[threadIdx.x * 6 + 5] = __reduce_xor_sync(~0u, (unsigned)v);
}

// The two halves of a warp part and shuffle for themselves.
extern "C" __global__ void halves(const int *x, int *y) {
    int v = x[threadIdx.x];
    if (threadIdx.x % 32 < 16) {
        for (int d = 8; d; d /= 2) v += __shfl_xor_sync(0x0000ffffu, v, d);
    } else {
        for (int d = 8; d; d /= 2) v = max(v, __shfl_xor_sync(0xffff0000u, v, d));
    }
    __syncwarp();
    y[threadIdx.x] = v + __activemask() * 0;
}
