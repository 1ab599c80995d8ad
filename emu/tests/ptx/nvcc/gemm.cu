// SPDX-License-Identifier: Apache-2.0 OR MIT
#include <cuda_runtime.h>
#include <cuda_fp16.h>
#include <cuda_bf16.h>
#include <mma.h>

__device__ __forceinline__ unsigned smem(const void *p) { return (unsigned)__cvta_generic_to_shared(p); }

// C[m,n] = A[m,k] B[k,n] in f32, tiles of 16 by 16.
extern "C" __global__ void tiled(const float *a, const float *b, float *c, int n) {
    __shared__ float x[16][16], y[16][17];
    int r = blockIdx.y * 16 + threadIdx.y, q = blockIdx.x * 16 + threadIdx.x;
    float s = 0.f;
    for (int k = 0; k < n; k += 16) {
        x[threadIdx.y][threadIdx.x] = a[r * n + k + threadIdx.x];
        y[threadIdx.y][threadIdx.x] = b[(k + threadIdx.y) * n + q];
        __syncthreads();
        for (int i = 0; i < 16; i++) s += x[threadIdx.y][i] * y[i][threadIdx.x];
        __syncthreads();
    }
    c[r * n + q] = s;
}

// C[m,n] (f32) = A[m,k] B[n,k]^T (f16), 64 by 64 by 32 a group of four warps; a ring of three stages with cp.async, shared memory
// swizzled by XOR, ldmatrix and mma.sync.
extern "C" __global__ void __launch_bounds__(128) pipelined(const __half *a, const __half *b, float *c, int n, int k) {
    __shared__ __align__(128) __half sa[3][64 * 32], sb[3][64 * 32];
    int t = threadIdx.x, lane = t % 32, warp = t / 32, m0 = blockIdx.y * 64, n0 = blockIdx.x * 64;
    auto place = [](int row, int chunk) { return row * 32 + ((chunk ^ (row >> 1 & 3)) * 8); };
    auto stage = [&](int s, int k0) {
        for (int i = t; i < 256; i += 128) {
            int row = i / 4, ch = i % 4;
            asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(smem(&sa[s][place(row, ch)])), "l"(a + (long)(m0 + row) * k + k0 + ch * 8));
            asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(smem(&sb[s][place(row, ch)])), "l"(b + (long)(n0 + row) * k + k0 + ch * 8));
        }
    };
    float acc[2][4][4] = {};
    int tiles = k / 32, wm = warp / 2 * 32, wn = warp % 2 * 32;
    for (int s = 0; s < 2; s++) {
        if (s < tiles) stage(s, s * 32);
        asm volatile("cp.async.commit_group;");
    }
    for (int i = 0; i < tiles; i++) {
        asm volatile("cp.async.wait_group 1;" ::: "memory");
        __syncthreads();
        if (i + 2 < tiles) stage((i + 2) % 3, (i + 2) * 32);
        asm volatile("cp.async.commit_group;");
        int s = i % 3;
        for (int kk = 0; kk < 2; kk++) {
            unsigned fa[2][4], fb[2][4];
            for (int j = 0; j < 2; j++) {
                int row = wm + j * 16 + lane % 16, ch = kk * 2 + lane / 16;
                asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(fa[j][0]), "=r"(fa[j][1]), "=r"(fa[j][2]), "=r"(fa[j][3]) : "r"(smem(&sa[s][place(row, ch)])));
                row = wn + j * 16 + lane % 16;
                asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(fb[j][0]), "=r"(fb[j][1]), "=r"(fb[j][2]), "=r"(fb[j][3]) : "r"(smem(&sb[s][place(row, ch)])));
            }
            for (int x = 0; x < 2; x++)
                for (int y = 0; y < 4; y++)
                    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                                 : "+f"(acc[x][y][0]), "+f"(acc[x][y][1]), "+f"(acc[x][y][2]), "+f"(acc[x][y][3])
                                 : "r"(fa[x][0]), "r"(fa[x][1]), "r"(fa[x][2]), "r"(fa[x][3]), "r"(fb[y / 2][y % 2]), "r"(fb[y / 2][y % 2 + 2]));
        }
    }
    for (int x = 0; x < 2; x++)
        for (int y = 0; y < 4; y++) {
            int row = m0 + wm + x * 16 + lane / 4, col = n0 + wn + y * 8 + lane % 4 * 2;
            *(float2 *)&c[(long)row * n + col] = make_float2(acc[x][y][0], acc[x][y][1]);
            *(float2 *)&c[(long)(row + 8) * n + col] = make_float2(acc[x][y][2], acc[x][y][3]);
        }
}

