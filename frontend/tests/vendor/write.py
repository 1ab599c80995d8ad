# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Writes cases of one node each: model, inputs, and the results of ONNX Runtime's CPU provider or of a formula.

Needs the wheels onnx, onnxruntime and numpy.
"""
import os

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper as h, numpy_helper as nh

OUT = os.path.dirname(os.path.abspath(__file__))


def run(model, feeds, shared=()):
    """What ONNX Runtime's CPU provider gives, as a list. `shared` has an output and the input whose buffer it writes."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    if not shared:
        return session.run(None, feeds)
    binding = session.io_binding()
    values = {k: ort.OrtValue.ortvalue_from_numpy(v) for k, v in feeds.items()}
    for k, v in values.items():
        binding.bind_ortvalue_input(k, v)
    for o in session.get_outputs():
        if o.name in dict(shared):
            binding.bind_ortvalue_output(o.name, values[dict(shared)[o.name]])
        else:
            binding.bind_output(o.name)
    session.run_with_iobinding(binding)
    return [v.copy() for v in binding.copy_outputs_to_cpu()]


def case(name, op, inputs, outputs, constants=(), domain="com.microsoft", version=21, results=None, folder=OUT, imports=None, shared=(), **attrs):
    """One node. `inputs` are arrays or `None`; those of the numbers in `constants` are initializers. `outputs` has an ONNX dtype or `None`
    for each output. `results` are the expected ones; without them ONNX Runtime computes them. Returns them."""
    names, feeds, graph_inputs, initializers = [], {}, [], []
    for i, a in enumerate(inputs):
        names.append("" if a is None else f"i{i}")
        if a is None:
            continue
        t = a if isinstance(a, onnx.TensorProto) else nh.from_array(a, f"i{i}")
        t.name = f"i{i}"
        if i in constants:
            initializers.append(t)
        else:
            graph_inputs.append(h.make_tensor_value_info(t.name, t.data_type, list(t.dims)))
            feeds[t.name] = t
    outs = ["" if t is None else f"o{i}" for i, t in enumerate(outputs)]
    node = h.make_node(op, names, outs, domain=domain, **attrs)
    infos = [h.make_tensor_value_info(o, t, None) for o, t in zip(outs, outputs) if o]
    g = h.make_graph([node], "g", graph_inputs, infos, initializers)
    opsets = imports or [h.make_opsetid("", version)] + ([h.make_opsetid(domain, 1)] if domain else [])
    m = h.make_model(g, opset_imports=opsets, ir_version=10)
    if results is None:
        try:
            results = run(m, {k: nh.to_array(v) for k, v in feeds.items()}, shared)
        except Exception as e:
            raise SystemExit(f"{name}: {e}")
    data = f"{folder}/{name}/test_data_set_0"
    os.makedirs(data, exist_ok=True)
    onnx.save(m, f"{folder}/{name}/model.onnx")
    for i, v in enumerate(feeds.values()):
        with open(f"{data}/input_{i}.pb", "wb") as to:
            to.write(v.SerializeToString())
    for i, (v, o) in enumerate(zip(results, [o for o in outs if o])):
        t = v if isinstance(v, onnx.TensorProto) else nh.from_array(np.array(v, order="C"), o)
        t.name = o
        with open(f"{data}/output_{i}.pb", "wb") as to:
            to.write(t.SerializeToString())
    return results
