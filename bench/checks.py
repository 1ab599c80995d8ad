#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What run-time checks cost: each model compiled with and without them, both run in turns.

    bench/checks.py PORTWRIGHT ZOO [--rounds N] [--seconds S] [--models A,B]

Two ratios, with checks over without: the best time, and instructions of one run (what two benches of different length differ by, as
valgrind counts them for x86-64-v3), which other work on the machine does not change.
"""

import argparse
import glob
import json
import math
import os
import subprocess
import tempfile


def run(args, **more):
    return subprocess.run(args, capture_output=True, text=True, **more)


def counted(args, seconds):
    """Instructions and runs of a bench; None where they are not counted."""
    tool = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", "--trace-children=yes"]
    r = run([*tool, *args, "--min-time", str(seconds)])
    if r.returncode:
        return None
    count = [int(line.split()[-1]) for line in r.stderr.splitlines() if "Collected" in line]
    return (max(count), json.loads(r.stdout)["runs"]) if count else None


def instructions(args, seconds):
    """Instructions of one run."""
    short, long = counted(args, seconds), counted(args, seconds * 4)
    if not short or not long or long[1] <= short[1]:
        return None
    per_run = (long[0] - short[0]) / (long[1] - short[1])
    # Too few runs drown in what the start costs.
    return per_run if per_run > 0 else None


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("portwright")
    p.add_argument("zoo")
    p.add_argument("--rounds", type=int, default=9)
    p.add_argument("--seconds", type=float, default=0.1)
    p.add_argument("--models")
    a = p.parse_args()
    ratios, counts = [], []
    for m in a.models.split(",") if a.models else sorted(os.listdir(a.zoo)):
        model = os.path.join(a.zoo, m, "model.onnx")
        cases = sorted(glob.glob(os.path.join(a.zoo, m, "*.inputs.npz")))
        if not os.path.exists(model) or not cases:
            continue
        with tempfile.TemporaryDirectory() as work:
            bundles = []
            for without in ("0", "1"):
                env = dict(os.environ, PORTWRIGHT_MEASURE_WITHOUT_CHECKS=without)
                for target in ("host", "x86-64"):
                    out = os.path.join(work, target + without)
                    if run([a.portwright, "compile", model, "--target", target, "-o", out], env=env).returncode == 0:
                        bundles.append(out)
            if len(bundles) < 4:
                continue
            best, each = [math.inf, math.inf], [None, None]
            for i in range(a.rounds * 2):
                which = (i + i // 2) % 2  # with, without, without, with, ...
                args = [a.portwright, "bench", bundles[which * 2], "--inputs", cases[0], "--threads", "1", "--json"]
                r = run([*args, "--min-time", str(a.seconds)])
                if i < 2:
                    args[2] = bundles[which * 2 + 1]
                    each[which] = instructions(args, a.seconds)
                if r.returncode == 0:
                    best[which] = min(best[which], json.loads(r.stdout)["min_ns"])
            if math.isinf(max(best)):
                continue
            ratios.append(best[0] / best[1])
            text = "-"
            if all(each):
                counts.append(each[0] / each[1])
                text = f"{each[0]:.0f} / {each[1]:.0f} = {counts[-1]:.4f}"
            print(f"{m:32} instructions {text:40} ms {best[0] / 1e6:.4f} / {best[1] / 1e6:.4f} = {ratios[-1]:.4f}", flush=True)
    for what, list_ in (("instructions", counts), ("time", ratios)):
        mean = math.exp(sum(map(math.log, list_)) / max(1, len(list_)))
        print(f"{what}: geomean {mean:.4f}, worst {max(list_, default=1):.4f} over {len(list_)} models")


main()
