# SPDX-License-Identifier: Apache-2.0 OR MIT
"""GroupQueryAttention and SparseAttention: `python3 caches.py`. Results of ONNX Runtime, but for the two that say otherwise."""
import numpy as np

from write import case

rng = np.random.default_rng(1)


def f(*s):
    return rng.standard_normal(s).astype(np.float32)


def i(*v):
    return np.array(v, np.int32)


def cache(b, heads, room, filled, d):
    x = np.zeros((b, heads, room, d), np.float32)
    for row, n in enumerate(filled):
        x[row, :, :n] = f(heads, n, d)
    return x


H, HK, D = 4, 2, 16
cos, sin = f(16, D // 2), f(16, D // 2)


def gqa(name, b, s, total, room=None, lens=None, tables=False, outputs=3, more=(), packed=False, results=None, **attrs):
    """`lens` are numbers of keys with the new ones; `room` is the length of the past's buffer."""
    lens = lens or [total] * b
    q = f(b, s, (H + 2 * HK) * D) if packed else f(b, s, H * D)
    k, v = (None, None) if packed else (f(b, s, HK * D), f(b, s, HK * D))
    past = [None, None]
    if room is not None:
        past = [cache(b, HK, room, [n - s for n in lens], D) for _ in range(2)]
    ins = [q, k, v, *past, i(*[n - 1 for n in lens]), np.array(total, np.int32), *([cos, sin] if tables else [None, None])]
    ins = ins + list(more)
    attrs = dict(num_heads=H, kv_num_heads=HK, **attrs)
    if tables:
        attrs["do_rotary"] = 1
    # Lengths are constants where a past is given: they say how long the present is.
    fixed = [6] if room is not None else []
    return case(name, "GroupQueryAttention", ins, [1] * outputs, constants=fixed, results=results, **attrs), ins


gqa("gqa_packed", 2, 3, 3, packed=True, tables=True)
gqa("gqa_buffer", 2, 1, 6, room=8, lens=[6, 4], tables=True)
gqa("gqa_ragged", 2, 1, 6, room=5, lens=[6, 3])
gqa("gqa_chunk", 1, 3, 7, room=4, tables=True)
gqa("gqa_chunk_buffer", 1, 3, 7, room=10, local_window_size=2)
gqa("gqa_interleaved", 1, 4, 4, tables=True, rotary_interleaved=1)
gqa("gqa_bias", 2, 1, 6, room=8, lens=[6, 4], more=[None, f(1, H, 1, 6)])
gqa("gqa_smooth", 2, 4, 4, smooth_softmax=1, softcap=3.0)
gqa("gqa_sink", 2, 1, 6, room=8, lens=[6, 4], more=[None, None, f(H)], local_window_size=3)
gqa("gqa_scale_softcap", 1, 1, 6, room=5, scale=0.3, softcap=1.5, local_window_size=4)
gqa("gqa_products", 2, 1, 6, room=8, outputs=4, qk_output=1, softcap=1.0)
gqa("gqa_weights", 1, 3, 3, outputs=4, qk_output=2)
gqa("gqa_positions", 1, 3, 7, room=4, tables=True, more=[np.array([[4, 5, 6]], np.int64)])


def rms(x, w, eps):
    n = x.shape
    x = x.reshape(n[0], n[1], -1, D)
    return (x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * w).reshape(n).astype(np.float32)


# The CPU provider does not normalize queries and keys: expected is what it gives for normalized ones.
q, k, v = f(1, 4, H * D), f(1, 4, HK * D), f(1, 4, HK * D)
wq, wk = f(D), f(D)
lens, total = i(3), np.array(4, np.int32)
heads = dict(num_heads=H, kv_num_heads=HK)
plain = [rms(q, wq, 1e-5), rms(k, wk, 1e-5), v, None, None, lens, total]
expected = case("gqa_normalized", "GroupQueryAttention", plain, [1, 1, 1], **heads)
ins = [q, k, v, None, None, lens, total] + [None] * 7 + [wq, wk]
case("gqa_normalized", "GroupQueryAttention", ins, [1, 1, 1], results=expected, qk_norm_epsilon=1e-5, **heads)

# Nor does it attend to later keys: expected is the formula of the documentation.
q, k, v = f(2, 3, H * D), f(2, 3, HK * D), f(2, 3, HK * D)


def heads_of(x, n):
    return x.reshape(2, 3, n, D).transpose(0, 2, 1, 3)


kk, vv = np.repeat(heads_of(k, HK), H // HK, 1), np.repeat(heads_of(v, HK), H // HK, 1)
p = np.exp(heads_of(q, H) @ kk.transpose(0, 1, 3, 2) / np.sqrt(D))
y = (p / p.sum(-1, keepdims=True) @ vv).transpose(0, 2, 1, 3).reshape(2, 3, H * D)
expected = [y.astype(np.float32), heads_of(k, HK), heads_of(v, HK)]
case("gqa_both_ways", "GroupQueryAttention", [q, k, v, None, None, i(2, 2), np.array(3, np.int32)], [1, 1, 1], results=expected, causal=0, **heads)

# Two layouts of four blocks of 16 tokens.
rows = np.array([[0, 1, 3, 5, 8], [0, 1, 3, 6, 9]], np.int32)
columns = np.array([[0, 0, 1, 1, 2, 1, 2, 3, -1], [0, 0, 1, 0, 1, 2, 0, 2, 3]], np.int32)
table = [f(64, D // 2), f(64, D // 2)]


def sparse(name, b, s, lens, room=64, tables=(), **attrs):
    past = [cache(b, HK, room, [n - s for n in lens], D) for _ in range(2)]
    ins = [f(b, s, H * D), f(b, s, HK * D), f(b, s, HK * D), *past, rows, columns, np.array(max(lens), np.int32), i(*lens), *tables]
    case(name, "SparseAttention", ins, [1, 1, 1], constants=(5, 6), sparse_block_size=16, shared=(("o1", "i3"), ("o2", "i4")), num_heads=H, kv_num_heads=HK, **attrs)


sparse("sparse_prompt", 1, 40, [40])
# Of lengths that differ within a batch ONNX Runtime reads weights from where it did not write them.
sparse("sparse_decode", 1, 1, [35], tables=table, do_rotary=1, scale=0.4)
