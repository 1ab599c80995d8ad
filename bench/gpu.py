#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Kernels and models on one GPU, beside PyTorch; without a GPU what they do in the emulator, and what ptxas and nvdisasm say of them.

    bench/gpu.py PORTWRIGHT [--target nvidia-sm80] [--only PART,..] [--models FOLDER,..] [--emulate] [-o bench/GPU_KERNELS.md]

Kernels are the blocks of bench/gpu.graphs, each compiled by itself. Without a device (or with --emulate) a row says
  bytes   what sectors of 32 bytes carry, over the bytes that have to move: every input, weight and output once
  sectors share of the bytes of sectors that lanes asked for
  banks   passes to shared memory that bank conflicts add
  mma     multiply-adds of matrix instructions over those of the product
and from the assembler registers, spilled bytes and shared memory, and which matrix instructions, matrix loads and copies are in the code.
`holds` names each limit that a row misses: 1.1 of the bytes at 0.95 of the sectors where memory binds; for products no bank conflict and no
spill, copies of 128 bits, mma in 0.9..1.15 (attention, whose weights are two parts: 1.7). With a device a row is the time of its kernels, beside PyTorch's where that is installed, and
the share of the limit that is measured first: a copy for kernels that memory binds, a product of 8192 by PyTorch for the others.
"""
import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
BYTES = {"bool": 1, "u8": 1, "i8": 1, "f8e4m3fn": 1, "f8e5m2": 1, "f16": 2, "bf16": 2, "i16": 2, "u16": 2, "f32": 4, "i32": 4, "f64": 8, "i64": 8, "u4": 0.5, "i4": 0.5}
NUMPY = {"f16": "float16", "f32": "float32", "i64": "int64", "i32": "int32", "i8": "int8", "u8": "uint8", "bf16": "uint16"}


class Kernel:
    """A block of gpu.graphs."""

    def __init__(self, head, text):
        words = head.split()
        self.kind = words[0]
        self.products = int(words[1]) if self.kind == "product" else 0
        self.name = " ".join(words[2 if self.products else 1:])
        notes = dict(re.findall(r"^# (\w+) (.*)$", text, re.M))
        self.torch, self.ints = notes.get("torch"), notes.get("ints")
        self.body = "\n".join(l for l in text.splitlines() if l and not l.startswith("#")) + "\n"
        self.values = {v: (d, [int(x) for x in s.split(",")] if s else []) for v, d, s in re.findall(r"(%\d+): (\w+)\[([\d,]*)\]", self.body)}
        self.inputs = [(n, *self.values[v]) for v, n in re.findall(r'^(%\d+): .*= input "(\w+)"', self.body, re.M)]
        ends = re.findall(r'^output "\w+" (%\d+)', self.body, re.M)
        weights = re.findall(r"^(%\d+): .*= weight<", self.body, re.M)
        # A gather reads the rows that are chosen alone.
        chosen = set(re.findall(r"gather\((%\d+)", self.body))
        moved = [self.values[v] for v in ends + weights] + [(d, s) for n, d, s in self.inputs]
        moved = [m for m in moved if not chosen or m not in [self.values[c] for c in chosen]]
        moved += [self.values[e] for e in ends] if chosen else []
        self.bytes = sum(size(d, s) for d, s in moved)


def size(dtype, dims):
    n = BYTES[dtype]
    for d in dims:
        n *= d
    return int(n)


def kernels(path):
    with open(path) as f:
        parts = re.split(r"^#: (.*)$", f.read(), flags=re.M)[1:]
    return [Kernel(h, t) for h, t in zip(parts[::2], parts[1::2])]


def tool(name):
    """A program of NVIDIA's wheels among the tools, or on the search path."""
    folders = [os.environ.get("PORTWRIGHT_TOOLS"), os.path.join(HERE, "../tools/.cache")]
    for f in filter(None, folders):
        for root in (f, os.path.join(f, "cu13/bin")):
            if os.access(os.path.join(root, name), os.X_OK):
                return os.path.join(root, name)
        lib = os.path.join(f, "python/lib")
        for v in sorted(os.listdir(lib)) if os.path.isdir(lib) else []:
            p = os.path.join(lib, v, "site-packages/nvidia/cu13/bin", name)
            if os.access(p, os.X_OK):
                return p
    return shutil.which(name)


def call(a, *args):
    r = subprocess.run([a.tool, "-q", *args], capture_output=True, text=True, timeout=3600)
    if r.returncode:
        raise RuntimeError((r.stderr.strip().splitlines() or [f"exit {r.returncode}"])[0][:120])
    return r.stdout


def data(k, folder):
    """Inputs of a kernel with limits of its own; others are what the command draws."""
    if not k.ints:
        return []
    import numpy as np

    low, high = (int(x) for x in k.ints.split())
    rng, arrays = np.random.default_rng(1), {}
    for name, dtype, dims in k.inputs:
        of = NUMPY[dtype]
        arrays[name] = rng.integers(low, high, dims).astype(of) if dtype.startswith("i") else rng.standard_normal(dims).astype(of)
    path = os.path.join(folder, "inputs.npz")
    np.savez(path, **arrays)
    return ["--inputs", path]


