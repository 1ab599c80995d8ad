#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Make speech.npz and expected.npz of the voice activity model.

    make_inputs.py [FOLDER]     (default: the folder of this script)

Needs espeak-ng, numpy and onnxruntime; ../README.md has the versions that made the files at hand.
Two spoken sentences stand between three stretches of near silence, so that the right answer is known by construction.
"""
import io
import pathlib
import subprocess
import sys
import wave

import numpy as np

RATE = 16_000
STEP = 512      # samples a row advances: 32 ms
CONTEXT = 64    # samples of the row before that a row repeats
SENTENCES = ("This model hears when somebody is speaking.", "And now it runs on your own chip.")
SILENCES_S = (0.8, 1.2, 0.8)


def speak(text):
    """Speech as float64 in [-1, 1) at the synthesizer's own rate."""
    said = subprocess.run(["espeak-ng", "-v", "en-us", "-s", "165", "-z", "--stdout", text], check=True, capture_output=True)
    with wave.open(io.BytesIO(said.stdout)) as sound:
        rate = sound.getframerate()
        frames = sound.readframes(sound.getnframes())
    return np.frombuffer(frames, "<i2").astype(np.float64) / 32768.0, rate


def resample(signal, rate, taps=32):
    """Windowed-sinc interpolation from `rate` to RATE; the low-pass stands at the lower Nyquist frequency."""
    cutoff = min(1.0, RATE / rate)
    at = np.arange(int(len(signal) * RATE / rate)) * (rate / RATE)
    first = np.floor(at).astype(int) - taps + 1
    padded = np.pad(signal, (taps, taps + 1))
    out = np.zeros(len(at))
    for tap in range(2 * taps):
        index = first + tap
        x = at - index
        window = 0.5 + 0.5 * np.cos(np.pi * np.clip(x / taps, -1.0, 1.0))
        out += padded[index + taps] * cutoff * np.sinc(cutoff * x) * window
    return out


def rows(samples):
    """Rows of CONTEXT + STEP samples, each beginning with the end of the row before (zeros before the first)."""
    count = len(samples) // STEP
    body = samples[: count * STEP].reshape(count, STEP)
    before = np.vstack([np.zeros((1, CONTEXT), body.dtype), body[:-1, -CONTEXT:]])
    return np.ascontiguousarray(np.hstack([before, body]))


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else __file__).resolve()
    folder = folder.parent if folder.is_file() else folder
    parts, spans, at = [], [], 0
    for i, silence in enumerate(SILENCES_S):
        parts.append(np.zeros(int(silence * RATE)))
        at += len(parts[-1])
        if i < len(SENTENCES):
            parts.append(resample(*speak(SENTENCES[i])))
            spans.append((at, at + len(parts[-1])))
            at += len(parts[-1])
    sound = np.concatenate(parts)
    sound += np.random.default_rng(1).normal(0.0, 0.0004, len(sound))       # a quiet room
    sound = (np.clip(np.round(sound * 32768.0), -32768, 32767) / 32768.0).astype(np.float32)

    state = np.zeros((1, 1, 128), np.float32)
    feeds = {"input": rows(sound), "h": state, "c": state}
    np.savez_compressed(folder / "speech.npz", **feeds)

    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    results = dict(zip(names, session.run(names, feeds)))
    np.savez_compressed(folder / "expected.npz", **results)

    speech = results["speech_probs"]
    spoken, near = np.zeros((2, len(speech)), bool)
    for begin, end in spans:
        print(f"spoken from {begin / RATE:.2f} s to {end / RATE:.2f} s")
        spoken[begin // STEP : -(-end // STEP)] = True
        near[begin // STEP - 1 : end // STEP + 8] = True    # the model lets go about a quarter of a second late
    print(f"{len(speech)} rows, {len(sound) / RATE:.2f} s; median in speech {np.median(speech[spoken]):.3f}, "
          f"highest in silence {speech[~near].max():.3f}")
    print("".join(" .:-=+*#%@"[min(9, int(p * 10))] for p in speech))


if __name__ == "__main__":
    main()
