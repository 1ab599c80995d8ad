# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Writes the cases beside this file: derivatives, with central differences of ONNX's reference evaluator in f64 as results.

    python3 gen.py

Needs the wheels onnx and numpy.
"""
import math
import os

import numpy as np
from onnx import TensorProto, helper as h, numpy_helper as nh
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

OUT = os.path.dirname(os.path.abspath(__file__))
STEP = 1e-5
rng = np.random.default_rng(0)


def f(*s):
    return rng.standard_normal(s)


def p(*s):
    return rng.uniform(0.3, 1.7, s)


def i(*v):
    return np.array(v, np.int64)


def n(op, inputs, output, **attrs):
    return h.make_node(op, inputs.split(), output.split(), **attrs)


class Erf(OpRun):
    """The evaluator's own rounds to f32."""

    def _run(self, x):
        return (np.vectorize(math.erf, otypes=[np.float64])(x),)


def case(name, nodes, xs, y="y", others=None, zs=(), fed=None, opset=20):
    """`xs` and `others` are inputs, of these integers are constants; `fed` has the values at which the derivative is taken where these are not
    the inputs themselves."""
    others = others or {}
    constants = [nh.from_array(v, k) for k, v in others.items() if v.dtype == np.int64]
    values = {**xs, **{k: v for k, v in others.items() if v.dtype != np.int64}}
    info = {k: h.make_tensor_value_info(k, h.np_dtype_to_tensor_dtype(v.dtype), v.shape) for k, v in values.items()}
    opsets = [h.make_opsetid("", opset), h.make_opsetid("ai.onnx.preview.training", 1)]
    shaped = h.make_tensor_value_info(y, TensorProto.DOUBLE, None)
    forward = h.make_model(h.make_graph(nodes, "g", list(info.values()), [shaped], constants), opset_imports=opsets, ir_version=9)
    run = ReferenceEvaluator(forward, new_ops=[Erf])
    fed = fed or {}
    at = {k: fed.get(k, v) for k, v in values.items()}
    want = []
    for k in xs:
        slope = np.zeros_like(at[k])
        for e in np.ndindex(*at[k].shape):
            sums = []
            for sign in (1, -1):
                moved = at[k].copy()
                moved[e] += sign * STEP
                sums.append(run.run(None, {**at, k: moved})[0].sum())
            slope[e] = (sums[0] - sums[1]) / (2 * STEP)
        want.append(slope)
    inputs = {**values, **{f"{k}_fed": v for k, v in fed.items()}}
    for k, v in fed.items():
        info[f"{k}_fed"] = h.make_tensor_value_info(f"{k}_fed", TensorProto.DOUBLE, v.shape)
    takes = [f"{k}_fed" if k in fed else k for k in [*xs, *zs]]
    node = h.make_node("Gradient", takes, [f"d{k}" for k in xs], domain="ai.onnx.preview.training", xs=list(xs), y=y, **({"zs": list(zs)} if zs else {}))
    outputs = [h.make_tensor_value_info(f"d{k}", TensorProto.DOUBLE, None) for k in xs]
    model = h.make_model(h.make_graph([*nodes, node], "g", list(info.values()), outputs, constants), opset_imports=opsets, ir_version=9)
    folder = os.path.join(OUT, f"gradient_{name}", "test_data_set_0")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "..", "model.onnx"), "wb") as file:
        file.write(model.SerializeToString())
    for kind, list_ in (("input", list(inputs.values())), ("output", want)):
        for k, v in enumerate(list_):
            with open(os.path.join(folder, f"{kind}_{k}.pb"), "wb") as file:
                file.write(nh.from_array(v).SerializeToString())


case("arithmetic", [n("Mul", "a b", "m"), n("Sub", "m a", "s"), n("Div", "s b", "d"), n("Neg", "d", "e"), n("Add", "e m", "y")], {"a": f(2, 3), "b": p(3)})
case("functions", [n("Exp", "x", "e"), n("Log", "x", "l"), n("Sqrt", "x", "s"), n("Tanh", "x", "t"), n("Sigmoid", "x", "g"), n("Reciprocal", "x", "r"),
                   n("Sum", "e l s t g r", "u"), n("Mul", "u x", "y")], {"x": p(5)})