def assembled(a, text, folder):
    """Resources of each kernel and the kinds of instructions that matter, or why there are none."""
    ptxas, nvdisasm = tool("ptxas"), tool("nvdisasm")
    if not ptxas:
        return None, "ptxas is not here: ./setup installs it"
    arch = "sm_" + a.target.split("sm")[-1]
    out = {"registers": 0, "spills": 0, "shared": 0, "sass": {}}
    # The last part of the text is the host's, which no device assembles.
    text = re.split(r'^\s*\.file\s+"LLVMDialectModule"\s*$', text, maxsplit=1, flags=re.M)[0]
    modules = [m for m in re.split(r"(?=^\.version)", text, flags=re.M) if m.lstrip().startswith(".version")]
    for m in modules:
        source, cubin = os.path.join(folder, "k.ptx"), os.path.join(folder, "k.cubin")
        with open(source, "w") as f:
            f.write(m)
        r = subprocess.run([ptxas, f"-arch={arch}", "-v", source, "-o", cubin], capture_output=True, text=True)
        if r.returncode:
            return None, "ptxas refuses it: " + r.stderr.strip().splitlines()[0]
        for n in re.findall(r"Used (\d+) registers", r.stderr):
            out["registers"] = max(out["registers"], int(n))
        for s, l in re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", r.stderr):
            out["spills"] += int(s) + int(l)
        for n in re.findall(r"(\d+) bytes smem", r.stderr):
            out["shared"] = max(out["shared"], int(n))
        if nvdisasm:
            code = subprocess.run([nvdisasm, "-c", cubin], capture_output=True, text=True).stdout
            for op in re.findall(r"\b((?:HMMA|IMMA|QMMA|LDSM|LDGSTS)[.\w]*)", code):
                out["sass"][op] = out["sass"].get(op, 0) + 1
    return out, None


def counted(a, k, folder):
    path = os.path.join(folder, "k.graph")
    with open(path, "w") as f:
        f.write(f'graph "k"\n{k.body}')
    target = ["--target", a.target]
    v = json.loads(call(a, "bench", path, *target, "--on", "emulator", "--json", *data(k, folder)))
    total = {"launches": 0, "asked": 0, "sectors": 0, "conflicts": 0, "mma": 0, "instructions": 0}
    for f in v["functions"]:
        d = f.get("device")
        if not d:
            continue
        c = d["counts"]
        total["launches"] += d["launches"]
        total["asked"] += c["load"]["bytes"] + c["store"]["bytes"]
        total["sectors"] += 32 * (c["load"]["sectors"] + c["store"]["sectors"])
        total["conflicts"] += c["bank_conflicts"]
        total["mma"] += c["mma_ops"]
        total["instructions"] += c["instructions"]
    r, why = assembled(a, call(a, "lower", path, *target, "--stage", "asm"), folder)
    return total, r, why


def judged(k, t, r):
    """The limits that a row misses."""
    out = []
    if k.kind == "memory":
        if t["sectors"] > 1.1 * k.bytes:
            out.append("bytes")
        if t["asked"] < 0.95 * t["sectors"]:
            out.append("sectors")
    if k.kind == "product":
        if t["conflicts"]:
            out.append("banks")
        # Attention multiplies weights with values in two parts, so that nothing is rounded below f32 in between.
        if not 0.9 <= t["mma"] / k.products <= (1.7 if "attention" in k.name else 1.15):
            out.append("mma")
        ops = r["sass"] if r else {}
        # Taps of a convolution with channels first, and what is widened on its way, come through registers.
        copies = any(w in k.name for w in ("convolution", "nibbles", "8-bit")) or has(ops, "LDGSTS")
        if r and ops and not (has(ops, "MMA") and has(ops, "LDSM") and copies and all("128" in o for o in ops if "LDGSTS" in o)):
            out.append("code")
    if r and r["spills"]:
        out.append("spills")
    return out


def has(ops, part):
    return sum(n for o, n in ops.items() if part in o)


HEAD = "| kernel | launches | bytes | sectors | banks | mma | registers | spills | shared | MMA, LDSM, LDGSTS | holds |\n" + "| --- " + "| ---: " * 8 + "| --- | --- |"


def emulate(a, out):
    print(f"Target {a.target}; instructions of `sm_{a.target.split('sm')[-1]}` by ptxas and nvdisasm.\n\n{HEAD}", file=out, flush=True)
    missed = rows = 0
    for k in chosen(a):
        rows += 1
        with tempfile.TemporaryDirectory() as folder:
            try:
                t, r, why = counted(a, k, folder)
            except (RuntimeError, subprocess.TimeoutExpired) as e:
                print(f"| {k.name} | {e} | | | | | | | | | no |", file=out, flush=True)
                missed += 1
                continue
        bad = judged(k, t, r)
        missed += bool(bad)
        ops = r["sass"] if r else {}
        code = ", ".join(f"{has(ops, p)}" for p in ("MMA", "LDSM", "LDGSTS")) if has(ops, "MMA") else "-"
        mma = f"{t['mma'] / k.products:.2f}" if k.products else "-"
        own = [str(r["registers"]), str(r["spills"]), str(r["shared"])] if r else [why, "", ""]
        cells = [k.name, t["launches"], f"{t['sectors'] / k.bytes:.2f}", f"{t['asked'] / max(t['sectors'], 1):.3f}", t["conflicts"], mma, *own, code]
        print("| " + " | ".join(str(c) for c in cells) + " | " + ("not " + ", ".join(bad) if bad else "yes") + " |", file=out, flush=True)
    print(f"\n{rows - missed} of {rows} rows hold.", file=out)
    return missed


