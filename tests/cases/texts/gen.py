# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Writes the cases beside this file: texts and sequences, with the results of ONNX Runtime's CPU provider.

    python3 gen.py

Needs the wheels onnx, onnxruntime and numpy.
"""
import os

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto as T, helper as h, numpy_helper as nh

OUT = os.path.dirname(os.path.abspath(__file__))
rng = np.random.default_rng(0)


def texts(*rows):
    return np.array(rows, dtype=object)


def dtype(a):
    return T.STRING if a.dtype == object else h.np_dtype_to_tensor_dtype(a.dtype)


def save(path, value, name):
    if isinstance(value, list):
        data = nh.from_list(value, name).SerializeToString()
    else:
        data = nh.from_array(value, name).SerializeToString()
    with open(path, "wb") as to:
        to.write(data)


def case(name, nodes, feeds, outputs, opset=20):
    """`feeds` are arrays by name, `outputs` dtypes by name (of sequences the type)."""
    inputs = [h.make_tensor_value_info(k, dtype(v), list(v.shape)) for k, v in feeds.items()]
    infos = [h.make_value_info(k, t) if not isinstance(t, int) else h.make_tensor_value_info(k, t, None) for k, t in outputs.items()]
    graph = h.make_graph(nodes, "g", inputs, infos)
    opsets = [h.make_opsetid("", opset), h.make_opsetid("ai.onnx.ml", 3), h.make_opsetid("com.microsoft", 1)]
    model = h.make_model(graph, opset_imports=opsets, ir_version=9)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    results = session.run(None, feeds)
    data = f"{OUT}/{name}/test_data_set_0"
    os.makedirs(data, exist_ok=True)
    onnx.save(model, f"{OUT}/{name}/model.onnx")
    for i, (k, v) in enumerate(feeds.items()):
        save(f"{data}/input_{i}.pb", v, k)
    for i, (k, v) in enumerate(zip(outputs, results)):
        save(f"{data}/output_{i}.pb", np.asarray(v) if not isinstance(v, list) else v, k)


def node(op, inputs, outputs, domain="", **attrs):
    return h.make_node(op, inputs, outputs, domain=domain, **attrs)


def one(name, op, arrays, outputs, domain="", opset=20, **attrs):
    feeds = {f"i{i}": a for i, a in enumerate(arrays)}
    case(name, [node(op, list(feeds), [f"o{i}" for i in range(len(outputs))], domain, **attrs)], feeds,
         {f"o{i}": t for i, t in enumerate(outputs)}, opset)


S, ML, MS = T.STRING, "ai.onnx.ml", "com.microsoft"
words = texts("Apfel", "straße", "ÉCOLE", "", "naïve", "Ωμέγα", "日本語", "a b  c", " tab\there ", "x")

# ---- numbers and texts ----
floats = np.array([0.1, -1, 1e5, 12345678, 123456789, 0.0009765625, 2**-17, 0.5, 3.25, -0.0, 1e30, 2.5e-30, 16777216, 100, 7], np.float32)
one("cast_f32_text", "Cast", [floats], [S], to=S)
one("cast_special_text", "Cast", [np.array([np.nan, np.inf, -np.inf], np.float32)], [S], to=S)
one("cast_f16_text", "Cast", [np.array([0.5, 1.5, -2, 1000], np.float16)], [S], to=S)
one("cast_f64_text", "Cast", [np.array([0.5, -3.25, 1e16, 1e17, 65536], np.float64)], [S], to=S)
one("cast_i64_text", "Cast", [np.array([0, -1, 2**63 - 1, -(2**63), 42], np.int64)], [S], to=S)
one("cast_u8_text", "Cast", [np.array([0, 7, 255], np.uint8)], [S], to=S)
one("cast_u64_text", "Cast", [np.array([0, 2**64 - 1], np.uint64)], [S], to=S)
one("cast_bool_text", "Cast", [np.array([True, False])], [S], to=S)
numbers = texts("3.14", "1e-5", "1E8", "-0", "+INF", "-INF", "NaN", "inf", "nan", "0.1", "123456789", "1e-45", "3.4028235e38", " 7", "16777217")
one("cast_text_f32", "Cast", [numbers], [T.FLOAT], to=T.FLOAT)
one("cast_text_f64", "Cast", [texts("3.14", "1e-300", "1.7976931348623157e308", "0.1", "9007199254740993", "-2.5")], [T.DOUBLE], to=T.DOUBLE)
one("cast_text_i64", "Cast", [texts("0", "-17", "9223372036854775807", "-9223372036854775808", "+5")], [T.INT64], to=T.INT64)
one("cast_text_i32", "Cast", [texts("12", "-7")], [T.INT32], to=T.INT32)
one("cast_text_f16", "Cast", [texts("0.5", "-1.25", "1000")], [T.FLOAT16], to=T.FLOAT16)
case("cast_there_and_back", [node("Cast", ["x"], ["s"], to=S), node("Cast", ["s"], ["y"], to=T.FLOAT)],
     {"x": np.array([[1, 2], [3, 4.5]], np.float32)}, {"s": S, "y": T.FLOAT})

# ---- operators on characters ----
one("concat", "StringConcat", [words.reshape(2, 5), texts("!", "?", "", "ß", "本")], [S])
one("split_spaces", "StringSplit", [texts("a b  c", "", " x ", "日 本")], [S, T.INT64])
one("split_commas", "StringSplit", [texts("a,b,,c", ",", "abc")], [S, T.INT64], delimiter=",", maxsplit=2)
one("full_match", "RegexFullMatch", [texts("www.google.com", "www.bbc.co.uk", "x", "", "a1", "WWW.a.com")], [T.BOOL], pattern=r"(?i)www\.[\w.-]+\.\bcom\b|a\d?")
for action in ("LOWER", "UPPER", "NONE"):
    one(f"normalize_{action.lower()}", "StringNormalizer", [texts("Apfel", "BIRNE", "x", "École")], [S], opset=10, case_change_action=action,
        stopwords=["x", "birne"], is_case_sensitive=0, locale="C.UTF-8")
one("normalize_all_gone", "StringNormalizer", [texts("x", "y")], [S], opset=10, case_change_action="NONE", stopwords=["x", "y"], is_case_sensitive=1, locale="C.UTF-8")
one("tokenize_separators", "Tokenizer", [texts("a b,c", "d", ",,")], [S], MS, mark=1, pad_value="#", mincharnum=1, separators=[" ", ","])
one("tokenize_expression", "Tokenizer", [texts("ab12c", "7", "zz")], [S], MS, mark=0, pad_value="-", mincharnum=1, tokenexp="[a-z]+|[0-9]+")
one("tokenize_characters", "Tokenizer", [texts("añb", "日", "")], [S], MS, mark=0, pad_value="_", mincharnum=1, separators=[""])

# ---- texts as numbers ----
one("labels_to_numbers", "LabelEncoder", [texts("b", "a", "?", "c")], [T.INT64], ML, keys_strings=["a", "b", "c"], values_int64s=[5, 7, 9], default_int64=-3)
one("labels_to_texts", "LabelEncoder", [np.array([9, 5, 1], np.int64)], [S], ML, keys_int64s=[5, 9], values_strings=["fünf", "neun"], default_string="?")
one("labels_texts_to_texts", "LabelEncoder", [texts("b", "x")], [S], ML, keys_strings=["a", "b"], values_strings=["A", "B"], default_string="none")
one("category", "CategoryMapper", [texts("b", "z", "a")], [T.INT64], ML, cats_strings=["a", "b"], cats_int64s=[1, 2], default_int64=-1)
one("one_hot", "OneHotEncoder", [texts("b", "a", "z")], [T.FLOAT], ML, cats_strings=["a", "b", "c"], zeros=1)
one("ngrams", "TfIdfVectorizer", [texts("a", "b", "a", "c")], [T.FLOAT], mode="TF", min_gram_length=1, max_gram_length=2, max_skip_count=0,
    ngram_counts=[0, 2], ngram_indexes=[0, 1, 2], pool_strings=["a", "b", "a", "b"])
one("equal", "Equal", [texts("a", "b", ""), texts("a", "c", "")], [T.BOOL])
one("where", "Where", [np.array([True, False, True]), texts("a", "b", "c"), texts("x", "y", "z")], [S])
one("gather", "Gather", [words, np.array([[0, -1], [3, 2]], np.int64)], [S])
case("concat_reshape", [node("Concat", ["a", "b"], ["c"], axis=0), node("Reshape", ["c", "s"], ["y"]), node("Transpose", ["y"], ["z"])],
     {"a": texts("a", "b"), "b": texts("c", "a"), "s": np.array([2, 2], np.int64)}, {"z": S})
one("unique", "Unique", [texts("b", "a", "b", "c")], [S, T.INT64, T.INT64, T.INT64], sorted=1)

# ---- sequences ----
sequence = lambda t: h.make_sequence_type_proto(h.make_tensor_type_proto(t, None))
f = lambda *s: rng.standard_normal(s).astype(np.float32)
number = lambda n, name: node("Constant", [], [name], value=nh.from_array(np.array(n, np.int64), name))
case("sequence_edit", [number(-1, "last"), number(0, "first"), node("SequenceConstruct", ["a", "b"], ["s"]), node("SequenceInsert", ["s", "c", "first"], ["t"]),
                       node("SequenceErase", ["t", "last"], ["u"]), node("SequenceLength", ["u"], ["n"]), node("SequenceAt", ["u", "last"], ["e"])],
     {"a": f(2, 3), "b": f(1, 3), "c": f(4)}, {"u": sequence(T.FLOAT), "n": T.INT64, "e": T.FLOAT})
case("sequence_split", [node("SplitToSequence", ["x"], ["s"], axis=1, keepdims=0), node("ConcatFromSequence", ["s"], ["y"], axis=0, new_axis=1)],
     {"x": f(3, 4)}, {"y": T.FLOAT, "s": sequence(T.FLOAT)})
case("sequence_of_texts", [node("SequenceConstruct", ["a", "b"], ["s"]), node("ConcatFromSequence", ["s"], ["y"], axis=0)],
     {"a": texts("x", "ß"), "b": texts("", "日本")}, {"y": S, "s": sequence(S)})
one("unique_rows", "Unique", [texts("b", "a", "b", "a", "a", "z", "b", "a").reshape(4, 2)], [S, T.INT64, T.INT64, T.INT64], axis=0, sorted=1)
one("unique_unsorted", "Unique", [texts("b", "", "ß", "b", "", "ab")], [S, T.INT64, T.INT64, T.INT64], sorted=0)
