# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Writes the cases beside this file: forms of operators that the ONNX suite has no case of, with the results of ONNX Runtime's CPU provider.

    python3 gen.py

Needs the wheels onnx, onnxruntime and numpy.
"""
import os

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper as h, numpy_helper as nh

OUT = os.path.dirname(os.path.abspath(__file__))
rng = np.random.default_rng(0)


def f(*s):
    return rng.standard_normal(s).astype(np.float32)


def case(name, op, inputs, outputs, domain="", opset=20, fixed=(), **attrs):
    """`outputs` are dtypes of ONNX by number; inputs of the numbers in `fixed` are constants."""
    names, feeds, graph_inputs, constants = [], {}, [], []
    for i, a in enumerate(inputs):
        names.append("" if a is None else f"i{i}")
        if a is None:
            continue
        if i in fixed:
            constants.append(nh.from_array(a, f"i{i}"))
            continue
        graph_inputs.append(h.make_tensor_value_info(f"i{i}", h.np_dtype_to_tensor_dtype(a.dtype), list(a.shape)))
        feeds[f"i{i}"] = a
    outs = [f"o{i}" for i in range(len(outputs))]
    node = h.make_node(op, names, outs, domain=domain, **attrs)
    infos = [h.make_tensor_value_info(o, t, None) for o, t in zip(outs, outputs)]
    g = h.make_graph([node], "g", graph_inputs, infos, constants)
    opsets = [h.make_opsetid("", opset), h.make_opsetid("ai.onnx.ml", 5 if op == "TreeEnsemble" else 3)]
    m = h.make_model(g, opset_imports=opsets, ir_version=9)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(m.SerializeToString(), options, providers=["CPUExecutionProvider"])
    results = session.run(None, feeds)
    data = f"{OUT}/{name}/test_data_set_0"
    os.makedirs(data, exist_ok=True)
    onnx.save(m, f"{OUT}/{name}/model.onnx")
    for i, (k, v) in enumerate(feeds.items()):
        with open(f"{data}/input_{i}.pb", "wb") as to:
            to.write(nh.from_array(v, k).SerializeToString())
    for i, v in enumerate(results):
        with open(f"{data}/output_{i}.pb", "wb") as to:
            to.write(nh.from_array(v, outs[i]).SerializeToString())


ML = "ai.onnx.ml"
sv = f(4, 3)
two = dict(classlabels_ints=[5, 9], support_vectors=sv.ravel().tolist(), vectors_per_class=[2, 2], rho=[0.05])
three = dict(classlabels_ints=[5, 9, 7], support_vectors=sv.ravel().tolist(), vectors_per_class=[2, 1, 1], rho=[0.05, -0.1, 0.2])
weights = [0.5, 0.7, -0.6, -0.6]
more = weights + [0.3, -0.2, 0.9, 0.1]
svc = lambda name, **a: case(name, "SVMClassifier", [f(6, 3)], [7, 1], ML, **a)
svc("svc_rbf", coefficients=weights, kernel_type="RBF", kernel_params=[0.4, 0.0, 3.0], **two)
svc("svc_logistic", coefficients=weights, kernel_type="LINEAR", kernel_params=[0.0, 0.0, 0.0], post_transform="LOGISTIC", **two)
svc("svc_probability", coefficients=weights, kernel_type="POLY", kernel_params=[0.4, 1.0, 3.0], prob_a=[-2.0], prob_b=[0.1], **two)
svc("svc_three", coefficients=more, kernel_type="SIGMOID", kernel_params=[0.4, 0.5, 3.0], post_transform="SOFTMAX", **three)
svc("svc_three_probability", coefficients=more, kernel_type="RBF", kernel_params=[0.4, 0.0, 3.0], prob_a=[-2.0, -1.0, -0.5], prob_b=[0.1, 0.2, 0.0], **three)
k = 6
svc("svc_six_probability", classlabels_ints=list(range(k)), support_vectors=f(k, 3).ravel().tolist(), vectors_per_class=[1] * k, rho=f(15).tolist(),
    coefficients=f(5 * k).tolist(), kernel_type="RBF", kernel_params=[0.2, 0.0, 3.0], prob_a=(-1 - f(15) ** 2).tolist(), prob_b=f(15).tolist())
svr = dict(coefficients=[1.0, 2.0, 3.0, -1.0], rho=[0.5], n_supports=4, support_vectors=sv.ravel().tolist())
case("svr_poly", "SVMRegressor", [f(5, 3)], [1], ML, kernel_type="POLY", kernel_params=[0.4, 1.0, 3.0], **svr)
case("svr_one_class", "SVMRegressor", [f(5, 3)], [1], ML, kernel_type="RBF", kernel_params=[0.4, 1.0, 3.0], one_class=1, **{**svr, "rho": [-2.0]})


def forest(name, values, modes, **attrs):
    """Two trees of one node each over two features, with a leaf for each of two targets."""
    case(name, "TreeEnsembleRegressor", [np.array([[0, 1], [2, np.nan], [1, 3], [-1, 0]], np.float32)], [1], ML, n_targets=2,
         nodes_treeids=[0, 0, 0, 1, 1, 1], nodes_nodeids=[0, 1, 2, 0, 1, 2], nodes_featureids=[0, 0, 0, 1, 0, 0], nodes_values=values,
         nodes_modes=modes, nodes_truenodeids=[1, 0, 0, 1, 0, 0], nodes_falsenodeids=[2, 0, 0, 2, 0, 0],
         nodes_missing_value_tracks_true=[0, 0, 0, 1, 0, 0], target_treeids=[0, 0, 1, 1], target_nodeids=[1, 2, 1, 2],
         target_ids=[0, 1, 0, 0], target_weights=[1.5, -2.0, 3.0, 4.0], **attrs)


leaf = ["LEAF", "LEAF"]
forest("trees_modes", [1.0, 0.0, 0.0, 1.0, 0.0, 0.0], ["BRANCH_LT"] + leaf + ["BRANCH_GTE"] + leaf)
forest("trees_min", [1.0, 0.0, 0.0, 1.0, 0.0, 0.0], ["BRANCH_LEQ"] + leaf + ["BRANCH_LEQ"] + leaf, aggregate_function="MIN")
forest("trees_max", [1.0, 0.0, 0.0, 1.0, 0.0, 0.0], ["BRANCH_GT"] + leaf + ["BRANCH_GT"] + leaf, aggregate_function="MAX", base_values=[10.0, 20.0])

rois = np.array([[0, 0, 9, 5], [2.5, 1, 4, 8.5], [-3, 2, 20, 3]], np.float32)
at = np.array([1, 0, 1], np.int64)
for mode in ("output_half_pixel", "half_pixel"):
    case(f"roialign_adaptive_{mode}", "RoiAlign", [f(2, 3, 8, 10), rois, at], [1], opset=16, output_height=2, output_width=3,
         spatial_scale=0.75, coordinate_transformation_mode=mode)
case("roialign_10", "RoiAlign", [f(2, 3, 8, 10), rois, at], [1], opset=10, output_height=2, output_width=2, sampling_ratio=2)
rows = np.array([[2, 1, 0], [1, 5, 5], [2, 1, 0], [1, 0, 5], [1, 5, 5]], np.float32)
case("unique_rows_unsorted", "Unique", [rows], [1, 7, 7, 7], axis=0, sorted=0)
case("det_six", "Det", [f(2, 6, 6)], [1])
case("det_singular", "Det", [np.array([[0, 2, 1], [0, 1, 5], [0, 3, 3]], np.float32)], [1])
x = np.array([[1, 2, 2, 3, 1, 2], [7, 1, 2, 9, 3, 3]], np.int64)
for mode in ("TF", "IDF", "TFIDF"):
    case(f"tfidf_{mode.lower()}", "TfIdfVectorizer", [x], [1], mode=mode, min_gram_length=1, max_gram_length=3, max_skip_count=1,
         ngram_counts=[0, 3, 7], ngram_indexes=[0, 3, 1, 2, 4, 5], pool_int64s=[1, 2, 9, 1, 2, 2, 3, 1, 2, 3], weights=[0.5, 1.0, 2.0, 3.0, 4.0, 5.0])
case("resize_crop", "Resize", [f(1, 2, 5, 6), np.array([0, 0, 0.1, 0.2, 1, 1, 0.9, 1.3], np.float32), None, np.array([1, 2, 4, 5], np.int64)],
     [1], opset=19, fixed=(3,), mode="linear", coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=-1.0)

info = lambda n: h.make_tensor_value_info(n, 1, [2])
body = h.make_graph([h.make_node("Add", ["s", "n"], ["t"]), h.make_node("Mul", ["t", "n"], ["u"])], "body", [info("s"), info("n")], [info("t"), info("u")])
steps = [f(2, 2), f(2, 3, 2)]
case("scan_8_lengths", "Scan", [np.array([3, 1], np.int64)] + steps, [1, 1], opset=8, num_scan_inputs=1, body=body)
case("scan_8_reverse", "Scan", [None] + steps, [1, 1], opset=8, num_scan_inputs=1, body=body, directions=[1])
case("deform_conv", "DeformConv", [f(2, 4, 7, 6), f(6, 2, 3, 2), f(2, 24, 3, 5), f(6), f(2, 12, 3, 5)], [1], group=2, offset_group=2,
     kernel_shape=[3, 2], strides=[2, 1], dilations=[1, 2], pads=[1, 0, 0, 1])

boxes = np.array([[0, 1, 1, 7, 6], [1, 2.5, 0, 4, 3.2], [0, -3, 2, 20, 3], [1, 9, 9, 30, 30]], np.float32)
case("max_roi_pool", "MaxRoiPool", [f(2, 3, 8, 10), boxes], [1], opset=11, pooled_shape=[2, 3], spatial_scale=0.75)
for p in (1, 2, 3):
    case(f"global_lp_pool_{p}", "GlobalLpPool", [f(2, 3, 4, 5)], [1], opset=11, p=p)

# ---- classical models ----
rows = f(4, 3)
rows[2] = 0
case("scaler_columns", "Scaler", [rows], [1], ML, offset=[0.5, -1.0, 2.0], scale=[1.0, 0.5, 3.0])
case("scaler_one", "Scaler", [rows.astype(np.float64)], [1], ML, offset=[0.5], scale=[3.0])
case("scaler_integers", "Scaler", [np.array([[1, 2, 3]], np.int64)], [1], ML, offset=[0.5, 1.0, 2.0], scale=[0.1, 0.2, 0.3])
for norm in ("MAX", "L1", "L2"):
    case(f"normalizer_{norm.lower()}", "Normalizer", [rows], [1], ML, norm=norm)
case("normalizer_list", "Normalizer", [np.array([1, -2, 3], np.int64)], [1], ML, norm="L1")
for post in ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"):
    case(f"linear_three_{post.lower()}", "LinearClassifier", [rows], [7, 1], ML, classlabels_ints=[4, 7, 2], coefficients=f(9).tolist(),
         intercepts=f(3).tolist(), post_transform=post)
    case(f"linear_two_{post.lower()}", "LinearClassifier", [rows], [7, 1], ML, classlabels_ints=[4, 7], coefficients=f(3).tolist(),
         intercepts=f(1).tolist(), post_transform=post)
case("linear_pair", "LinearClassifier", [rows], [7, 1], ML, classlabels_ints=[0, 1], coefficients=f(6).tolist(), intercepts=f(2).tolist())
case("linear_integers", "LinearClassifier", [np.array([[1, 2], [-1, 3]], np.int64)], [7, 1], ML, classlabels_ints=[0, 1, 2],
     coefficients=f(6).tolist(), intercepts=f(3).tolist(), multi_class=1)
case("regressor_two", "LinearRegressor", [rows], [1], ML, coefficients=f(6).tolist(), targets=2)
case("regressor_softmax", "LinearRegressor", [rows], [1], ML, coefficients=f(6).tolist(), intercepts=f(2).tolist(), targets=2, post_transform="SOFTMAX")
case("features_of_list", "ArrayFeatureExtractor", [f(5), np.array([[3, 0]], np.int64)], [1], ML)
case("features_of_planes", "ArrayFeatureExtractor", [f(2, 3, 4), np.array([1, 1, 3], np.int64)], [1], ML)
case("features_of_integers", "ArrayFeatureExtractor", [rng.integers(0, 9, (3, 4)), np.array([2], np.int64)], [7], ML)
case("binarizer", "Binarizer", [rows], [1], ML, threshold=0.2)


def classes(name, weights, ids, labels, **attrs):
    """Two trees of one node each over three features."""
    case(name, "TreeEnsembleClassifier", [f(6, 3)], [7, 1], ML, classlabels_int64s=labels,
         nodes_treeids=[0, 0, 0, 1, 1, 1], nodes_nodeids=[0, 1, 2, 0, 1, 2], nodes_featureids=[0, 0, 0, 2, 0, 0], nodes_values=[0.1, 0, 0, -0.2, 0, 0],
         nodes_modes=["BRANCH_LEQ"] + leaf + ["BRANCH_LEQ"] + leaf, nodes_truenodeids=[1, 0, 0, 1, 0, 0], nodes_falsenodeids=[2, 0, 0, 2, 0, 0],
         class_treeids=[0, 0, 1, 1], class_nodeids=[1, 2, 1, 2], class_ids=ids, class_weights=weights, **attrs)


for post in ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT"):
    classes(f"classes_three_{post.lower()}", [0.1, 0.3, 0.2, 0.15], [0, 1, 2, 0], [5, 3, 9], post_transform=post)
    if post != "PROBIT":
        classes(f"classes_two_{post.lower()}", [0.4, -0.6, 0.2, 0.3], [0, 0, 0, 0], [5, 3], post_transform=post)
classes("classes_positive", [0.4, 0.6, 0.2, 0.3], [0, 0, 0, 0], [5, 3])
classes("classes_base", [0.4, -0.6, 0.2, 0.3], [0, 1, 2, 1], [5, 3, 9], base_values=[0.1, 0.2, -0.3])
