# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Every dtype of ONNX, converted there and back and handed through: `python3 gen.py`. Expected results are those of ml_dtypes and numpy.

Needs the wheels ml_dtypes, onnx and numpy.
"""
import os

import ml_dtypes as ml
import numpy as np
import onnx
from onnx import TensorProto, helper as h

OUT = os.path.dirname(os.path.abspath(__file__))
FLOATS = {
    10: np.float16, 11: np.float64, 16: ml.bfloat16, 17: ml.float8_e4m3fn, 18: ml.float8_e4m3fnuz, 19: ml.float8_e5m2,
    20: ml.float8_e5m2fnuz, 23: ml.float4_e2m1fn, 27: ml.float6_e2m3fn, 28: ml.float6_e3m2fn,
}  # fmt: skip
INTS = {2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16, 6: np.int32, 7: np.int64, 12: np.uint32, 13: np.uint64, 21: ml.uint4, 22: ml.int4, 25: ml.uint2, 26: ml.int2}
BITS = {21: 4, 22: 4, 23: 4, 25: 2, 26: 2}


def packed(number, a):
    """An array as a tensor; what has fewer than 8 bits lies packed, the first element lowest."""
    raw = np.ascontiguousarray(a).reshape(-1)
    if number in BITS:
        b, per = BITS[number], 8 // BITS[number]
        bits = raw.view(np.uint8) & (2**b - 1)
        bits = np.concatenate([bits, np.zeros(-len(bits) % per, np.uint8)]).reshape(-1, per)
        raw = sum(bits[:, i].astype(np.uint32) << (b * i) for i in range(per)).astype(np.uint8)
    return TensorProto(data_type=number, dims=a.shape, raw_data=raw.tobytes())


def case(name, nodes, inputs, outputs):
    """`inputs` and `outputs` are `(name, dtype number, array)`."""
    info = lambda l: [h.make_tensor_value_info(n, t, list(a.shape)) for n, t, a in l]
    m = h.make_model(h.make_graph(nodes, "g", info(inputs), info(outputs)), opset_imports=[h.make_opsetid("", 28)], ir_version=14)
    data = f"{OUT}/{name}/test_data_set_0"
    os.makedirs(data, exist_ok=True)
    onnx.save(m, f"{OUT}/{name}/model.onnx")
    for kind, l in (("input", inputs), ("output", outputs)):
        for i, (n, t, a) in enumerate(l):
            pb = packed(t, a)
            pb.name = n
            with open(f"{data}/{kind}_{i}.pb", "wb") as to:
                to.write(pb.SerializeToString())


# Ties, subnormal numbers of the narrow formats, both zeros; nothing beyond a range.
x = np.array([0.0, -0.0, 0.5, 1.0, 1.25, 1.75, -2.5, 3.5, -5.0, 6.0, 0.0625, 0.1, -0.3, 2.75], np.float32)
small = np.array([0, 1, 1, 0, 1, 1], np.float32)
signed = np.array([0, 1, -1, -2, 1, 0], np.float32)
powers = np.array([1, 2, 0.5, 2.0**100, 2.0**-100, 4], np.float32)
there, back, nodes = [], [], []
for number, dtype in {**FLOATS, **INTS, 9: np.bool_, 24: ml.float8_e8m0fnu}.items():
    at = x if number in FLOATS else powers if number == 24 else signed if number in (3, 5, 6, 7, 22, 26) else small
    y = at.astype(dtype)
    there.append((f"x{number}", 1, at))
    back.append((f"y{number}", 1, y.astype(np.float32)))
    nodes += [h.make_node("Cast", [f"x{number}"], [f"q{number}"], to=number), h.make_node("Cast", [f"q{number}"], [f"y{number}"], to=1)]
case("cast_there_and_back", nodes, there, back)

inputs, outputs, nodes = [], [], []
for number, (_, _, a) in zip([*FLOATS, *INTS, 9, 24], there):
    a = a.astype({**FLOATS, **INTS, 9: np.bool_, 24: ml.float8_e8m0fnu}[number]).reshape(2, -1)
    inputs.append((f"x{number}", number, a))
    outputs.append((f"y{number}", number, a.T))
    nodes += [h.make_node("Identity", [f"x{number}"], [f"i{number}"]), h.make_node("Transpose", [f"i{number}"], [f"y{number}"])]
case("handed_through", nodes, inputs, outputs)

a, b = x[:7], np.array([1, 2, 0.25, -1, 3, 0.5, 1], np.float32)
inputs, outputs, nodes = [], [], []
for number in (10, 11, 16):
    t = FLOATS[number]
    p, q = a.astype(t), b.astype(t)
    inputs += [(f"a{number}", number, p), (f"b{number}", number, q)]
    for op, y in (("Add", p + q), ("Mul", p * q), ("Max", np.maximum(p, q))):
        outputs.append((f"{op}{number}", number, y.astype(t)))
        nodes.append(h.make_node(op, [f"a{number}", f"b{number}"], [f"{op}{number}"]))
case("arithmetic", nodes, inputs, outputs)
