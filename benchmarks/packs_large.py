"""A million images through a pack and back: memory, and time an image against ten thousand of them."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from cvae import sources

SMALL = 10_000
CVAE = [sys.executable, "-m", "cvae"]


def repeat(pixels: np.ndarray, count: int, path: Path) -> None:
    """An .npz file of `count` images, the given ones over and over."""
    with (
        zipfile.ZipFile(path, "w") as archive,
        archive.open("images.npy", "w", force_zip64=True) as f,
    ):
        shape = (count, *pixels.shape[1:])
        npy.write_array_header_1_0(f, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for start in range(0, count, len(pixels)):
            f.write(np.ascontiguousarray(pixels[: count - start]).data)


def run(*arguments: str) -> tuple[float, float, float]:
    """Wall seconds, processor seconds and largest resident memory in MB of a command."""
    started = time.perf_counter()
    process = subprocess.Popen([*CVAE, *arguments], stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"cvae {' '.join(arguments)} failed")
    wall = time.perf_counter() - started
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("npz", type=Path)
    parser.add_argument("--count", type=int, default=1_000_000)
    arguments = parser.parse_args()
    reading = sources.Reading((28, 28, 1))
    source = sources.array_source(arguments.npz)
    pixels = np.concatenate([batch.pixels for batch in source.batches(reading)])[..., 0]
    with tempfile.TemporaryDirectory() as folder:
        files = {count: Path(folder, f"{count}.npz") for count in (1, SMALL, arguments.count)}
        for count, path in files.items():
            repeat(pixels, count, path)
        encode = ["encode", "--effort", "0", "--no-verify", "--force", "--quiet", "-o"]
        for command in ("encode", "decode"):
            # Small ones before and after: the machine may be busy with something else for a while.
            for count in (1, SMALL, arguments.count, SMALL, 1):
                packed, back = str(files[count].with_suffix(".bin")), f"{folder}/back.npz"
                words = (
                    [*encode, packed, str(files[count])]
                    if command == "encode"
                    else ["decode", packed, "-o", back, "--force", "--quiet"]
                )
                wall, cpu, memory = run(*words)
                print(
                    f"{command} {count:,}: {wall:.2f} s, {cpu:.2f} s of processors, {memory:.0f} MB",
                    flush=True,
                )


if __name__ == "__main__":
    main()
