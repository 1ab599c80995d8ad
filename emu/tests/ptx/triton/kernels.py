# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Compiles our kernels with Triton and writes their PTX: python kernels.py OUT."""
import re
import sys
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource


@triton.jit
def matmul(a, b, c, m, n, k, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    i = tl.program_id(0) * BM + tl.arange(0, BM)
    j = tl.program_id(1) * BN + tl.arange(0, BN)
    q = tl.arange(0, BK)
    pa = a + i[:, None] * k + q[None, :]
    pb = b + q[:, None] * n + j[None, :]
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for _ in range(0, k, BK):
        acc += tl.dot(tl.load(pa), tl.load(pb))
        pa += BK
        pb += BK * n
    tl.store(c + i[:, None] * n + j[None, :], acc)


@triton.jit
def softmax(x, y, n, B: tl.constexpr):
    r = tl.program_id(0)
    i = tl.arange(0, B)
    v = tl.load(x + r * n + i, mask=i < n, other=-float("inf"))
    e = tl.exp(v - tl.max(v, 0))
    tl.store(y + r * n + i, e / tl.sum(e, 0), mask=i < n)


@triton.jit
def layernorm(x, y, w, n, eps, B: tl.constexpr):
    r = tl.program_id(0)
    i = tl.arange(0, B)
    v = tl.load(x + r * n + i, mask=i < n, other=0.0)
    mean = tl.sum(v, 0) / n
    d = tl.where(i < n, v - mean, 0.0)
    s = tl.rsqrt(tl.sum(d * d, 0) / n + eps)
    tl.store(y + r * n + i, d * s * tl.load(w + i, mask=i < n, other=0.0), mask=i < n)


@triton.jit
def attention(q, k, v, o, n, scale, B: tl.constexpr, D: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    d = tl.arange(0, D)
    x = tl.load(q + i[:, None] * D + d[None, :])
    m = tl.full((B,), -float("inf"), tl.float32)
    l = tl.zeros((B,), tl.float32)
    acc = tl.zeros((B, D), tl.float32)
    for s in range(0, n, B):
        j = s + tl.arange(0, B)
        y = tl.load(k + j[:, None] * D + d[None, :])
        p = tl.dot(x, tl.trans(y)) * scale
        top = tl.maximum(m, tl.max(p, 1))
        e = tl.exp(p - top[:, None])
        f = tl.exp(m - top)
        z = tl.load(v + j[:, None] * D + d[None, :])
        acc = acc * f[:, None] + tl.dot(e.to(tl.float16), z)
        l = l * f + tl.sum(e, 1)
        m = top
    tl.store(o + i[:, None] * D + d[None, :], acc / l[:, None])


@triton.jit
def cumsum(x, y, B: tl.constexpr):
    i = tl.arange(0, B)
    r = tl.program_id(0)
    tl.store(y + r * B + i, tl.cumsum(tl.load(x + r * B + i), 0))


@triton.jit
def sort(x, y, B: tl.constexpr):
    i = tl.arange(0, B)
    tl.store(y + i, tl.sort(tl.load(x + i)))


@triton.jit
def transpose(x, y, m, n, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    j = tl.program_id(1) * B + tl.arange(0, B)
    v = tl.load(x + i[:, None] * n + j[None, :])
    tl.store(y + j[:, None] * m + i[None, :], tl.trans(v))


@triton.jit
def histogram(x, h, n, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    tl.atomic_add(h + tl.load(x + i, mask=i < n, other=0), 1, mask=i < n)


def build(fn, name, arch, types, consts, warps=4, stages=3):
    names = fn.arg_names
    sig = {a: t for a, t in zip(names, types)} | {c: "constexpr" for c in consts}
    attrs = {(i,): [["tt.divisibility", 16]] for i, t in enumerate(types) if t[0] == "*" or (t == "i32" and fn is matmul)}
    src = ASTSource(fn=fn, signature=sig, constexprs=consts, attrs=attrs)
    out = triton.compile(src, target=GPUTarget("cuda", arch, 32), options={"num_warps": warps, "num_stages": stages})
    ptx = out.asm["ptx"]
    cut = ptx.find("\t.section\t.debug")
    ptx = ptx if cut < 0 else ptx[:cut]
    lines = [l for l in ptx.splitlines() if not re.match(r"\s*(\.loc|\.file|//|\$L__(tmp|func|info|pubN)|\.b\d+ )", l) and l.strip()]
    head = f"// {name}: shared memory {out.metadata.shared} bytes, {warps * 32} threads, Triton {triton.__version__}"
    open(f"{sys.argv[1]}/{name}.ptx", "w").write("\n".join([head] + lines) + "\n")
    print(head)


if __name__ == "__main__":
    mm = ["*fp16", "*fp16", "*fp32", "i32", "i32", "i32"]
    bm = ["*bf16", "*bf16", "*fp32", "i32", "i32", "i32"]
    em = ["*fp8e4nv", "*fp8e4nv", "*fp32", "i32", "i32", "i32"]
    im = ["*fp32", "*fp32", "*fp32", "i32", "i32", "i32"]
    tile = {"BM": 64, "BN": 64, "BK": 32}
    build(matmul, "matmul_sm80", 80, mm, tile)
    build(matmul, "matmul_sm90", 90, mm, {"BM": 64, "BN": 64, "BK": 64})
    build(matmul, "matmul_bf16_sm80", 80, bm, tile)
    build(matmul, "matmul_tf32_sm80", 80, im, tile)
    build(matmul, "matmul_fp8_sm90", 90, em, {"BM": 64, "BN": 64, "BK": 64})
    build(softmax, "softmax_sm80", 80, ["*fp32", "*fp32", "i32"], {"B": 1024})
    build(softmax, "softmax_sm90", 90, ["*fp16", "*fp32", "i32"], {"B": 2048}, 8)
    build(layernorm, "layernorm_sm80", 80, ["*fp32", "*fp32", "*fp32", "i32", "fp32"], {"B": 512})
    build(attention, "attention_sm80", 80, ["*fp16", "*fp16", "*fp16", "*fp32", "i32", "fp32"], {"B": 64, "D": 64}, 4, 2)
    build(attention, "attention_sm90", 90, ["*fp16", "*fp16", "*fp16", "*fp32", "i32", "fp32"], {"B": 64, "D": 64}, 4, 2)
    build(cumsum, "cumsum_sm80", 80, ["*i32", "*i32"], {"B": 512})
    build(sort, "sort_sm80", 80, ["*i32", "*i32"], {"B": 256})
    build(transpose, "transpose_sm80", 80, ["*fp32", "*fp32", "i32", "i32"], {"B": 32})
    build(histogram, "histogram_sm90", 90, ["*i32", "*i32", "i32"], {"B": 256})
