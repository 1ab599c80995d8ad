# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Writes the core cases: NAME-SIZE.graph, and NAME-SIZE.expect with the outputs of ONNX Runtime.

    python3 gen.py [NAME...]          needs numpy, onnx and onnxruntime

A case is a text of Graph IR and, apart from it, an ONNX model that means the same. Inputs and weights come from the seeded
generator of Graph IR, which is written here a second time, so nothing of the compiler takes part in what is expected.

Lines `input` of an .expect file say how an input departs from its seed (1000 and its position): its numbers `modulo` or `times` one,
then the first so many elements `special`. Lines `output` say how near a computed output must be: `length` is the number of rounded operations on the longest
way to an element, `scale` bounds the sum of the absolute values of its terms; so |error| <= length * eps(dtype) * scale.
`length 0` asks for equal bits (any NaN for a NaN).
"""
import pathlib, sys
import numpy as np
import onnx
from onnx import TensorProto as T, helper as h, numpy_helper
import onnxruntime as ort

HERE = pathlib.Path(__file__).parent
F32 = np.float32
SIZES = ("aligned", "odd", "one")


# ---- the seeded generator of Graph IR ---------------------------------------------------------------------------------

def mix(z):
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def seeded(seed, dtype, dims):
    n = int(np.prod(dims, dtype=np.int64))
    with np.errstate(over="ignore"):
        key = mix(np.array([seed ^ 0x5EED0F4E19], np.uint64))
        r = mix(key + np.arange(n, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    if dtype == "f32":
        total = sum((r >> np.uint64(16 * i)) & np.uint64(0xFFFF) for i in range(4)).astype(np.float64)
        out = ((total - 131070.0) / 131070.0).astype(F32)
    elif dtype in ("i8", "u8"):
        out = (r >> np.uint64(32)).astype(np.uint8).view(np.int8 if dtype == "i8" else np.uint8)
    elif dtype == "i64":
        out = (r % np.uint64(201)).astype(np.int64) - 100
    else:
        raise ValueError(dtype)
    return out.reshape(dims)


# Values at which arithmetic has edges; they stand in the first elements of an input that is `special`.
SPECIAL = np.array([0.0, -0.0, 1e-40, -1e-40, 3.4028235e38, -3.4028235e38, np.inf, -np.inf, np.nan, 65504.0, 65520.0, 6e-8, 2.9e-8,
                    1.00048828125, 1.00146484375, -2.5], F32)


# ---- cases ------------------------------------------------------------------------------------------------------------

def shape(dtype, dims):
    return f"{dtype}[{','.join(map(str, dims))}]"


class Case:
    """Collects the two forms of one case."""

    def __init__(self, name, size):
        self.name, self.size = name, size
        self.about = ""
        self.values, self.lines, self.sides, self.symbols = 0, [], {}, []
        self.nodes, self.weights, self.inputs, self.outputs = [], [], {}, []

    # Graph IR
    def line(self, types, op, origin=""):
        first = self.values
        self.values += len(types)
        names = ", ".join(f"%{first + i}: {t}" for i, t in enumerate(types))
        self.lines.append(f"{names} = {op}" + (f"  // {origin}" if origin else ""))
        return first if len(types) == 1 else list(range(first, first + len(types)))

    def value(self, dtype, dims, op, origin=""):
        return f"%{self.line([shape(dtype, dims)], op, origin)}"

    def output(self, name, value, dtype, length, scale):
        self.lines.append(f'output "{name}" {value}')
        self.outputs.append((name, dtype, length, scale))

    # both
    def input(self, name, dtype, dims, *, special=False, modulo=None, times=None):
        a = seeded(1000 + len(self.inputs), dtype, dims)
        if modulo is not None:
            a = a % modulo
        if times is not None:
            a = (a * F32(times)).astype(F32)
        side = {}
        if special:
            a = a.copy()
            k = min(a.size, SPECIAL.size)
            a.reshape(-1)[:k] = SPECIAL[:k]
            side["special"] = str(k)
        if modulo is not None:
            side["modulo"] = str(modulo)
        if times is not None:
            side["times"] = repr(float(times))
        if side:
            self.sides[name] = side
        self.inputs[name] = a
        return self.value(dtype, dims, f'input "{name}"')

    def weight(self, name, dtype, dims):
        seed = len(self.weights) + 1
        self.weights.append(numpy_helper.from_array(seeded(seed, dtype, dims), name))
        return f'weight<{dtype} {"x".join(map(str, dims))} "{name}" seed:{seed}>'

    # ONNX
    def constant(self, name, value):
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, op, inputs, outputs, **attributes):
        self.nodes.append(h.make_node(op, inputs.split(), outputs.split(), **attributes))

    def run(self):
        kind = {np.dtype(F32): T.FLOAT, np.dtype(np.int64): T.INT64}
        ins = [h.make_tensor_value_info(n, kind[a.dtype], a.shape) for n, a in self.inputs.items()]
        outs = [onnx.ValueInfoProto(name=n) for n, *_ in self.outputs]
        graph = h.make_graph(self.nodes, self.name, ins, outs, self.weights)
        model = onnx.shape_inference.infer_shapes(h.make_model(graph, opset_imports=[h.make_opsetid("", 19)], ir_version=9))
        onnx.checker.check_model(model)
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return session.run([n for n, *_ in self.outputs], self.inputs)


def relu(c, n, m):
    c.about = "relu is a maximum with zero: NaN stays, -0 becomes what maximum makes of it"
    x = c.input("x", "f32", (n, m), special=True)
    y = c.value("f32", (n, m), f"max({x}, f32 0.0)", "main/Relu_0")
    c.node("Relu", "x", "y")
    c.output("y", y, "f32", 0, 0)


def add_broadcast(c, n, m):
    c.about = "a row and a column meet: both operands broadcast"
    x, y = c.input("x", "f32", (n, 1, m)), c.input("y", "f32", (n, 1))
    z = c.value("f32", (n, n, m), f"add({x}, {y})", "main/Add_0")
    c.node("Add", "x y", "z")
    c.output("z", z, "f32", 0, 0)


def cast_f16(c, n, m):
    c.about = "f32 to f16 and back: rounds to nearest even, overflows to infinity, keeps subnormals"
    x = c.input("x", "f32", (n, m), special=True)
    y = c.value("f16", (n, m), f"cast({x})", "main/Cast_0")
    z = c.value("f32", (n, m), f"cast({y})", "main/Cast_1")
    c.node("Cast", "x", "y", to=T.FLOAT16)
    c.node("Cast", "y", "z", to=T.FLOAT)
    c.output("y", y, "f16", 0, 0)
    c.output("z", z, "f32", 0, 0)


def transpose(c, a, b, d):
    c.about = "dims go round, so that reads or writes are strided"
    x = c.input("x", "f32", (a, b, d))
    y = c.value("f32", (d, a, b), f"transpose({x}) {{perm=[2,0,1]}}", "main/Transpose_0")
    c.node("Transpose", "x", "y", perm=[2, 0, 1])
    c.output("y", y, "f32", 0, 0)


def gather(c, n, m, k):
    c.about = "rows of a table by index; an index beyond it fails with this node's path"
    i = c.input("i", "i64", (k,), modulo=n)
    y = c.value("f32", (k, m), f"gather({c.weight('table', 'f32', (n, m))}, {i}) {{axis=0}}", "main/Gather_0")
    c.node("Gather", "table i", "y", axis=0)
    c.output("y", y, "f32", 0, 0)


def reduce_sum(c, n, m):
    c.about = "sums of rows and of columns"
    x = c.input("x", "f32", (n, m))
    y = c.value("f32", (n,), f"reduce({x}) {{op=sum, axes=[1]}}", "main/ReduceSum_0")
    z = c.value("f32", (1, m), f"reduce({x}) {{op=sum, axes=[0], keep=true}}", "main/ReduceSum_1")
    c.constant("rows", np.array([1]))
    c.constant("columns", np.array([0]))
    c.node("ReduceSum", "x rows", "y", keepdims=0)
    c.node("ReduceSum", "x columns", "z", keepdims=1)
    a = np.abs(c.inputs["x"])
    c.output("y", y, "f32", m, a.sum(1).max())
    c.output("z", z, "f32", n, a.sum(0).max())


def softmax(c, n, m):
    c.about = "softmax over the last dim: its maximum, its sum and the quotient are one pass over a row"
    x = c.input("x", "f32", (n, m), times=8.0)
    y = c.value("f32", (n, m), f"softmax({x}) {{axis=1}}", "main/Softmax_0")
    c.node("Softmax", "x", "y", axis=1)
    # exp is good to 2 ulp above and below the quotient, and an argument rounded by eps * |x| moves it by as much.
    c.output("y", y, "f32", m + 8 + 2 * int(np.abs(c.inputs["x"]).max() + 1), 1.0)


def rms_norm(c, n, m):
    c.about = "root mean square over the last dim, then a scale"
    x = c.input("x", "f32", (n, m))
    y = c.value("f32", (n, m), f"rms_norm({x}, {c.weight('g', 'f32', (m,))}) {{axis=1, eps=1e-5}}", "main/RMSNorm_0")
    c.constant("two", F32(2))
    c.constant("eps", F32(1e-5))
    c.node("Pow", "x two", "x2")
    c.constant("last", np.array([1]))
    c.node("ReduceMean", "x2 last", "mean", keepdims=1)
    c.node("Add", "mean eps", "sum")
    c.node("Sqrt", "sum", "root")
    c.node("Div", "x root", "unit")
    c.node("Mul", "unit g", "y")
    c.output("y", y, "f32", m + 6, np.abs(c.inputs["x"] / np.sqrt((c.inputs["x"] ** 2).mean(1, keepdims=True) + 1e-5)).max())


def matmul(c, m, n, k):
    c.about = "a product with a weight, which is packed ahead, and a bias"
    x = c.input("x", "f32", (m, k))
    y = c.value("f32", (m, n), f"contract({x}, {c.weight('w', 'f32', (k, n))}) {{spec=\"mk,kn->mn\"}}", "main/MatMul_0")
    z = c.value("f32", (m, n), f"add({y}, {c.weight('b', 'f32', (n,))})", "main/Add_1")
    c.node("MatMul", "x w", "p")
    c.node("Add", "p b", "y")
    w = numpy_helper.to_array(c.weights[0])
    c.output("y", z, "f32", k + 1, (np.abs(c.inputs["x"]) @ np.abs(w)).max() + 1)


def conv_bn_relu(c, ch, o, s, k):
    c.about = "batch norm folds into the convolution's weights; relu stays"
    p = k // 2
    x = c.input("x", "f32", (1, ch, s, s))
    w = c.weight("w", "f32", (o, ch, k, k))
    y = c.value("f32", (1, o, s, s), f"conv({x}, {w}) {{pads=[{p},{p},{p},{p}]}}", "main/Conv_0")
    mean = c.value("f32", (1, o, s, s), f"sub({y}, {c.weight('mean', 'f32', (o, 1, 1))})", "main/BatchNorm_1")
    scaled = c.value("f32", (1, o, s, s), f"mul({mean}, {c.weight('scale', 'f32', (o, 1, 1))})", "main/BatchNorm_1")
    moved = c.value("f32", (1, o, s, s), f"add({scaled}, {c.weight('bias', 'f32', (o, 1, 1))})", "main/BatchNorm_1")
    z = c.value("f32", (1, o, s, s), f"max({moved}, f32 0.0)", "main/Relu_2")
    c.node("Conv", "x w", "a", pads=[p, p, p, p], kernel_shape=[k, k])
    c.node("Sub", "a mean", "b")
    c.node("Mul", "b scale", "d")
    c.node("Add", "d bias", "e")
    c.node("Relu", "e", "y")
    w, scale = (numpy_helper.to_array(next(t for t in c.weights if t.name == n)) for n in ("w", "scale"))
    terms = (np.abs(w).sum((1, 2, 3)) * np.abs(scale).reshape(-1)).max() + 2
    c.output("y", z, "f32", ch * k * k + 3, terms)


def qdq_linear(c, m, n, k):
    c.about = "a linear layer in the form of quantizers: u8 activations, i8 weights with a scale a column"
    x = c.input("x", "f32", (m, k), times=4.0)
    q = c.value("u8", (m, k), f"quantize({x}, f32 0.03125, u8 128) {{to=u8}}", "main/QuantizeLinear_0")
    d = c.value("f32", (m, k), f"dequantize({q}, f32 0.03125, u8 128)", "main/DequantizeLinear_1")
    s = np.array([0.01 + 0.001 * (i % 7) for i in range(n)], F32)
    scale = c.value("f32", (n,), "const " + (f"[{', '.join(repr(float(v)) for v in s)}]" if n <= 16 else f'hex"{s.tobytes().hex()}"'))
    w = c.value("f32", (k, n), f"dequantize({c.weight('w', 'i8', (k, n))}, {scale}) {{axis=1}}", "main/DequantizeLinear_2")
    y = c.value("f32", (m, n), f"contract({d}, {w}) {{spec=\"mk,kn->mn\"}}", "main/MatMul_3")
    c.constant("sx", F32(0.03125))
    c.constant("zx", np.uint8(128))
    c.constant("sw", s)
    c.constant("zw", np.zeros(n, np.int8))
    c.node("QuantizeLinear", "x sx zx", "q")
    c.node("DequantizeLinear", "q sx zx", "d")
    c.node("DequantizeLinear", "w sw zw", "wd", axis=1)
    c.node("MatMul", "d wd", "y")
    real = np.abs(numpy_helper.to_array(c.weights[0]).astype(F32) * s)
    c.output("y", y, "f32", k + 3, (np.clip(np.abs(c.inputs["x"]), 0, 4) @ real).max())


def attention_mla_block(c, s, d, heads, nope, rope, rank, dv):
    c.about = "latent attention: keys and values come from one narrow normed projection, and heads share the rotated part of the key"
    half, dq = rope // 2, nope + rope
    x = c.input("x", "f32", (1, s, d))
    cos, sin = c.input("cos", "f32", (1, s, half)), c.input("sin", "f32", (1, s, half))
    v = lambda dims, op, at="": c.value("f32", dims, op, at)
    q = v((1, s, heads * dq), f"contract({x}, {c.weight('wq', 'f32', (d, heads * dq))}) {{spec=\"bsd,de->bse\"}}", "main/q_proj/MatMul")
    q = v((1, s, heads, dq), f"reshape({q})", "main/Reshape_0")
    q = v((1, heads, s, dq), f"transpose({q}) {{perm=[0,2,1,3]}}", "main/Transpose_1")
    qn = v((1, heads, s, nope), f"slice({q})", "main/Split_2")
    qr = v((1, heads, s, rope), f"slice({q}) {{starts=[0,0,0,{nope}]}}", "main/Split_2")
    qr = v((1, heads, s, rope), f"rotary({qr}, {cos}, {sin}) {{rotary_dims={rope}}}", "main/q_rope")
    q = v((1, heads, s, dq), f"concat({qn}, {qr}) {{axis=3}}", "main/Concat_3")
    kv = v((1, s, rank + rope), f"contract({x}, {c.weight('wkv', 'f32', (d, rank + rope))}) {{spec=\"bsd,de->bse\"}}", "main/kv_down/MatMul")
    latent = v((1, s, rank), f"slice({kv})", "main/Split_4")
    latent = v((1, s, rank), f"rms_norm({latent}, {c.weight('g', 'f32', (rank,))}) {{axis=2, eps=1e-5}}", "main/kv_norm")
    kr = v((1, s, rope), f"slice({kv}) {{starts=[0,0,{rank}]}}", "main/Split_4")
    kr = v((1, 1, s, rope), f"reshape({kr})", "main/Unsqueeze_5")
    kr = v((1, 1, s, rope), f"rotary({kr}, {cos}, {sin}) {{rotary_dims={rope}}}", "main/k_rope")
    kr = v((1, heads, s, rope), f"broadcast({kr})", "main/Expand_6")
    up = c.weight("wup", "f32", (rank, heads * (nope + dv)))
    kvu = v((1, s, heads * (nope + dv)), f"contract({latent}, {up}) {{spec=\"bsd,de->bse\"}}", "main/kv_up/MatMul")
    kvu = v((1, s, heads, nope + dv), f"reshape({kvu})", "main/Reshape_7")
    kvu = v((1, heads, s, nope + dv), f"transpose({kvu}) {{perm=[0,2,1,3]}}", "main/Transpose_8")
    kn = v((1, heads, s, nope), f"slice({kvu})", "main/Split_9")
    value = v((1, heads, s, dv), f"slice({kvu}) {{starts=[0,0,0,{nope}]}}", "main/Split_9")
    k = v((1, heads, s, dq), f"concat({kn}, {kr}) {{axis=3}}", "main/Concat_10")
    scale = float(F32(dq ** -0.5))
    o = v((1, heads, s, dv), f"attention({q}, {k}, {value}) {{scale={scale!r}, causal=true}}", "main/Attention_11")
    o = v((1, s, heads, dv), f"transpose({o}) {{perm=[0,2,1,3]}}", "main/Transpose_12")
    o = v((1, s, heads * dv), f"reshape({o})", "main/Reshape_13")
    y = v((1, s, d), f"contract({o}, {c.weight('wo', 'f32', (heads * dv, d))}) {{spec=\"bsd,de->bse\"}}", "main/o_proj/MatMul")

    i64 = lambda name, *a: c.constant(name, np.array(a, np.int64))
    i64("s_q", 1, s, heads, dq), i64("p_q", nope, rope), i64("p_r", half, half), i64("p_kv", rank, rope)
    i64("s_kv", 1, s, heads, nope + dv), i64("p_u", nope, dv), i64("s_o", 1, s, heads * dv), i64("one", 1), i64("s_r", 1, heads, s, rope)
    c.node("MatMul", "x wq", "q0"), c.node("Reshape", "q0 s_q", "q1"), c.node("Transpose", "q1", "q2", perm=[0, 2, 1, 3])
    c.node("Split", "q2 p_q", "qn qr", axis=3)
    c.node("MatMul", "x wkv", "kv0"), c.node("Split", "kv0 p_kv", "lat kr0", axis=2), c.node("Unsqueeze", "kr0 one", "kr")
    c.node("Unsqueeze", "cos one", "cos4"), c.node("Unsqueeze", "sin one", "sin4")
    for t in ("qr", "kr"):
        c.node("Split", f"{t} p_r", f"{t}a {t}b", axis=3)
        c.node("Mul", f"{t}a cos4", f"{t}ac"), c.node("Mul", f"{t}b sin4", f"{t}bs"), c.node("Sub", f"{t}ac {t}bs", f"{t}u")
        c.node("Mul", f"{t}b cos4", f"{t}bc"), c.node("Mul", f"{t}a sin4", f"{t}as"), c.node("Add", f"{t}bc {t}as", f"{t}v")
        c.node("Concat", f"{t}u {t}v", f"{t}o", axis=3)
    c.node("Expand", "kro s_r", "krx")
    c.node("Mul", "lat lat", "l2"), c.constant("mlast", np.array([2])), c.node("ReduceMean", "l2 mlast", "lm", keepdims=1)
    c.constant("eps", F32(1e-5)), c.node("Add", "lm eps", "le"), c.node("Sqrt", "le", "lr"), c.node("Div", "lat lr", "lu")
    c.node("Mul", "lu g", "ln"), c.node("MatMul", "ln wup", "up0"), c.node("Reshape", "up0 s_kv", "up1")
    c.node("Transpose", "up1", "up2", perm=[0, 2, 1, 3]), c.node("Split", "up2 p_u", "kn vv", axis=3)
    c.node("Concat", "qn qro", "qq", axis=3), c.node("Concat", "kn krx", "kk", axis=3)
    c.node("Transpose", "kk", "kt", perm=[0, 1, 3, 2]), c.node("MatMul", "qq kt", "sc"), c.constant("scale", F32(scale))
    c.node("Mul", "sc scale", "ss"), c.constant("mask", np.triu(np.full((s, s), -np.inf, F32), 1)), c.node("Add", "ss mask", "sm")
    c.node("Softmax", "sm", "pr", axis=3), c.node("MatMul", "pr vv", "ov"), c.node("Transpose", "ov", "ot", perm=[0, 2, 1, 3])
    c.node("Reshape", "ot s_o", "oo"), c.node("MatMul", "oo wo", "y")
    # Lengths add up along the way, twice for what passes the exponential; values and weights are below 1, a normed row below sqrt(rank).
    length = 2 * (2 * d + rank + dq) + s + heads * dv + 32
    c.output("y", y, "f32", length, float(rank) ** 0.5 * np.abs(numpy_helper.to_array(c.weights[3])).sum(0).max() + 1)


def experts(c, n, d, f, e, k):
    c.about = "experts over the rows that chose them, unrolled by an exporter: as many kernels and launches for any number of experts"
    c.symbols = [f"rows_{i} in 0..{n} result" for i in range(e)]
    x, scores = c.input("x", "f32", (n, d)), c.input("scores", "f32", (n, e))
    i64 = lambda name, *a: c.constant(name, np.array(a, np.int64))
    i64("k", k), i64("last", -1), i64("column", 1), c.constant("numbers", np.arange(e, dtype=np.int64)), i64("dims", n, d)
    number = lambda i: c.value("i64", (), f"const {i}")
    p, choice = (f"%{v}" for v in c.line([shape("f32", (n, k)), shape("i64", (n, k))], f"top_k({scores}) {{axis=1, k={k}}}", "main/TopK_0"))
    at = c.value("i64", (n, k, 1), f"reshape({choice})", "main/Unsqueeze_1")
    numbers = c.value("i64", (e,), f"const {list(range(e))}")
    hot = c.value("bool", (n, k, e), f"eq({at}, {numbers})", "main/Equal_2")
    masks = c.value("bool", (e, k, n), f"transpose({hot}) {{perm=[2,1,0]}}", "main/Transpose_3")
    sum_ = c.value("f32", (n, d), "fill {value=0.0}", "main/ConstantOfShape_4")
    c.node("TopK", "scores k", "p choice"), c.node("Unsqueeze", "choice last", "at"), c.node("Equal", "at numbers", "hot")
    c.node("Transpose", "hot", "masks", perm=[2, 1, 0]), c.node("ConstantOfShape", "dims", "sum0")
    for i in range(e):
        rows, path = f"rows_{i}", f"main/expert.{i}"
        mask = c.value("bool", (k, n), f"gather({masks}, {number(i)}) {{axis=0}}", f"{path}/Gather_0")
        hits = c.value("i64", (2, rows), f'non_zero({mask}) {{count="{rows}"}}', f"{path}/NonZero_1")
        slot = c.value("i64", (rows,), f"gather({hits}, {number(0)}) {{axis=0}}", f"{path}/Gather_2")
        top = c.value("i64", (rows,), f"gather({hits}, {number(1)}) {{axis=0}}", f"{path}/Gather_3")
        y = c.value("f32", (rows, d), f"gather({x}, {top}) {{axis=0}}", f"{path}/Gather_4")
        y = c.value("f32", (rows, f), f"contract({y}, {c.weight(f'up.{i}', 'f32', (d, f))}) {{spec=\"mk,kn->mn\"}}", f"{path}/MatMul_5")
        y = c.value("f32", (rows, f), f"tanh({y})", f"{path}/Tanh_6")
        y = c.value("f32", (rows, d), f"contract({y}, {c.weight(f'down.{i}', 'f32', (f, d))}) {{spec=\"mk,kn->mn\"}}", f"{path}/MatMul_7")
        to = c.value("i64", (rows, 1), f"reshape({top})", f"{path}/Unsqueeze_8")
        slot = c.value("i64", (rows, 1), f"reshape({slot})", f"{path}/Unsqueeze_9")
        of = c.value("i64", (rows, 2), f"concat({to}, {slot}) {{axis=1}}", f"{path}/Concat_10")
        w = c.value("f32", (rows,), f"gather_nd({p}, {of})", f"{path}/GatherND_11")
        w = c.value("f32", (rows, 1), f"reshape({w})", f"{path}/Unsqueeze_12")
        y = c.value("f32", (rows, d), f"mul({y}, {w})", f"{path}/Mul_13")
        sum_ = c.value("f32", (n, d), f"scatter_nd({sum_}, {to}, {y}) {{op=add}}", f"{path}/ScatterND_14")
        c.constant(f"n{i}", np.int64(i))
        c.node("Gather", f"masks n{i}", f"mask{i}", axis=0), c.node("NonZero", f"mask{i}", f"hits{i}")
        c.constant(f"a{i}", np.int64(0)), c.constant(f"b{i}", np.int64(1))
        c.node("Gather", f"hits{i} a{i}", f"slot{i}", axis=0), c.node("Gather", f"hits{i} b{i}", f"top{i}", axis=0)
        c.node("Gather", f"x top{i}", f"x{i}", axis=0), c.node("MatMul", f"x{i} up.{i}", f"h{i}"), c.node("Tanh", f"h{i}", f"t{i}")
        c.node("MatMul", f"t{i} down.{i}", f"y{i}"), c.node("Unsqueeze", f"top{i} column", f"to{i}"), c.node("Unsqueeze", f"slot{i} column", f"s{i}")
        c.node("Concat", f"to{i} s{i}", f"of{i}", axis=1), c.node("GatherND", f"p of{i}", f"w{i}"), c.node("Unsqueeze", f"w{i} column", f"wc{i}")
        c.node("Mul", f"y{i} wc{i}", f"yw{i}")
        c.node("ScatterND", f"sum{i} to{i} yw{i}", "y" if i + 1 == e else f"sum{i + 1}", reduction="add")
    # Sums of at most f terms below 1 for each choice, behind sums of d terms whose errors tanh does not enlarge.
    c.output("y", sum_, "f32", d + f + 16, k * f * (d + 1))


CORE = {
    relu: [(16, 64), (7, 13), (1, 1)],
    add_broadcast: [(8, 32), (7, 13), (1, 1)],
    cast_f16: [(16, 32), (7, 13), (1, 1)],
    transpose: [(4, 16, 16), (3, 7, 13), (1, 1, 1)],
    gather: [(32, 16, 8), (11, 7, 5), (1, 1, 1)],
    reduce_sum: [(16, 64), (7, 37), (1, 1)],
    softmax: [(8, 64), (5, 37), (1, 1)],
    rms_norm: [(8, 64), (5, 37), (1, 1)],
    matmul: [(16, 32, 64), (7, 13, 131), (1, 1, 1)],
    conv_bn_relu: [(8, 16, 8, 3), (17, 5, 7, 3), (1, 1, 1, 1)],
    qdq_linear: [(16, 16, 64), (7, 13, 131), (1, 1, 1)],
    attention_mla_block: [(8, 32, 2, 8, 8, 16, 8), (5, 23, 3, 7, 6, 11, 5), (1, 1, 1, 1, 2, 1, 1)],
    experts: [(8, 16, 32, 4, 2), (5, 7, 13, 3, 2), (1, 1, 1, 2, 1)],
}


def text(array):
    def one(v):
        v = array.dtype.type(v)
        if np.isnan(v):
            return "nan"
        return str(v) if array.dtype.kind in "iu" else np.format_float_positional(v, unique=True, trim="-") if 1e-4 <= abs(float(v)) < 1e7 else str(v)
    flat = [one(v) for v in array.reshape(-1)]
    rows, row = [], ""
    for v in flat:
        if row and len(row) + len(v) > 118:
            rows.append(row)
            row = ""
        row = f"{row} {v}" if row else v
    return rows + ([row] if row else [])


def main():
    wanted = sys.argv[1:]
    for build, sizes in CORE.items():
        name = build.__name__
        if wanted and name not in wanted:
            continue
        for size, numbers in zip(SIZES, sizes):
            c = Case(name, size)
            build(c, *numbers)
            stem = f"{name}-{size}"
            (HERE / f"{stem}.graph").write_text("\n".join([f"# {c.about}", f'graph "{name}"' + (f" symbols {', '.join(c.symbols)}" if c.symbols else "")] + c.lines) + "\n")
            out = [f"# {stem}: ONNX Runtime {ort.__version__}, optimizations off; written by gen.py"]
            out += [f"input {n} " + " ".join(f"{k} {v}" for k, v in side.items()) for n, side in c.sides.items()]
            for (o, dtype, length, scale), a in zip(c.outputs, c.run()):
                want = {"f32": F32, "f16": np.float16}[dtype]
                assert a.dtype == want, (stem, o, a.dtype)
                out.append(f"output {o} {shape(dtype, a.shape)} length {length} scale {float(F32(scale))!r}")
                out += text(a)
            (HERE / f"{stem}.expect").write_text("\n".join(out) + "\n")


main()
