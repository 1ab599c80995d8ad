#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Times bundles against ONNX Runtime on a folder of models, in turns, and prints a table.

    bench/zoo.py PORTWRIGHT ZOO [--threads N] [--rounds R] [--models a,b,c] [--only-check]

ZOO has folders with model.onnx and CASE.inputs.npz / CASE.outputs.npz. Needs numpy and onnxruntime. A row says how long the first
case takes at best, how many times as fast as ONNX Runtime that is (median of the rounds), how far the outputs of all cases are from the
expected ones (relative L2), and what compiling took.
"""
import argparse
import glob
import json
import os
import statistics
import subprocess
import tempfile
import time

import numpy as np


def run(tool, *args):
    return subprocess.run([tool, "-q", *args], capture_output=True, text=True)


def error(tool, bundle, case, out):
    r = run(tool, "run", bundle, "--inputs", case, "--outputs", out)
    if r.returncode:
        return None, r.stderr.strip().splitlines()[:1]
    got, want = np.load(out), np.load(case.replace(".inputs.", ".outputs."))
    worst = 0.0
    for k in want.files:
        if want[k].dtype.kind in "US":
            continue
        a, b = got[k].astype(np.float64), want[k].astype(np.float64)
        if a.shape != b.shape:
            return float("inf"), None
        worst = max(worst, float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-30)))
    return worst, None


def ort_best(session, feeds, seconds):
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        t = time.perf_counter_ns()
        session.run(None, feeds)
        best = min(best, time.perf_counter_ns() - t)
    return best


def main():
    p = argparse.ArgumentParser()
    p.add_argument("tool")
    p.add_argument("zoo")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--seconds", type=float, default=0.3)
    p.add_argument("--models", default="")
    p.add_argument("--only-check", action="store_true")
    a = p.parse_args()
    names = a.models.split(",") if a.models else sorted(os.listdir(a.zoo))
    ratios = []
    print(f"| model | best | x ORT | rel. L2 | compile |\n| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as tmp:
        for m in names:
            model = os.path.join(a.zoo, m, "model.onnx")
            cases = sorted(glob.glob(os.path.join(a.zoo, m, "*.inputs.npz")))
            if not os.path.exists(model) or not cases:
                continue
            bundle, start = os.path.join(tmp, m), time.perf_counter()
            r = run(a.tool, "compile", model, "-o", bundle)
            took = time.perf_counter() - start
            if r.returncode:
                print(f"| {m} | exit {r.returncode}: {r.stderr.strip().splitlines()[0][:90]} | | | {took:.1f} s |")
                continue
            errors = [error(a.tool, bundle, c, os.path.join(tmp, "out.npz")) for c in cases]
            bad = [e for v, e in errors if v is None]
            worst = f"{max(v for v, _ in errors):.1e}" if not bad else f"failed: {bad[0]}"
            best, ratio = "", ""
            if not a.only_check and not bad:
                import onnxruntime as ort

                o = ort.SessionOptions()
                o.intra_op_num_threads, o.inter_op_num_threads, o.log_severity_level = a.threads, 1, 3
                session = ort.InferenceSession(model, o, providers=["CPUExecutionProvider"])
                data = np.load(cases[0])
                feeds = {i.name: data[i.name] for i in session.get_inputs()}
                ours, theirs = [], []
                for _ in range(a.rounds):
                    theirs.append(ort_best(session, feeds, a.seconds))
                    r = run(a.tool, "bench", bundle, "--inputs", cases[0], "--threads", str(a.threads), "--min-time", str(a.seconds), "--json")
                    ours.append(json.loads(r.stdout)["min_ns"])
                x = statistics.median(t / max(u, 1) for t, u in zip(theirs, ours))
                ratios.append(x)
                best, ratio = f"{min(ours) / 1e6:.3f} ms", f"{x:.2f}"
            print(f"| {m} | {best} | {ratio} | {worst} | {took:.1f} s |", flush=True)
    if ratios:
        print(f"\ngeomean {np.exp(np.mean(np.log(ratios))):.2f} over {len(ratios)} models, {a.threads} threads")


main()
