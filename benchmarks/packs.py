"""Packs: size over the information, and speed over the bare networks, turn by turn in one process."""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

import cvae
from cvae import bulk, images, pack, sinks, sources, tables
from cvae.model import ANALYSIS, SYNTHESIS
from cvae.pipeline import processors

REPEATS = 5


def bare(model: Path, member: str, items: np.ndarray, batch: int, inner: bool) -> Callable[[], Any]:
    """A network by ONNX Runtime and nothing else: batches side by side, or all threads on each."""
    import zipfile

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = processors() if inner else 1
    with zipfile.ZipFile(model) as archive:
        session = onnxruntime.InferenceSession(archive.read(member), options)
    name = session.get_inputs()[0].name
    parts = [items[start : start + batch] for start in range(0, len(items), batch)]
    pool = ThreadPoolExecutor(1 if inner else processors())
    return lambda: list(pool.map(lambda part: session.run(None, {name: part}), parts))


def timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def best_bare(model: Path, member: str, items: np.ndarray) -> tuple[str, Callable[[], Any]]:
    """The fastest of several batch sizes and both ways to use threads."""
    works = {
        f"batch {batch}, {'threads within' if inner else 'batches side by side'}": bare(
            model, member, items, batch, inner
        )
        for batch in (32, 128, 512, 2048)
        for inner in (False, True)
    }
    times = {name: min(timed(work) for _ in range(2)) for name, work in works.items()}
    name = min(times, key=times.__getitem__)
    return name, works[name]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("npz", type=Path, help="an .npz file of images of the model's shape")
    parser.add_argument("--model", default="mnist")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    arguments = parser.parse_args()
    codec = cvae.open_model(arguments.model)
    sys.setswitchinterval(5e-4)  # as the command line does
    source = sources.array_source(arguments.npz)
    reading = sources.Reading(codec.image_shape)
    pixels = np.concatenate([batch.pixels for batch in source.batches(reading)])
    x = images.as_floats(pixels)
    y = codec.model.analysis(x)
    codec.model.synthesis(y[:32])
    quality = codec.quality(None)

    with tempfile.TemporaryDirectory() as folder:
        packed, back = Path(folder, "x.bin"), Path(folder, "x.npz")

        def encode(verify: bool = False) -> bulk.Report:
            options = bulk.Options(effort=0, verify=verify)
            with packed.open("wb") as file:
                return bulk.encode(codec, source.batches(reading), file, options)

        def decode() -> None:
            with packed.open("rb") as file:
                opened = bulk.Pack(pack.open_pack(file), codec)
                ranges = [(0, len(opened))]
                with sinks.open_sink(back, codec.image_shape, ranges, force=True) as sink:
                    for decoded in opened.decode(ranges):
                        sink.write(decoded)

        report = encode()
        symbols = codec.quantize(pixels, quality, 0)
        bits = tables.information_bits(symbols, codec.model.bank.tables(quality)).sum()
        print(
            f"{len(pixels):,} images, {report.size:,} bytes, {report.size / len(pixels):.3f} an image"
        )
        print(f"over the information content: {8 * report.size / bits:.4f}")
        names = {}
        works: dict[str, Callable[[], Any]] = {}
        for member, items in ((ANALYSIS, x), (SYNTHESIS, y)):
            names[member], works[member] = best_bare(codec.model.path, member, items)
        works |= {"encode": encode, "encode, verified": lambda: encode(True), "decode": decode}
        # Wall and processor seconds: on a busy machine only the latter say much.
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
        for _ in range(arguments.repeats):
            for name, work in works.items():
                started = time.process_time()
                wall = timed(work)
                times[name].append((wall, time.process_time() - started))
    for name, values in times.items():
        rate = len(pixels) / statistics.median(wall for wall, _ in values)
        if name in names:
            print(f"{name}: {rate:,.0f} images a second ({names[name]})")
            continue
        bare_name = ANALYSIS if name == "encode" else SYNTHESIS
        wall, cpu = (
            statistics.median(b[k] / t[k] for b, t in zip(times[bare_name], values, strict=True))
            for k in (0, 1)
        )
        what = f"{wall:.2f} of bare {bare_name}, {cpu:.2f} by processor time"
        print(f"{name}: {rate:,.0f} images a second, {what}")


if __name__ == "__main__":
    main()
