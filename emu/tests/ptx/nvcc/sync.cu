// SPDX-License-Identifier: Apache-2.0 OR MIT
#include <cuda_runtime.h>
#include <cuda_fp16.h>

extern "C" __global__ void counts(const int *x, int *y) {
    int v = x[threadIdx.x];
    int a = __syncthreads_count(v > 0), b = __syncthreads_and(v > -100), c = __syncthreads_or(v > 90);
    y[threadIdx.x] = a * 4 + (b != 0) * 2 + (c != 0);
}

// Two warps hand numbers over through one buffer, with two named barriers.
extern "C" __global__ void handover(const int *x, int *y, int n) {
    __shared__ int buf[32];
    int lane = threadIdx.x % 32;
    if (threadIdx.x < 32) {
        for (int i = 0; i < n; i++) {
            asm volatile("barrier.sync 2, 64;" ::: "memory");
            buf[lane] = x[i * 32 + lane] * 3;
            asm volatile("barrier.arrive 1, 64;" ::: "memory");
        }
    } else {
        asm volatile("barrier.arrive 2, 64;" ::: "memory");
        for (int i = 0; i < n; i++) {
            asm volatile("barrier.sync 1, 64;" ::: "memory");
            y[i * 32 + lane] = buf[31 - lane];
            if (i + 1 < n) asm volatile("barrier.arrive 2, 64;" ::: "memory");
        }
    }
}

// The last group adds what all groups have left.
__device__ unsigned ticket;
extern "C" __global__ void lastgroup(const float *x, float *part, float *out, int n) {
    __shared__ float s[128];
    __shared__ bool last;
    float v = 0.f;
    for (int i = blockIdx.x * 128 + threadIdx.x; i < n; i += gridDim.x * 128) v += x[i];
    s[threadIdx.x] = v;
    __syncthreads();
    for (int d = 64; d; d /= 2) {
        if (threadIdx.x < d) s[threadIdx.x] += s[threadIdx.x + d];
        __syncthreads();
    }
    if (threadIdx.x == 0) {
        part[blockIdx.x] = s[0];
        __threadfence();
        last = atomicAdd(&ticket, 1) == gridDim.x - 1;
        __threadfence();
    }
    __syncthreads();
    if (last && threadIdx.x == 0) {
        float t = 0.f;
        for (int i = 0; i < gridDim.x; i++) t += part[i];
        *out = t;
    }
}

// Groups wait for each other: all of them are resident.
extern "C" __global__ void gridwait(unsigned *counter, const int *x, int *y) {
    y[blockIdx.x] = x[blockIdx.x] * 2;
    __threadfence();
    atomicAdd(counter, 1);
    unsigned c;
    do {
        asm volatile("ld.acquire.gpu.u32 %0, [%1];" : "=r"(c) : "l"(counter) : "memory");
    } while (c < gridDim.x);
    int s = 0;
    for (int i = 0; i < gridDim.x; i++) s += ((volatile int *)y)[i];
    __syncwarp();
    if (threadIdx.x == 0) y[gridDim.x + blockIdx.x] = s;
}

extern "C" __global__ void histogram(const unsigned char *x, unsigned *h, int n) {
    __shared__ unsigned s[256];
    for (int i = threadIdx.x; i < 256; i += blockDim.x) s[i] = 0;
    __syncthreads();
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) atomicAdd(&s[x[i]], 1);
    __syncthreads();
    for (int i = threadIdx.x; i < 256; i += blockDim.x) atomicAdd(&h[i], s[i]);
}

extern "C" __global__ void atomics(int *a, float *f, __half2 *h, unsigned long long *w) {
    int t = threadIdx.x;
    atomicMin(&a[0], t - 5); atomicMax(&a[1], t * 3); atomicXor(&a[2], t); atomicInc((unsigned *)&a[3], 20); atomicDec((unsigned *)&a[4], 20);
    atomicAdd(&f[0], 0.5f); atomicAdd(h, __floats2half2_rn(1.f, 2.f)); atomicAdd(w, 1ull << 33);
    unsigned old = __float_as_uint(f[1]), seen;
    do { seen = old; old = atomicCAS((unsigned *)&f[1], seen, __float_as_uint(fmaxf(__uint_as_float(seen), (float)t))); } while (old != seen);
}
