# SPDX-License-Identifier: Apache-2.0 OR MIT
"""MatMulNBits, GatherBlockQuantized, MoE and QMoE: `python3 weights.py`. Results of ONNX Runtime's CPU provider, but for those that say
otherwise."""
import ml_dtypes
import numpy as np
from onnx import TensorProto, helper as h

from write import case

rng = np.random.default_rng(3)


def f(*s):
    return rng.standard_normal(s).astype(np.float32)


def positive(*s):
    return (rng.random(s) * 0.1 + 0.02).astype(np.float32)


def u(*s):
    return rng.integers(0, 256, s).astype(np.uint8)


def nbits(name, bits, block, k, n=3, zero=None, bias=False, order=None, x=None, results=None, **attrs):
    blocks = (k + block - 1) // block
    x = f(2, k) if x is None else x
    ins = [x, u(n, blocks, block * bits // 8), positive(n * blocks).astype(x.dtype)]
    z = {None: None, "packed": u(n * ((blocks * bits + 7) // 8)), "float": (rng.random(n * blocks) * 2**bits).astype(x.dtype)}[zero]
    ins += [z, order, f(n).astype(x.dtype) if bias else None]
    out = 10 if x.dtype == np.float16 else 1
    if results:
        w = unpack(ins[1], bits).astype(np.float32).reshape(n, -1)[:, :k]
        s, z = (np.reshape(v, (n, blocks)).repeat(block, 1)[:, :k] for v in ins[2:4])
        results = [x @ ((w - z) * s).T]
    case(name, "MatMulNBits", ins, [out], range(1, 6), K=k, N=n, bits=bits, block_size=block, results=results, **attrs)


def unpack(x, bits):
    parts = [(x >> (bits * i)) & (2**bits - 1) for i in range(8 // bits)]
    return np.stack(parts, -1).reshape(*x.shape[:-1], -1)


nbits("nbits2", 2, 16, 40)
nbits("nbits2_zero", 2, 32, 72, zero="packed")
nbits("nbits2_float_zero", 2, 16, 48, zero="float")
nbits("nbits4_64", 4, 64, 128, zero="packed", bias=True)
nbits("nbits4_float_zero", 4, 32, 64, zero="float")
nbits("nbits4_half", 4, 32, 64, zero="packed", x=f(2, 64).astype(np.float16))
nbits("nbits8", 8, 16, 40, bias=True)
nbits("nbits8_128", 8, 128, 128, zero="packed")
# The formula of the documentation: the CPU provider has no zero points of floats for 8 bits.
nbits("nbits8_float_zero", 8, 32, 64, zero="float", accuracy_level=1, results=True)
nbits("nbits4_order", 4, 16, 64, zero="float", order=rng.permutation(np.arange(64) // 16).astype(np.int32))
nbits("nbits4_in_order", 4, 16, 48, order=(np.arange(48) // 16).astype(np.int32))


def packed(kind, dims):
    """Random numbers of a dtype of 4 or 2 bits."""
    count = int(np.prod(dims))
    return TensorProto(dims=dims, data_type=kind, raw_data=u((count * (2 if kind in (TensorProto.UINT2, TensorProto.INT2) else 4) + 7) // 8).tobytes())


def rows(name, data, ids, scales, zero=None, results=None, **attrs):
    return case(name, "GatherBlockQuantized", [data, ids, scales, zero], [1], (0, 2, 3), version=23, results=results, **attrs)


ids = np.array([[3, -1, 0], [1, 1, -4]], np.int64)
rows("rows_u4", packed(TensorProto.UINT4, [4, 40]), ids, positive(4, 3), packed(TensorProto.UINT4, [4, 3]), block_size=16)
rows("rows_i4", packed(TensorProto.INT4, [4, 32]), ids.astype(np.int32), positive(4, 2), block_size=16)
rows("rows_i4_across", packed(TensorProto.INT4, [3, 4, 16]), ids, positive(1, 4, 16), gather_axis=1, quantize_axis=0, block_size=32)
rows("rows_i4_columns", packed(TensorProto.INT4, [3, 33]), np.array([32, 0, -2, 16], np.int64), positive(3, 3), gather_axis=1, quantize_axis=1, block_size=16)
rows("rows_bytes4", u(4, 16), ids, positive(4, 2), u(4, 1), bits=4, block_size=16)
rows("rows_bytes4_middle", u(4, 16), ids, positive(4, 2), bits=4, block_size=16)
rows("rows_bytes8", u(4, 32), ids, positive(4, 2), u(4, 2), bits=8, block_size=16)


# Of the formula of the documentation: 2 bits, indices outside of the table, floats of 8 bits with one scale a row and one for all.
x, s, z = u(4, 8), positive(4, 2), u(4, 1)
y = (unpack(x, 2).astype(np.float32) - unpack(z, 2)[:, :2].repeat(16, 1)) * s.repeat(16, 1)
far = np.array([0, 4, 3, -5], np.int64)
rows("rows_bytes2", x, far, s, z, results=[(y[[0, 0, 3, 0]] * [[1], [0], [1], [0]]).astype(np.float32)], bits=2, block_size=16)
x = f(4, 24).astype(ml_dtypes.float8_e4m3fn)
pb = TensorProto(dims=[4, 24], data_type=TensorProto.FLOAT8E4M3FN, raw_data=x.tobytes())
s = positive(4, 1)
rows("rows_f8", pb, ids, s, results=[(x.astype(np.float32) * s)[ids]], block_size=0)
s = positive(1, 1)
rows("rows_f8_one", pb, ids, s, results=[(x.astype(np.float32) * s)[ids]], block_size=0)

T, W, F, E = 3, 16, 32, 4


def moe(name, k=2, dims=(T, W), fused=False, bias=True, third=False, results=None, **attrs):
    n = 2 * F if fused else F
    b = lambda *s: f(*s) if bias else None
    ins = [f(*dims), f(int(np.prod(dims[:-1])), E), f(E, n, W) * 0.3, b(E, n), f(E, W, F) * 0.3, b(E, W)]
    ins += [f(E, F, W) * 0.3, b(E, F)] if third else []
    ins = [None if i is None else i.astype(np.float32) for i in ins]
    if results:
        results = [results(*ins, k=k, **attrs)]
    case(name, "MoE", ins, [1], range(2, 8), results=results, k=k, **attrs)


moe("moe_relu", k=1, bias=False)
moe("moe_gelu", normalize_routing_weights=1, activation_type="gelu")
moe("moe_silu", dims=(1, 3, W), activation_type="silu")
moe("moe_identity", k=3, activation_type="identity", normalize_routing_weights=1)
moe("moe_swiglu", fused=True, activation_type="swiglu", swiglu_fusion=1, activation_alpha=1.7, activation_beta=1.0, swiglu_limit=1.5)


def gated(x, router, w1, b1, w2, b2, w3, b3, k, **attrs):
    """The formula of the documentation with a third layer, which the CPU provider does not have."""
    p = np.exp(router - router.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    y = np.zeros_like(x)
    for t in range(len(x)):
        for e in np.argsort(-p[t])[:k]:
            g, l = w1[e] @ x[t] + b1[e], w3[e] @ x[t] + b3[e]
            y[t] += p[t, e] * (w2[e] @ (g / (1 + np.exp(-g)) * l) + b2[e])
    return y.astype(np.float32)


moe("moe_three_silu", third=True, results=gated, activation_type="silu")
moe("moe_three_swiglu", third=True, results=gated, activation_type="swiglu", swiglu_fusion=0)


def qmoe(name, bits=4, block=0, zero=False, k=2, weights=False, **attrs):
    def layer(n, width):
        s = positive(E, n, width // block) if block else positive(E, n)
        z = None
        if zero:
            z = u(E, n, (width // block * bits + 7) // 8) if block else u(E, (n * bits + 7) // 8)
        return u(E, n, width * bits // 8), s * np.float32(0.1), f(E, n), z

    (w1, s1, b1, z1), (w2, s2, b2, z2) = layer(2 * F, W), layer(W, F)
    ins = [f(T, W), f(T, E), w1, s1, b1, w2, s2, b2, None, None, None, z1, z2, None]
    ins += [np.abs(f(T, E))] if weights else []
    # The CPU provider normalizes the shares, whatever the attribute says.
    attrs = dict(k=k, expert_weight_bits=bits, activation_type="swiglu", swiglu_fusion=1, normalize_routing_weights=1, **attrs)
    case(name, "QMoE", ins, [1], range(2, 14), **attrs, **({"block_size": block} if block else {}))


qmoe("qmoe4")
qmoe("qmoe4_zero", zero=True)
qmoe("qmoe4_blocks", block=16)
qmoe("qmoe4_blocks_zero", block=16, zero=True)
qmoe("qmoe8", bits=8)
qmoe("qmoe8_zero", bits=8, zero=True)
qmoe("qmoe_weights", weights=True)

for kind, block, (n, k) in (("fp4", 16, (3, 32)), ("nf4", 32, (5, 17))):
    case(f"bnb4_{kind}", "MatMulBnb4", [f(2, k), u((n * k + 1) // 2), positive((n * k + block - 1) // block)], [1], (1, 2), K=k, N=n, block_size=block, quant_type=int(kind == "nf4"))
