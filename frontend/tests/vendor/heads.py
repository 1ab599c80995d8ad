# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Attention, MultiHeadAttention, DecoderMaskedMultiHeadAttention, QAttention: `python3 heads.py`. Results of ONNX Runtime's CPU provider, or,
for forms that it does not have, of an equal form that it has."""
import numpy as np

from write import case

rng = np.random.default_rng(2)
N, D = 2, 8
W = N * D


def f(*s):
    return rng.standard_normal(s).astype(np.float32)


def i(*v):
    return np.array(v, np.int32)


def pairs(*s):
    """What each query sees, the first key in any case: of hidden keys alone ONNX Runtime keeps three digits."""
    seen = rng.integers(0, 2, s).astype(np.int32)
    seen[..., 0] = 1
    return seen


def packed(*parts):
    """Parts `[B,S,N*D]` as `[B,S,N,parts,D]`."""
    b, s, _ = parts[0].shape
    return np.ascontiguousarray(np.stack([p.reshape(b, s, N, D) for p in parts], 3))


def mha(name, ins, outputs=1, results=None, **attrs):
    return case(name, "MultiHeadAttention", ins, [1] * outputs, results=results, num_heads=N, **attrs)


q, k, v, b = f(2, 3, W), f(2, 3, W), f(2, 3, W), f(3 * W)
y = mha("mha_packed_qkv", [q, k, v])
mha("mha_packed_qkv", [packed(q, k, v)], results=y)
y = mha("mha_packed_kv", [q, k, v, b])
mha("mha_packed_kv", [q, packed(k, v), None, b], results=y)
mha("mha_cross_bias", [f(2, 3, W), f(2, N, 5, D), f(2, N, 5, D), f(3 * W)])
mha("mha_pairs", [f(2, 3, W), f(2, 5, W), f(2, 5, W), None, pairs(2, 3, 5)], scale=0.2)
mha("mha_filter", [f(2, 3, W), f(2, 5, W), f(2, 5, W), None, i([1, 1, 1, 1, 0], [1, 0, 1, 0, 0])], mask_filter_value=-2.0)
mha("mha_past_bias", [f(2, 2, W), f(2, 2, W), f(2, 2, W), f(3 * W), None, f(1, N, 2, 5), f(2, N, 3, D), f(2, N, 3, D)], 3, unidirectional=1)
mha("mha_past_mask", [f(2, 2, W), f(2, 2, W), f(2, 2, W), None, i([0, 1, 1, 1, 1], [1] * 5), None, f(2, N, 3, D), f(2, N, 3, D)], 3)


def room(x, n):
    return np.concatenate([x, np.zeros((*x.shape[:2], n - x.shape[2], x.shape[3]), np.float32)], 2)


# Past keys in a longer buffer: as without room, and the present has the room behind it.
q, k, v, b, pk, pv = f(2, 1, W), f(2, 1, W), f(2, 1, W), f(3 * W), f(2, N, 3, D), f(2, N, 3, D)
y = mha("mha_buffer", [q, k, v, b, None, None, pk, pv], 3)
y = [y[0], room(y[1], 6), room(y[2], 6)]
mha("mha_buffer", [q, k, v, b, None, None, room(pk, 6), room(pv, 6), i(3)], 3, results=y)


def decoder(name, ins, outputs=3, results=None, **attrs):
    shared = (("o1", "i5"), ("o2", "i6")) if attrs.get("past_present_share_buffer") else ()
    return case(name, "DecoderMaskedMultiHeadAttention", ins, [1] * outputs, results=results, shared=shared, num_heads=N, **attrs)


# The CPU provider has the form with room only; without it, keys and values end where the new ones do.
buffer = dict(past_present_share_buffer=1)
mask = i([0, 1, 1, 1], [1, 1, 1, 1])
y = decoder("dmmha_buffer", [q, k, v, mask, f(1, N, 1, 4), room(pk, 6), room(pv, 6), i(3), None, None, b], **buffer)
y = decoder("dmmha_past", [q, k, v, None, None, room(pk, 6), room(pv, 6), i(3), None, None, b], **buffer)
y = [y[0], y[1][:, :, :4], y[2][:, :, :4]]
decoder("dmmha_past", [q, k, v, None, None, pk, pv, i(3), None, None, b], results=y)
y = decoder("dmmha_packed", [q, k, v, None, None, room(pk, 6), room(pv, 6), i(3)], **buffer)
decoder("dmmha_packed", [np.concatenate([q, k, v], 2), None, None, None, None, room(pk, 6), room(pv, 6), i(3)], results=y, **buffer)
decoder("dmmha_cross", [q, f(2, N, 5, D), f(2, N, 5, D)], 1, scale=0.3)


def attention(name, ins, outputs=1, results=None, width=W, **attrs):
    return case(name, "Attention", [f(2, 3, 8), f(8, 2 * W + width), f(2 * W + width), *ins], [1] * outputs, (1, 2), results=results, num_heads=N, **attrs)


attention("attention_values", [], width=2 * W, qkv_hidden_sizes=[W, W, 2 * W])
attention("attention_lengths", [i(2, 3)])
attention("attention_ranges", [i(2, 3, 0, 1)])
attention("attention_pairs", [pairs(2, 3, 3), None, f(2, 1, 3, 3)], unidirectional=1)
attention("attention_past_mask", [i([0, 1, 1, 1, 1], [1] * 5), f(2, 2, N, 2, D)], 2, mask_filter_value=-50.0)

x, w, b = rng.integers(0, 255, (2, 3, 8)).astype(np.uint8), rng.integers(-127, 127, (8, 3 * W)).astype(np.int8), f(3 * W)
s = lambda *v: np.array(v if len(v) > 1 else v[0], np.float32)
quantized = dict(num_heads=N)
case("qattention", "QAttention", [x, w, b, s(0.02), s(0.01), None, np.uint8(120), np.int8(3)], [1], (1, 2, 3, 4, 6, 7), **quantized)
columns = [x, w, b, s(0.02), (f(3 * W) ** 2 * 0.01), i(2, 3), np.uint8(120), rng.integers(-9, 9, 3 * W).astype(np.int8), f(2, 2, N, 2, D)]
case("qattention_columns", "QAttention", columns[:5] + [None] + columns[6:], [1, 1], (1, 2, 3, 4, 6, 7), unidirectional=1, **quantized)
