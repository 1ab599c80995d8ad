# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Fused, quantized and other operators: `python3 others.py`. Results of ONNX Runtime's CPU provider, or of the formula of the documentation
where `results` are given: those that it does not have."""
import numpy as np
from scipy.special import erf

from write import case

rng = np.random.default_rng(4)


def f(*s):
    return rng.standard_normal(s).astype(np.float32)


def u(*s):
    return rng.integers(0, 256, s).astype(np.uint8)


def i8(*s):
    return rng.integers(-128, 128, s).astype(np.int8)


def F(v):
    return np.array(v, np.float32)


FLOAT, U8, I8, I32, I64, BOOL = 1, 2, 3, 6, 7, 9

# ---- products and convolutions ----
a, b = f(4, 2, 3, 5), f(2, 3, 5, 6)
case("fusedmm_batch_a", "FusedMatMul", [a, b], [FLOAT], transBatchA=1, alpha=0.5)
case("fusedmm_batch_both", "FusedMatMul", [f(5, 2, 3, 4), f(6, 2, 3, 5)], [FLOAT], transBatchA=1, transA=1, transBatchB=1, transB=1)
case("fusedmm_vector", "FusedMatMul", [f(5), f(2, 6, 5)], [FLOAT], transA=1, transB=1)
case("transposemm", "TransposeMatMul", [f(2, 5, 3), f(2, 5, 4)], [FLOAT], transA=1)
x, w = f(3, 5), f(5, 4)
case("fusedmm_softmax", "FusedMatMulActivation", [x, w], [FLOAT], results=[np.exp(x @ w) / np.exp(x @ w).sum(-1, keepdims=True)], activation="Softmax")
case("fusedmm_leaky", "FusedMatMulActivation", [x, w], [FLOAT], results=[np.where(x @ w < 0, 0.2 * (x @ w), x @ w).astype(np.float32)], activation="LeakyRelu", activation_alpha=0.2)
for name, more in (("Relu", {}), ("LeakyRelu", dict(activation_alpha=0.3)), ("Elu", dict(activation_alpha=0.7)), ("HardSigmoid", dict(activation_alpha=0.3, activation_beta=0.4)), ("Softplus", {}), ("ThresholdedRelu", dict(activation_alpha=0.5))):
    case(f"fusedgemm_{name.lower()}", "FusedGemm", [f(3, 5), f(4, 5), f(4)], [FLOAT], (1, 2), activation=name, transB=1, alpha=0.5, beta=2.0, **more)
image, filters = f(1, 4, 5, 5), f(4, 2, 3, 3)
case("fused_conv_sum", "FusedConv", [image, filters, f(4), f(1, 4, 5, 5)], [FLOAT], (1, 2), activation="LeakyRelu", activation_params=[0.1], pads=[1] * 4, group=2)
case("fused_conv_clip", "FusedConv", [image, filters], [FLOAT], (1,), activation="Clip", activation_params=[-0.5, 1.0], group=2)
case("fused_conv_hard", "FusedConv", [image, filters], [FLOAT], (1,), activation="HardSigmoid", activation_params=[0.3, 0.4], group=2, strides=[2, 2])
y = np.zeros((1, 3, 3, 4), np.float32)
for o in range(4):
    for r in range(3):
        for c in range(3):
            g = o // 2 * 2
            y[0, r, c, o] = (image[0, g : g + 2, r : r + 3, c : c + 3] * filters[o]).sum() + o
nhwc = np.ascontiguousarray(image.transpose(0, 2, 3, 1))
case("nhwc_conv", "NhwcConv", [nhwc, filters, F([0, 1, 2, 3])], [FLOAT], (1, 2), results=[y], group=2, kernel_shape=[3, 3])
case("nhwc_conv_last", "NhwcConv", [nhwc, np.ascontiguousarray(filters.transpose(0, 2, 3, 1)), F([0, 1, 2, 3])], [FLOAT], (1, 2), results=[y], group=2, kernel_shape=[3, 3])

x, w, b = f(2, 3, 8), f(8, 5), f(5)


def fast(v):
    return (0.5 * v * (1 + np.tanh(np.sqrt(2 / np.pi) * (v + 0.044715 * v**3)))).astype(np.float32)


case("gemm_fast_gelu", "GemmFastGelu", [x, w, b], [FLOAT], (1, 2), results=[fast(x @ w + b)])
s, b = f(2, 3, 8), f(8)
case("bias_add", "BiasAdd", [x, b, s], [FLOAT], (1,), results=[x + b + s])
left, right = np.split(x + b, 2, -1)
case("bias_split_gelu", "BiasSplitGelu", [x, b], [FLOAT], (1,), results=[(left * 0.5 * right * (1 + erf(right / np.sqrt(2)))).astype(np.float32)])
x, b = f(2, 3, 4, 5), f(2, 1, 1, 5)
e = np.exp(x + b)
case("bias_softmax", "BiasSoftmax", [x, b], [FLOAT], results=[e / e.sum(-1, keepdims=True)], axis=3, is_inner_broadcast=1)
case("bias_softmax_dims", "BiasSoftmax", [x, b], [FLOAT], results=[e / e.sum((2, 3), keepdims=True)], axis=2, is_inner_broadcast=1)


def group_norm(x, gamma, beta, groups, silu, eps=1e-5):
    """Of `[N,H,W,C]`."""
    n, h, w, c = x.shape
    g = x.reshape(n, h * w, groups, c // groups).astype(np.float64)
    m, v = g.mean((1, 3), keepdims=True), g.var((1, 3), keepdims=True)
    y = ((g - m) / np.sqrt(v + eps)).reshape(x.shape) * gamma + beta
    return (y / (1 + np.exp(-y)) if silu else y).astype(np.float32)


x, gamma, beta = f(2, 3, 2, 8), f(8), f(8)
case("group_norm", "GroupNorm", [x, gamma, beta], [FLOAT], (1, 2), results=[group_norm(x, gamma, beta, 4, True)], groups=4, activation=1)
first = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
case("group_norm_first", "GroupNorm", [first, gamma, beta], [FLOAT], (1, 2), results=[group_norm(x, gamma, beta, 2, False, 1e-3).transpose(0, 3, 1, 2)], groups=2, activation=0, channels_last=0, epsilon=1e-3)
skip, bias = f(2, 8), f(8)
s = x + skip[:, None, None] + bias
case("skip_group_norm", "SkipGroupNorm", [x, gamma, beta, skip, bias], [FLOAT, FLOAT], (1, 2, 4), results=[group_norm(s, gamma, beta, 4, True), s], groups=4, activation=1)
skip = f(2, 3, 2, 8)
case("skip_group_norm_same", "SkipGroupNorm", [x, gamma, beta, skip], [FLOAT], (1, 2), results=[group_norm(x + skip, gamma, beta, 2, False)], groups=2, activation=0)

# ---- quantized ----
case("qlinear_where", "QLinearWhere", [rng.random((2, 3)) > 0.5, u(2, 3), F(0.1), np.uint8(3), u(3), F(0.05), np.uint8(120), F(0.08), np.uint8(100)], [U8], (2, 3, 5, 6, 7, 8))
case("qlinear_add_signed", "QLinearAdd", [i8(2, 3, 4), F(0.1), np.int8(2), i8(4), F(0.2), np.int8(-10), F(0.3), np.int8(5)], [I8], (1, 2, 4, 5, 6, 7))
case("qlinear_add_bare", "QLinearAdd", [u(2, 3), F(0.1), np.uint8(3), u(2, 3), F(0.2), np.uint8(9), F(0.3)], [U8], (1, 2, 4, 5, 6))
case("qlinear_softmax_dims", "QLinearSoftmax", [u(2, 3, 4), F(0.05), np.uint8(12), F(1 / 256), np.uint8(0)], [U8], (1, 2, 3, 4), axis=1, opset=12)
case("qlinear_softmax_axis", "QLinearSoftmax", [i8(2, 3, 4), F(0.05), np.int8(12), F(1 / 256), np.int8(-128)], [I8], (1, 2, 3, 4), axis=1, opset=13)
pool = dict(kernel_shape=[2, 2], strides=[2, 2])
scales = [F(0.0531), np.uint8(120), F(0.0417), np.uint8(100)]
case("qlinear_pool", "QLinearAveragePool", [u(1, 2, 5, 5), *scales], [U8], (1, 2, 3, 4), pads=[1, 0, 0, 1], count_include_pad=1, **pool)
case("qlinear_pool_last", "QLinearAveragePool", [u(1, 5, 5, 3), *scales], [U8], (1, 2, 3, 4), channels_last=1, ceil_mode=1, **pool)
case("qlinear_gap_last", "QLinearGlobalAveragePool", [u(1, 5, 5, 3), *scales], [U8], (1, 2, 3, 4), channels_last=1)
conv = [F(0.05), np.uint8(120), i8(4, 3, 3, 3), F([0.02, 0.03, 0.04, 0.05]), np.zeros(4, np.int8), F(0.3), np.uint8(110), rng.integers(-50, 50, 4).astype(np.int32)]
case("qlinear_conv_last", "QLinearConv", [u(1, 5, 5, 3), *conv], [U8], range(1, 9), channels_last=1, pads=[1] * 4, strides=[2, 2])
case("qlinear_conv_first", "QLinearConv", [u(1, 3, 5, 5), *conv], [U8], range(1, 9))
x = u(2, 3, 4)
y = np.clip(np.round(((x.astype(np.float32) - 120) * np.float32(0.0531)).mean((0, 2)) / np.float32(0.0417)) + 100, 0, 255).astype(np.uint8)
case("qlinear_mean", "QLinearReduceMean", [x, *scales], [U8], (1, 2, 3, 4), results=[y], axes=[0, -1], keepdims=0)
columns = [rng.integers(-100, 100, 5).astype(np.int32), F(0.1), np.uint8(110)]
case("qgemm_columns", "QGemm", [u(8, 3), F(0.05), np.uint8(120), i8(5, 8), F([0.01, 0.02, 0.03, 0.04, 0.05]), i8(5), *columns], [U8], range(1, 9), transA=1, transB=1, alpha=0.5)
case("qgemm_bare", "QGemm", [i8(3, 8), F(0.05), np.int8(12), i8(8, 5), F(0.02), np.int8(3)], [FLOAT], range(1, 6))
case("dynmm_columns", "DynamicQuantizeMatMul", [f(2, 3, 8), i8(8, 5), F([0.01, 0.02, 0.03, 0.04, 0.05]), i8(5), f(5)], [FLOAT], range(1, 5))
case("dynmm_bare", "DynamicQuantizeMatMul", [f(3, 8), u(8, 5), F(0.02)], [FLOAT], (1, 2))
case("mmi2f_columns", "MatMulIntegerToFloat", [u(3, 8), i8(8, 5), F(0.02), F([0.01, 0.02, 0.03, 0.04, 0.05]), np.uint8(7), i8(5), f(5)], [FLOAT], range(1, 7))
case("mmi2f_bare", "MatMulIntegerToFloat", [i8(2, 3, 8), i8(8, 5), F(0.02), F(0.03)], [FLOAT], range(1, 4))
case("mmi16", "MatMulInteger16", [rng.integers(-999, 999, (2, 3, 4)).astype(np.int16), rng.integers(-999, 999, (4, 5)).astype(np.int16)], [I32])
case("quantize_u16", "QuantizeLinear", [f(3, 4), F([0.01, 0.02, 0.03]), np.array([30000, 1000, 0], np.uint16)], [4], (1, 2), axis=0)
case("dequantize_i16", "DequantizeLinear", [rng.integers(-999, 999, (3, 4)).astype(np.int16), F(0.02), np.int16(-7)], [FLOAT], (1, 2))
case("dequantize_i32", "DequantizeLinear", [rng.integers(-999, 999, (3, 4)).astype(np.int32), F([0.1, 0.2, 0.3, 0.4])], [FLOAT], (1,), axis=1)

# ---- others ----
case("cdist", "CDist", [f(4, 3), f(5, 3)], [FLOAT], metric="euclidean")
case("cdist_squares", "CDist", [f(4, 3), f(5, 3)], [FLOAT], metric="sqeuclidean")
case("inverse_small", "Inverse", [f(2, 2, 3, 3)], [FLOAT])
case("inverse", "Inverse", [f(2, 7, 7) + np.roll(3 * np.eye(7, dtype=np.float32), 2, 0)], [FLOAT])
case("trilu_lower", "Trilu", [f(2, 3, 4), np.array(-1, np.int64)], [FLOAT], (1,), upper=0)
case("unique_list", "Unique", [F([2, 1, 1, 3, 4, 3])], [FLOAT, I64, I64])
case("expand_dims", "ExpandDims", [f(2, 3), np.array(-2, np.int32)], [FLOAT], (1,))
case("pad_row", "Pad", [f(2, 3), np.array([[1, 0, -1, 2]], np.int64), F([0.5])], [FLOAT], (1,))
case("pad_edge", "Pad", [f(2, 3), np.array([0, 2, 1, 0], np.int64)], [FLOAT], (1,), mode="edge")
case("grid_bicubic", "GridSample", [f(1, 2, 4, 4), (rng.random((1, 3, 3, 2)) * 2.4 - 1.2).astype(np.float32)], [FLOAT], mode="bicubic", padding_mode="reflection")
case("range_step", "Range", [np.array(2, np.int32), np.array(9, np.int32)], [I32])
case("gather_nd", "GatherND", [f(2, 3, 4), np.array([[0, 2], [1, 0]], np.int64)], [FLOAT])
tokens = np.array([[1, 2, 3, 1, 2, 5, 1, 2], [7, 7, 7, 7, 0, 1, 2, 3]], np.int64)
case("no_repeat_3", "NGramRepeatBlock", [tokens, f(2, 8)], [FLOAT], ngram_size=3)
case("no_repeat_1", "NGramRepeatBlock", [tokens, f(2, 8)], [FLOAT], ngram_size=1)
case("no_repeat_short", "NGramRepeatBlock", [tokens[:, :2], f(2, 8)], [FLOAT], ngram_size=4)
a, b = f(2, 3, 2), f(2, 3, 2)
c = (a[..., 0] + 1j * a[..., 1]) * (b[..., 0] - 1j * b[..., 1])
case("complex_mul_conj", "ComplexMulConj", [a, b], [FLOAT], results=[np.stack([c.real, c.imag], -1).astype(np.float32)])
case("is_all_finite", "IsAllFinite", [f(3), F([1, np.inf])], [BOOL], results=[np.array(False)])
case("is_no_nan", "IsAllFinite", [f(3), F([1, np.inf])], [BOOL], results=[np.array(True)], isnan_only=1)
cos, sin = f(16, 8), f(16, 8)
ids = rng.integers(0, 16, (3, 2, 3)).astype(np.int64)
case("mrotary", "MRotaryEmbedding", [f(2, 3, 32), ids, cos, sin], [FLOAT], (2, 3), mrope_section=[4, 2, 2], num_heads=2)
case("mrotary_in_turn", "MRotaryEmbedding", [f(2, 2, 3, 16), ids, cos, sin], [FLOAT], (2, 3), mrope_section=[4, 2, 2], mrope_layout=1, interleaved=1)
case("rotary_part", "RotaryEmbedding", [f(2, 3, 32), ids[0], f(16, 4), f(16, 4)], [FLOAT], (2, 3), num_heads=2, rotary_embedding_dim=8)
case("rotary_packed", "RotaryEmbedding", [f(2, 3, 32), ids[0], cos, sin], [FLOAT], (2, 3), is_packed_batching=1, interleaved=1)

# ---- recurrences with 8-bit weights, of forms in which neither inputs nor states are rounded: as an LSTM of the same weights as floats ----
D, I, H = 2, 3, 4
w, r = i8(D, I, 4 * H), i8(D, H, 4 * H)
sw, sr = F([0.01, 0.02]), (f(D, 4 * H) ** 2 * 0.01).astype(np.float32)
zw, zr = i8(D), i8(D, 4 * H)
real = lambda q, s, z: ((q.astype(np.float32) - z.astype(np.float32).reshape(D, 1, -1)) * s.reshape(D, 1, -1)).transpose(0, 2, 1).copy()
common = [f(D, 8 * H), np.array([3, 2], np.int32), None, None, f(D, 3 * H)]
attrs = dict(hidden_size=H, direction="bidirectional", activations=["Sigmoid", "Tanh", "Relu"] * 2, clip=2.0)
x = f(3, 2, I)
y = case("dynlstm_forms", "LSTM", [x, real(w, sw, zw), real(r, sr, zr), *common], [FLOAT] * 3, domain="", **attrs)
case("dynlstm_forms", "DynamicQuantizeLSTM", [x, w, r, *common, sw, zw, sr, zr], [FLOAT] * 3, (1, 2, 3, 7, 8, 9, 10, 11), results=y, **attrs)