case("curves", [n("Sin", "x", "s"), n("Cos", "s", "c"), n("Atan", "c", "a"), n("Asinh", "a", "h"), n("Softplus", "h", "p"), n("Erf", "p", "e"), n("Tan", "e", "t"),
                n("Cosh", "t", "k"), n("Sinh", "k", "y")], {"x": f(4)})
case("inverse", [n("Asin", "x", "a"), n("Acos", "x", "b"), n("Atanh", "x", "c"), n("Mul", "a b", "d"), n("Add", "c d", "y")], {"x": rng.uniform(-0.8, 0.8, 5)})
case("power", [n("Pow", "a b", "q"), n("Pow", "q two", "y")], {"a": p(2, 1), "b": f(3)}, others={"two": np.array(2.0)})
case("dense", [n("Gemm", "x w c", "h", transB=1, alpha=0.5, beta=2.0), n("Relu", "h", "r"), n("MatMul", "r v", "o"), n("ReduceMean", "o", "y", keepdims=0)],
     {"x": f(3, 4), "w": f(5, 4), "c": f(5), "v": f(5, 2)})
case("batches", [n("MatMul", "x w", "o"), n("Mul", "o o", "y")], {"x": f(2, 3, 4), "w": f(4, 2)})
case("softmax", [n("Softmax", "x", "s", axis=1), n("LogSoftmax", "x", "l", axis=0), n("Mul", "s l", "m"), n("Mul", "m x", "y")], {"x": f(3, 4)})
case("extremes", [n("ReduceMax", "x", "m", axes=[1], keepdims=0), n("ReduceMin", "x", "k", axes=[0], keepdims=1), n("Clip", "x low", "c"), n("ReduceSum", "c one", "s", keepdims=0),
                  n("Mul", "m s", "a"), n("ReduceSum", "k", "b", keepdims=0), n("Mul", "a b", "y")], {"x": f(3, 4)}, others={"low": np.array(0.1), "one": i(1)}, opset=17)
case("choice", [n("Less", "a b", "c"), n("Where", "c a d", "w"), n("Abs", "w", "v"), n("Max", "v a", "x"), n("Min", "x b", "z"), n("Mul", "z w", "y")],
     {"a": f(2, 3), "b": f(2, 3), "d": f(3)})
case("movement", [n("Transpose", "x", "t", perm=[1, 0]), n("Reshape", "t dims", "r"), n("Concat", "r r", "c", axis=1), n("Slice", "c from to axes steps", "s"),
                  n("Mul", "s s", "y")], {"x": f(3, 4)}, others={"dims": i(2, 6), "from": i(1), "to": i(11), "axes": i(1), "steps": i(3)})
case("rows", [n("Gather", "x k", "t", axis=1), n("GatherElements", "x e", "u", axis=0), n("ReduceSum", "u", "v", keepdims=0), n("Mul", "t t", "w"), n("Mul", "w v", "y")],
     {"x": f(3, 4)}, others={"k": i(3, 0, 3), "e": np.array([[0, 2, 1, 0]], np.int64)})
case("conv", [n("Conv", "x w b", "c", strides=[2, 1], pads=[1, 0, 1, 2], dilations=[1, 2]), n("Tanh", "c", "y")], {"x": f(2, 2, 6, 7), "w": f(3, 2, 3, 2), "b": f(3)})
case("elsewhere", [n("Mul", "a b", "m"), n("Sin", "m", "y")], {"a": f(3)}, others={"b": f(3)}, zs=["b"], fed={"a": f(3), "b": f(3)})
case("cut", [n("Mul", "a a", "m"), n("Mul", "m a", "y")], {"a": f(3), "free": f(2)})
