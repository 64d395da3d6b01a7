"""A million images through a pack and back: memory, and time an image against ten thousand of them."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.lib import format as npy

from cvae.data.images import Pixels

COUNTS = (1, 1_000, 10_000, 1_000_000)
FEW = 10_000  # up to so many images a command is run several times
REPEATS = 5
CVAE = [sys.executable, "-m", "cvae"]


class Used(NamedTuple):
    """What a process took, start to exit."""

    wall: float  # seconds
    processors: float  # seconds of all of them together
    memory: float  # MB, the most that was resident


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


def run(*arguments: str) -> Used:
    started = time.perf_counter()
    process = subprocess.Popen([*CVAE, *arguments], stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"cvae {' '.join(arguments)} failed")
    wall = time.perf_counter() - started
    return Used(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def median(found: list[Used]) -> Used:
    return Used(*(statistics.median(values) for values in zip(*found, strict=True)))


def measure(folder: Path, pixels: np.ndarray, counts: tuple[int, ...]) -> dict[str, list[Used]]:
    """For packing and unpacking what each number of images takes."""
    for count in counts:
        repeat(pixels, count, folder / f"{count}.npz")
    options = ["--effort", "0", "--no-verify", "--force", "--quiet"]
    used: dict[str, list[Used]] = {}
    for command in ("pack", "unpack"):
        found: dict[int, list[Used]] = {count: [] for count in counts}
        for turn in range(REPEATS):
            for count in counts if turn == 0 else [c for c in counts if c <= FEW]:
                packed, back = str(folder / f"{count}.bin"), str(folder / "back.npz")
                words = (
                    ["pack", str(folder / f"{count}.npz"), "-o", packed, *options]
                    if command == "pack"
                    else ["unpack", packed, "-o", back, "--force", "--quiet"]
                )
                found[count].append(run(*words))
        used[command] = [median(values) for values in found.values()]
    return used


def report(pixels: Pixels, counts: tuple[int, ...] = COUNTS) -> str:
    """Time an image is that of the whole process less that of a process with a single image."""
    with tempfile.TemporaryDirectory() as folder:
        used = measure(Path(folder), pixels[..., 0], counts)
    rows = [
        "| .npz file to pack and back | images | seconds | resident | µs an image | over 10,000 images |",
        "|---|---|---|---|---|---|",
    ]
    for command, values in used.items():
        start = values[0].wall
        each = {
            count: (value.wall - start) / (count - 1)
            for count, value in zip(counts[1:], values[1:], strict=True)
        }
        for count, value in zip(counts, values, strict=True):
            own = each.get(count)
            ratio = "" if own is None else f"{1e6 * own:.1f} | {own / each[FEW]:.2f}"
            rows.append(
                f"| {command} | {count:,} | {value.wall:.2f} | {value.memory:.0f} MB | {ratio or ' | '} |"
            )
    return "\n".join(rows)


def main() -> None:
    print(report(np.load(sys.argv[1])))


if __name__ == "__main__":
    main()
