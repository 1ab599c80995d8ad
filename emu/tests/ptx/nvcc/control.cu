// SPDX-License-Identifier: Apache-2.0 OR MIT
#include <cuda_runtime.h>
#include <stdio.h>
#include <assert.h>

__device__ __noinline__ int fib(int n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
__device__ __noinline__ int twice(int v) { return 2 * v; }
__device__ __noinline__ int square(int v) { return v * v; }
__device__ int (*table[2])(int) = {twice, square};
__constant__ int steps[4] = {1, 10, 100, 1000};
__device__ int bias = 5;

extern "C" __global__ void recursion(int *y) { y[threadIdx.x] = fib(threadIdx.x % 12); }

extern "C" __global__ void pointers(const int *x, int *y) {
    int v = x[threadIdx.x];
    y[threadIdx.x] = table[v & 1](v) + steps[v & 3] + bias;
}

// An array in local memory that is indexed by data: insertion sort of eight numbers.
extern "C" __global__ void sorts(const int *x, int *y) {
    int a[8];
    for (int i = 0; i < 8; i++) {
        int v = x[threadIdx.x * 8 + i], j = i;
        while (j > 0 && a[j - 1] > v) { a[j] = a[j - 1]; j--; }
        a[j] = v;
    }
    for (int i = 0; i < 8; i++) y[threadIdx.x * 8 + i] = a[i];
}

extern "C" __global__ void cases(const int *x, int *y) {
    int v = x[threadIdx.x], r;
    switch (v) {
    case 0: r = v + 11; break;
    case 1: r = v * 7; break;
    case 2: r = __popc(v * 12345); break;
    case 3: r = v ^ 0x55; break;
    case 4: r = -v; break;
    case 5: r = v * v * v; break;
    case 6: r = 1 << v; break;
    default: r = 99;
    }
    y[threadIdx.x] = r;
}

// Steps of Collatz: every lane goes another way.
extern "C" __global__ void collatz(const int *x, int *y) {
    long v = x[threadIdx.x];
    int n = 0;
    while (v != 1) { v = v & 1 ? 3 * v + 1 : v / 2; n++; }
    y[threadIdx.x] = n;
}

extern "C" __global__ void prints(int n) {
    if (threadIdx.x == 3) printf("%d of %s: %5.2f %x %lld\n", n, "us", 1.5, 255, -7ll);
}

extern "C" __global__ void asserts(int n) { assert(threadIdx.x < n); }

// A lock that lanes of one warp fight for: they must all make progress.
extern "C" __global__ void lock(int *mutex, int *count) {
    bool done = false;
    while (!done) {
        if (atomicCAS(mutex, 0, 1) == 0) {
            *(volatile int *)count += 1;
            __threadfence();
            atomicExch(mutex, 0);
            done = true;
        }
    }
}
