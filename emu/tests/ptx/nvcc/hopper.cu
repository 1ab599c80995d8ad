// SPDX-License-Identifier: Apache-2.0 OR MIT
#include <cuda_runtime.h>
#include <cuda_bf16.h>

struct __align__(64) Map { char bytes[128]; };

__device__ __forceinline__ unsigned smem(const void *p) { return (unsigned)__cvta_generic_to_shared(p); }

__device__ __forceinline__ void wait(unsigned bar, unsigned parity) {
    asm volatile("{\n .reg .pred P1;\n LAB_WAIT:\n mbarrier.try_wait.parity.shared::cta.b64 P1, [%0], %1;\n @P1 bra DONE;\n bra LAB_WAIT;\n DONE:\n }" ::"r"(bar), "r"(parity) : "memory");
}

__device__ __forceinline__ unsigned long long desc(unsigned a) {
    return (unsigned long long)((a & 0x3ffff) >> 4) | 1ull << 16 | (unsigned long long)(1024 >> 4) << 32 | 1ull << 62;
}

// C[m,n] (f32) = A[m,k] B[n,k]^T (bf16), 64 by 64 by 64 a group: one warp loads boxes of tensors into a ring of two stages, swizzled by
// 128 bytes, four warps multiply with wgmma.
extern "C" __global__ void __launch_bounds__(160) tma(const __grid_constant__ Map ma, const __grid_constant__ Map mb, float *c, int n, int k) {
    extern __shared__ __align__(1024) char raw[];
    __nv_bfloat16 *sa = (__nv_bfloat16 *)raw, *sb = sa + 2 * 64 * 64;
    __shared__ __align__(8) unsigned long long full[2], empty[2];
    int t = threadIdx.x, tiles = k / 64;
    if (t == 0) {
        for (int s = 0; s < 2; s++) {
            asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(smem(&full[s])), "r"(1));
            asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(smem(&empty[s])), "r"(128));
        }
        asm volatile("fence.mbarrier_init.release.cluster;");
    }
    __syncthreads();
    if (t >= 128) {
        if (t == 128)
            for (int i = 0; i < tiles; i++) {
                int s = i % 2;
                if (i >= 2) wait(smem(&empty[s]), (i / 2 - 1) & 1);
                asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(smem(&full[s])), "r"(2 * 64 * 64 * 2) : "memory");
                asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(smem(sa + s * 4096)), "l"(&ma), "r"(i * 64), "r"(blockIdx.y * 64), "r"(smem(&full[s])) : "memory");
                asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(smem(sb + s * 4096)), "l"(&mb), "r"(i * 64), "r"(blockIdx.x * 64), "r"(smem(&full[s])) : "memory");
            }
        return;
    }
    float d[32];
    for (int i = 0; i < 32; i++) d[i] = 0.f;
    for (int i = 0; i < tiles; i++) {
        int s = i % 2;
        wait(smem(&full[s]), i / 2 & 1);
        asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
        for (int kk = 0; kk < 4; kk++) {
            unsigned long long da = desc(smem(sa + s * 4096) + kk * 32), db = desc(smem(sb + s * 4096) + kk * 32);
            asm volatile("{\n .reg .pred p;\n setp.ne.b32 p, %34, 0;\n"
                "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}, %32, %33, p, 1, 1, 0, 0;\n}"
                : "+f"(d[0]),"+f"(d[1]),"+f"(d[2]),"+f"(d[3]),"+f"(d[4]),"+f"(d[5]),"+f"(d[6]),"+f"(d[7]),"+f"(d[8]),"+f"(d[9]),"+f"(d[10]),"+f"(d[11]),"+f"(d[12]),"+f"(d[13]),"+f"(d[14]),"+f"(d[15]),
                  "+f"(d[16]),"+f"(d[17]),"+f"(d[18]),"+f"(d[19]),"+f"(d[20]),"+f"(d[21]),"+f"(d[22]),"+f"(d[23]),"+f"(d[24]),"+f"(d[25]),"+f"(d[26]),"+f"(d[27]),"+f"(d[28]),"+f"(d[29]),"+f"(d[30]),"+f"(d[31])
                : "l"(da), "l"(db), "r"(1));
        }
        asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
        asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
        asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(smem(&empty[s])) : "memory");
    }
    int row = blockIdx.y * 64 + t / 32 * 16 + t % 32 / 4, col = blockIdx.x * 64 + t % 4 * 2;
    for (int j = 0; j < 8; j++)
        for (int h = 0; h < 2; h++)
            for (int e = 0; e < 2; e++) c[(long)(row + h * 8) * n + col + j * 8 + e] = d[j * 4 + h * 2 + e];
}

// Each group of a cluster adds its numbers, and the first one reads all sums from the others' shared memory.
extern "C" __global__ void __cluster_dims__(4, 1, 1) cluster(const int *x, int *y) {
    __shared__ int s;
    unsigned rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    int v = x[blockIdx.x * 32 + threadIdx.x];
    for (int d = 16; d; d /= 2) v += __shfl_xor_sync(~0u, v, d);
    if (threadIdx.x == 0) s = v;
    asm volatile("barrier.cluster.arrive.release.aligned;\n barrier.cluster.wait.acquire.aligned;" ::: "memory");
    if (rank == 0 && threadIdx.x < 4) {
        unsigned a;
        int w;
        asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(a) : "r"(smem(&s)), "r"(threadIdx.x));
        asm volatile("ld.shared::cluster.s32 %0, [%1];" : "=r"(w) : "r"(a) : "memory");
        y[blockIdx.x + threadIdx.x] = w;
    }
    asm volatile("barrier.cluster.arrive.release.aligned;\n barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// Bytes in bulk: in, doubled, out; a box of a tensor is added in device memory.
extern "C" __global__ void bulk(const int *x, int *y, const __grid_constant__ Map sum) {
    __shared__ __align__(128) int s[256];
    __shared__ __align__(8) unsigned long long bar;
    if (threadIdx.x == 0) asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(smem(&bar)));
    __syncthreads();
    if (threadIdx.x == 0) {
        asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], 1024;" ::"r"(smem(&bar)) : "memory");
        asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], 1024, [%2];" ::"r"(smem(s)), "l"(x + blockIdx.x * 256), "r"(smem(&bar)) : "memory");
    }
    wait(smem(&bar), 0);
    for (int i = threadIdx.x; i < 256; i += blockDim.x) s[i] *= 2;
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();
    if (threadIdx.x == 0) {
        asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], 1024;" ::"l"(y + blockIdx.x * 256), "r"(smem(s)) : "memory");
        asm volatile("cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.bulk_group [%0, {%1, %2}], [%3];" ::"l"(&sum), "r"(0), "r"(0), "r"(smem(s)) : "memory");
        asm volatile("cp.async.bulk.commit_group;");
        asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
    }
}

// stmatrix puts the fragment of a product where plain stores would.
extern "C" __global__ void stores(const unsigned *x, unsigned *y) {
    __shared__ __align__(16) unsigned s[128];
    int l = threadIdx.x;
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(smem(&s[l * 4])), "r"(x[l]), "r"(x[32 + l]), "r"(x[64 + l]), "r"(x[96 + l]) : "memory");
    __syncwarp();
    for (int i = 0; i < 4; i++) y[i * 32 + l] = s[i * 32 + l];
}
