#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Write the ONNX backend test suite of the installed `onnx` wheel as folders that `portwright suite` takes.

    suite_data.py OUT [--only GLOB]

OUT/KIND/CASE/ gets model.onnx, tol.json (rtol and atol) and test_data_set_N/{input,output}_M.pb, where KIND is node, simple,
pytorch-operator, pytorch-converted or light. Everything comes from the wheel: nothing is downloaded. OUT is replaced as a
whole when all cases are written; OUT/SUITE says from which version of `onnx`.

Cases of kind `node` and some of `simple` are Python code in the wheel: they are written by running it. The others are files
there; the inputs of `light` models are the seeded ones of onnx's own runner.
"""
import argparse
import fnmatch
import json
import pathlib
import shutil
import sys
import warnings

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx.backend.test.case.model import collect_testcases
from onnx.backend.test.loader import load_model_tests, load_node_model_tests
from onnx.backend.test.runner import Runner

SHIPPED = ("simple", "pytorch-operator", "pytorch-converted")


def encode(value, info):
    """The protobuf message for one input or output of a case."""
    kind = info.type.WhichOneof("value")
    if kind == "map_type":
        return numpy_helper.from_dict(value, info.name)
    if kind == "sequence_type":
        return numpy_helper.from_list(value, info.name)
    if kind == "optional_type":
        return numpy_helper.from_optional(value, info.name)
    if isinstance(value, TensorProto):
        return value
    return numpy_helper.from_array(np.asarray(value), info.name)


def write_tolerance(folder, case):
    (folder / "tol.json").write_text(json.dumps({"rtol": case.rtol, "atol": case.atol}))


def write_case(folder, case):
    """A case that is Python code: its model and its data sets are in memory."""
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(case.model.SerializeToString())
    write_tolerance(folder, case)
    for number, (inputs, outputs) in enumerate(case.data_sets):
        data = folder / f"test_data_set_{number}"
        data.mkdir()
        for role, values, infos in (("input", inputs, case.model.graph.input), ("output", outputs, case.model.graph.output)):
            for index, value in enumerate(values):
                (data / f"{role}_{index}.pb").write_bytes(encode(value, infos[index]).SerializeToString())


def write_light(folder, case, package):
    """A model with weights of one value each; the wheel has its outputs, the runner makes its inputs."""
    source = package.parent / case.url
    data = folder / "test_data_set_0"
    data.mkdir(parents=True)
    shutil.copy(source, folder / "model.onnx")
    write_tolerance(folder, case)
    graph = onnx.load(source, load_external_data=False).graph
    weights = {weight.name for weight in graph.initializer}
    inputs = [info for info in graph.input if info.name not in weights]
    for index, info in enumerate(inputs):
        value = Runner.generate_dummy_data(info, seed=0, name=case.model_name, random=False)
        (data / f"input_{index}.pb").write_bytes(numpy_helper.from_array(value, info.name).SerializeToString())
    for index in range(len(graph.output)):
        shutil.copy(source.with_name(f"{source.stem}_output_{index}.pb"), data / f"output_{index}.pb")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--only", default="*", metavar="GLOB", help="cases whose name matches")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", RuntimeWarning)  # cases that divide by zero do so on purpose
    package = pathlib.Path(onnx.__file__).parent
    out = arguments.out.resolve()
    fresh = out.with_name(out.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)

    counts, faults = {}, []

    def put(kind, case, write):
        folder = fresh / kind / case.name
        if not fnmatch.fnmatch(case.name, arguments.only) or folder.exists():
            return
        try:
            write(folder, case)
        except Exception as error:  # one case that cannot be written must not cost the rest; it is reported and counted
            shutil.rmtree(folder, ignore_errors=True)
            faults.append(f"{kind}/{case.name}: {error!r}")
            return
        counts[kind] = counts.get(kind, 0) + 1

    def copy(folder, case):
        shutil.copytree(case.model_dir, folder)
        write_tolerance(folder, case)

    for kind in SHIPPED:
        for case in load_model_tests(kind=kind):
            if case.model_dir is not None:
                put(kind, case, copy)
    for case in load_node_model_tests():
        put("node", case, write_case)
    for case in collect_testcases():
        if case.kind == "simple":
            put("simple", case, write_case)
    for case in load_model_tests(kind="real"):
        put("light", case, lambda folder, case: write_light(folder, case, package))

    if not counts:
        sys.exit(f"no case matches {arguments.only}")
    summary = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
    (fresh / "SUITE").write_text(f"onnx {onnx.__version__}: {sum(counts.values())} cases: {summary}\n")
    shutil.rmtree(out, ignore_errors=True)
    fresh.rename(out)
    for fault in faults:
        print(f"not written: {fault}", file=sys.stderr)
    print((out / "SUITE").read_text(), end="")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