def chosen(a):
    parts = a.only.split(",") if a.only else [""]
    return [k for k in kernels(os.path.join(HERE, "gpu.graphs")) if any(p in k.name for p in parts)]


def device():
    """Whether a driver and a device are here."""
    import ctypes

    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    n = ctypes.c_int(0)
    return cuda.cuInit(0) == 0 and cuda.cuDeviceGetCount(ctypes.byref(n)) == 0 and n.value > 0


def best(torch, f):
    """Least seconds of a call on the device, by its own clock."""
    for _ in range(5):
        f()
    times = []
    for _ in range(20):
        a, b = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        a.record(), f(), b.record()
        torch.cuda.synchronize()
        times.append(a.elapsed_time(b) / 1e3)
    return min(times)


def limits(torch):
    """Bytes a second of a copy and products a second of bf16, measured."""
    x = torch.empty(1 << 29, dtype=torch.uint8, device="cuda")
    y = torch.empty_like(x)
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    return 2 * x.numel() / best(torch, lambda: y.copy_(x)), 8192**3 / best(torch, lambda: a @ a)


def measure(a, out):
    try:
        import torch
        import torch.nn.functional as F
    except ImportError:
        torch = F = None
    if torch is not None and not torch.cuda.is_available():
        torch = None
    rates = limits(torch) if torch else None
    if rates:
        print(f"Measured: {rates[0] / 1e9:.0f} GB/s by a copy, {2 * rates[1] / 1e12:.0f} TFLOP/s of bf16 by PyTorch.\n", file=out)
    print("| kernel | time | PyTorch | ratio | of the limit |\n| --- | ---: | ---: | ---: | ---: |", file=out, flush=True)
    for k in chosen(a):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "k.graph")
            with open(path, "w") as f:
                f.write(f'graph "k"\n{k.body}')
            try:
                v = json.loads(call(a, "bench", path, "--target", a.target, "--profile", "--json", *data(k, folder)))
            except RuntimeError as e:
                print(f"| {k.name} | {e} | | | |", file=out, flush=True)
                continue
        seconds = sum(e["ns"] for e in v["kernels"]) / 1e9
        theirs = reference(torch, F, k) if torch and k.torch else None
        least = (k.products / rates[1] if k.products else k.bytes / rates[0]) if rates else None
        ratio = f"{theirs / seconds:.2f}" if theirs else "-"
        of = f"{least / seconds:.2f}" if least else "-"
        print(f"| {k.name} | {seconds * 1e6:.1f} us | {theirs * 1e6:.1f} us | {ratio} | {of} |" if theirs else f"| {k.name} | {seconds * 1e6:.1f} us | - | - | {of} |", file=out, flush=True)
    return 0


def reference(torch, F, k):
    types = {"f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32}
    made = {n: torch.randn(s, device="cuda").to(types[d]) for n, d, s in k.inputs if d in types}
    for v, n in re.findall(r'^(%\d+): .*= weight<\w+ \S+ "(\w+)"', k.body, re.M):
        d, s = k.values[v]
        made[n] = torch.randn(s, device="cuda").to(types[d])
    code = compile(k.torch, "gpu.graphs", "eval")
    return best(torch, lambda: eval(code, {"torch": torch, "F": F, **made}))


def models(a, out):
    if not a.models:
        return
    print("\n| model | case | result |\n| --- | --- | --- |", file=out, flush=True)
    for m in a.models.split(","):
        path = os.path.join(m, "model.onnx") if os.path.isdir(m) else m
        try:
            v = json.loads(call(a, "bench", path, "--target", a.target, "--json", *(["--on", "emulator"] if a.emulate else [])))
            says = f"{v['min_ns'] / 1e6:.3f} ms" if "min_ns" in v else f"{v['instructions']} instructions of warps"
        except RuntimeError as e:
            says = str(e)
        print(f"| {os.path.basename(os.path.normpath(m))} | drawn inputs | {says} |", file=out, flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("tool")
    p.add_argument("--target", default="nvidia-sm80")
    p.add_argument("--only", default="")
    p.add_argument("--models", default="")
    p.add_argument("--emulate", action="store_true")
    p.add_argument("-o", dest="out")
    a = p.parse_args()
    a.emulate = a.emulate or not device()
    out = open(a.out, "w") if a.out else sys.stdout
    print("# Kernels on one GPU\n\nWritten by `bench/gpu.py`; its first lines say what the columns are.\n", file=out)
    missed = emulate(a, out) if a.emulate else measure(a, out)
    models(a, out)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
