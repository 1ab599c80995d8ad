// SPDX-License-Identifier: Apache-2.0 OR MIT
#include <cuda_runtime.h>
#include <cuda_fp16.h>
#include <cuda_bf16.h>
#include <cuda_fp8.h>

extern "C" __global__ void functions(const float *x, float *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float v = x[i];
    float *o = y + i * 12;
    o[0] = expf(v); o[1] = erff(v); o[2] = tanhf(v); o[3] = sinf(v * 1000.f); o[4] = cosf(v * 100000.f); o[5] = powf(fabsf(v), 1.7f);
    o[6] = logf(fabsf(v)); o[7] = v / (1.f + v * v); o[8] = sqrtf(fabsf(v)); o[9] = rsqrtf(fabsf(v)); o[10] = fmodf(v, 0.3f); o[11] = cbrtf(v);
}

extern "C" __global__ void doubles(const double *x, double *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    double v = x[i], *o = y + i * 6;
    o[0] = exp(v); o[1] = sin(v * 1e4); o[2] = 1.0 / v; o[3] = sqrt(fabs(v)); o[4] = log1p(fabs(v)); o[5] = fma(v, v, 1.0);
}

extern "C" __global__ void roundings(const float *x, float *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float a = x[i], b = x[n - 1 - i], *o = y + i * 12;
    o[0] = __fadd_rz(a, b); o[1] = __fadd_ru(a, b); o[2] = __fadd_rd(a, b); o[3] = __fmul_rz(a, b); o[4] = __fmul_ru(a, b); o[5] = __fmaf_rd(a, b, a);
    o[6] = __fdiv_rz(a, b); o[7] = __fdiv_ru(a, b); o[8] = __fsqrt_rd(fabsf(a)); o[9] = rintf(a * 10.f); o[10] = floorf(a * 10.f); o[11] = (float)__float2int_ru(a * 100.f);
}

extern "C" __global__ void halves(const __half *x, const __half *y, __half *z, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    __half2 a = ((const __half2 *)x)[i], b = ((const __half2 *)y)[i];
    __half2 *o = (__half2 *)z + i * 6;
    o[0] = __hadd2(a, b); o[1] = __hmul2(a, b); o[2] = __hfma2(a, b, a); o[3] = __hmax2(a, b); o[4] = __h2div(a, b);
    o[5] = __hgt2(a, b);
}

extern "C" __global__ void brains(const float *x, __nv_bfloat16 *y, float *z, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    __nv_bfloat16 a = __float2bfloat16(x[i]), b = __float2bfloat16(x[n - 1 - i]);
    y[i] = __hfma(a, b, a);
    z[i] = __bfloat162float(__hmul(a, b)) + __bfloat162float(__hmin(a, b));
}

extern "C" __global__ void eights(const float *x, unsigned char *y, float *z, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float a = x[i] * 500.f;
    __nv_fp8_e4m3 p(a); __nv_fp8_e5m2 q(a);
    y[i * 2] = p.__x; y[i * 2 + 1] = q.__x;
    z[i * 2] = (float)p; z[i * 2 + 1] = (float)q;
}

extern "C" __global__ void integers(const unsigned *x, unsigned long long *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    unsigned a = x[i], b = x[n - 1 - i];
    unsigned long long w = (unsigned long long)a << 32 | b, v = (unsigned long long)b << 32 | a, *o = y + i * 16;
    o[0] = __popc(a); o[1] = __clz(a); o[2] = __brev(a); o[3] = __funnelshift_l(a, b, b & 31); o[4] = __byte_perm(a, b, 0x6152);
    o[5] = (unsigned)__dp4a((int)a, (int)b, 7); o[6] = __umul64hi(w, v); o[7] = w * v; o[8] = w / (v | 1); o[9] = w % (v | 1);
    o[10] = (unsigned)((int)a / (int)(b | 1)); o[11] = (unsigned)((int)a % (int)(b | 1)); o[12] = (unsigned)__usad(a, b, 3);
    unsigned __int128 p = (unsigned __int128)w * v + v; o[13] = (unsigned long long)(p >> 64);
    o[14] = (unsigned long long)((long long)w >> (b & 63)); o[15] = (a & b) | (~a & (b >> 3)) ^ (a << 5);
}
