"""Speed as ratios of things measured in the same run, as the tables of docs/benchmarks.md."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

REPEATS = 7
COUNT = 10_000
BARE = "import numpy, PIL.Image, click, onnxruntime"
SAMPLE = Path(__file__).parents[1] / "samples" / "digit_3.png"


def seconds(works: dict[str, Callable[[], object]]) -> dict[str, float]:
    """The median time of each, after one call that warms up."""
    times: dict[str, list[float]] = {name: [] for name in works}
    # Turn by turn, so that a busy moment of the machine hits all of them.
    for _ in range(REPEATS + 1):
        for name, work in works.items():
            started = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def processes(commands: dict[str, list[str]], cwd: Path) -> dict[str, tuple[float, float]]:
    """Wall seconds (median) and largest resident memory in MB of each command, start to exit."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    memory: dict[str, float] = {}
    for _ in range(2 * REPEATS + 1):
        for name, command in commands.items():
            started = time.perf_counter()
            process = subprocess.Popen(
                command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            _, status, usage = os.wait4(process.pid, 0)
            times[name].append(time.perf_counter() - started)
            memory[name] = usage.ru_maxrss / 1024
            if status:
                raise SystemExit(f"{command} failed")
    return {name: (statistics.median(times[name]), memory[name]) for name in commands}


def cold_start() -> str:
    cvae = [sys.executable, "-m", "cvae"]
    commands = {
        f'`python -c "{BARE}"`': [sys.executable, "-c", BARE],
        "`cvae encode digit_3.png`": [*cvae, "encode", str(SAMPLE), "-o", "x.bin", "--force"],
        "`cvae decode digit_3.bin`": [*cvae, "decode", "x.bin", "-o", "x.png", "--force"],
        "`cvae --help`": [*cvae, "--help"],
    }
    with tempfile.TemporaryDirectory() as folder:
        measured = processes(commands, Path(folder))
    bare = next(iter(measured.values()))[0]
    rows = [
        "| process, start to exit | seconds | over the bare imports | resident |",
        "|---|---|---|---|",
    ]
    for name, (wall, memory) in measured.items():
        rows.append(f"| {name} | {wall:.3f} | {wall / bare:.2f} | {memory:.0f} MB |")
    return "\n".join(rows)


def keras_networks(codec: object) -> tuple[object, object]:
    """Keras networks of the same architecture; for speed the weights do not matter."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from cvae.training import architectures, backend, presets

    backend.load_keras()
    import keras

    networks = architectures.build_cvae(presets.get("mnist"))
    mean = keras.Model(networks.analysis.input, networks.analysis.outputs[0])
    return mean, networks.synthesis


def bulk() -> str:
    import cvae

    codec = cvae.open_model("mnist")
    rng = np.random.default_rng(0)
    # Noise is as good as digits here: the time does not depend on the pixels.
    pixels = rng.integers(0, 256, (COUNT, 28, 28, 1), dtype=np.uint8)
    x = pixels.astype(np.float32) / 255
    y = codec.model.analysis(x)
    mean, synthesis = keras_networks(codec)
    works = {
        "analysis, Keras `predict`, batch 1,024": lambda: mean.predict(x, 1024, verbose=0),
        "analysis, `networks.py`": lambda: codec.model.analysis(x),
        "synthesis, Keras `predict`, batch 1,024": lambda: synthesis.predict(y, 1024, verbose=0),
        "synthesis, `networks.py`": lambda: codec.model.synthesis(y),
        "`model.encode` at effort 0, verification included": lambda: codec.encode_batch(
            pixels, effort=0
        ),
    }
    measured = {name: COUNT / time for name, time in seconds(works).items()}
    a_keras, a, s_keras, s, encode = measured.values()
    over = ["", f"{a / a_keras:.2f} times Keras", "", f"{s / s_keras:.2f} times Keras",
            f"{encode / s:.2f} of bare synthesis"]  # fmt: skip
    rows = ["| 10,000 arrays of 28x28 | images a second | ratio |", "|---|---|---|"]
    for (name, value), ratio in zip(measured.items(), over, strict=True):
        rows.append(f"| {name} | {value:,.0f} | {ratio} |")
    return "\n".join(rows)


def coders() -> str:
    import cvae
    from cvae import entropy, rans

    codec = cvae.open_model("mnist")
    tables = codec.model.bank.tables(codec.quality(None))
    rng = np.random.default_rng(0)
    latents = rng.normal(0, 1, (COUNT, tables.elements)).astype(np.float32)
    symbols = codec.model.bank.quantizer(codec.quality(None)).quantize(latents)
    payloads = entropy.encode_images(symbols, tables)
    block = rans.encode_block(symbols, tables)
    works = {
        "exact coder, one payload an image: encode": lambda: entropy.encode_images(symbols, tables),
        "exact coder: decode": lambda: [entropy.decode_image(p, tables) for p in payloads],
        "rANS, one block: encode": lambda: rans.encode_block(symbols, tables),
        "rANS: decode": lambda: rans.decode_block(block, COUNT, tables),
    }
    rows = ["| coder, 10,000 images of 16 symbols | symbols a second |", "|---|---|"]
    rows += [f"| {name} | {symbols.size / t:,.0f} |" for name, t in seconds(works).items()]
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="file to write instead of stdout")
    arguments = parser.parse_args()
    parts = [cold_start(), bulk(), coders()]
    text = f"""# Speed

Made by `make bench` (`benchmarks/speed.py`). Ratios travel from machine to machine, seconds do not: these
are of one with {os.cpu_count()} cores. Medians; model `mnist`.

## Cold start

{parts[0]}

## Bulk

{parts[1]}

## Entropy coders

{parts[2]}
"""
    print(text, end="")
    if arguments.out:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