// One tile each through the matrix API of CUDA, whose loads are wmma.load or plain ones.
extern "C" __global__ void doubles(const double *a, const double *b, double *c) {
    int l = threadIdx.x;
    double d0 = 0, d1 = 0;
    for (int k = 0; k < 16; k += 4)
        asm("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0,%1}, {%2}, {%3}, {%0,%1};" : "+d"(d0), "+d"(d1) : "d"(a[l / 4 * 16 + k + l % 4]), "d"(b[(k + l % 4) * 8 + l / 4]));
    c[l / 4 * 8 + l % 4 * 2] = d0;
    c[l / 4 * 8 + l % 4 * 2 + 1] = d1;
}

extern "C" __global__ void bytes(const int *a, const int *b, int *c) {
    int l = threadIdx.x, g = l / 4, q = l % 4, d[4] = {1, 2, 3, 4};
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.u8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
        : "r"(a[g * 8 + q]), "r"(a[(g + 8) * 8 + q]), "r"(a[g * 8 + q + 4]), "r"(a[(g + 8) * 8 + q + 4]), "r"(b[g * 8 + q]), "r"(b[g * 8 + q + 4]));
    for (int i = 0; i < 4; i++) c[(g + i / 2 * 8) * 8 + 2 * q + i % 2] = d[i];
}

extern "C" __global__ void brains(const unsigned *a, const unsigned *b, float *c) {
    int l = threadIdx.x, g = l / 4, q = l % 4;
    float d[4] = {};
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[g * 8 + q]), "r"(a[(g + 8) * 8 + q]), "r"(a[g * 8 + q + 4]), "r"(a[(g + 8) * 8 + q + 4]), "r"(b[g * 8 + q]), "r"(b[g * 8 + q + 4]));
    for (int i = 0; i < 4; i++) c[(g + i / 2 * 8) * 8 + 2 * q + i % 2] = d[i];
}

extern "C" __global__ void tf32(const float *a, const float *b, float *c) {
    int l = threadIdx.x, g = l / 4, q = l % 4;
    float d[4] = {};
    auto cut = [](float v) { unsigned o; asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(o) : "f"(v)); return o; };
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(cut(a[g * 8 + q])), "r"(cut(a[(g + 8) * 8 + q])), "r"(cut(a[g * 8 + q + 4])), "r"(cut(a[(g + 8) * 8 + q + 4])), "r"(cut(b[g * 8 + q])), "r"(cut(b[g * 8 + q + 4])));
    for (int i = 0; i < 4; i++) c[(g + i / 2 * 8) * 8 + 2 * q + i % 2] = d[i];
}

extern "C" __global__ void eights(const unsigned *a, const unsigned *b, float *c) {
    int l = threadIdx.x, g = l / 4, q = l % 4;
    float d[4] = {};
    asm("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e5m2.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[g * 8 + q]), "r"(a[(g + 8) * 8 + q]), "r"(a[g * 8 + q + 4]), "r"(a[(g + 8) * 8 + q + 4]), "r"(b[g * 8 + q]), "r"(b[g * 8 + q + 4]));
    for (int i = 0; i < 4; i++) c[(g + i / 2 * 8) * 8 + 2 * q + i % 2] = d[i];
}

// A tile through shared memory, transposed on the way.
extern "C" __global__ void transposed(const __half *x, __half *y) {
    __shared__ __align__(16) __half s[8 * 8 * 4];
    int l = threadIdx.x;
    *(uint4 *)&s[l * 8] = *(const uint4 *)&x[l * 8];
    __syncwarp();
    unsigned r[4];
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(smem(&s[l * 8])));
    for (int i = 0; i < 4; i++) ((unsigned *)y)[i * 32 + l] = r[i];
}
