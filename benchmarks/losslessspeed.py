"""Lossless files and packs as whole processes: seconds, images a second and peak memory.

python benchmarks/losslessspeed.py images.npy   prints the tables, of 28x28 images
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import photospeed
import timing

CVAE = [sys.executable, "-m", "cvae"]
BARE = "import numpy, PIL.Image, click, onnxruntime"
DIGIT = Path(__file__).parents[1] / "samples" / "digit_3.png"
MODEL = "lossless-mnist"


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"{files(folder)}\n\n{packs(folder, Path(sys.argv[1]).resolve())}")


def files(folder: Path) -> str:
    script = "import sys, photospeed; photospeed.make(photospeed.Path(sys.argv[1]), 768, 512)"
    command = [sys.executable, "-c", script, folder / "x.png"]
    subprocess.run(command, check=True, cwd=Path(__file__).parent)
    encode = [*CVAE, "encode", str(DIGIT), "-o", "d.bin", "-f"]
    digits = {
        f'`python -c "{BARE}"`': [sys.executable, "-c", BARE],
        "`cvae encode digit_3.png --lossless`": [*encode, "--lossless"],
        f"`cvae encode digit_3.png -m {MODEL}`": [*encode, "-m", MODEL],
        "`cvae decode`": [*CVAE, "decode", "d.bin", "-o", "d.png", "-f"],
    }  # fmt: skip
    photographs = {
        "768x512: `cvae encode --lossless`": [
            *CVAE,
            "encode",
            "x.png",
            "--lossless",
            "-o",
            "x.bin",
            "-f",
        ],
        "768x512: `cvae decode`": [*CVAE, "decode", "x.bin", "-o", "y.png", "-f"],
    }
    measured = timing.processes(digits, folder, repeats=3 * timing.REPEATS)
    bare = next(iter(measured.values()))[0]
    measured |= timing.processes(photographs, folder, repeats=photospeed.REPEATS["4000x3000"])
    rows = [
        "| process, start to exit | seconds | over the bare imports | peak memory |",
        "|---|---|---|---|",
    ]
    for name, (wall, memory) in measured.items():
        times = f"{wall / bare:.2f}" if name in digits else ""
        rows.append(f"| {name} | {wall:.3f} | {times} | {memory:.0f} MB |")
    return "\n".join(rows)


def packs(folder: Path, pixels: Path) -> str:
    """Two counts, which take the same memory where it does not grow."""
    script = (
        "import sys, numpy as np; x = np.load(sys.argv[1]); np.save(sys.argv[2], x[: len(x) // 2])"
    )
    subprocess.run([sys.executable, "-c", script, pixels, folder / "half.npy"], check=True)
    rows = [
        f"| `{MODEL}` | images | threads | images a second | peak memory |",
        "|---|---|---|---|---|",
    ]
    for source in (folder / "half.npy", pixels):
        for threads in (1, 2):
            asked = ["--threads", str(threads), "-f"]
            commands = {
                "`cvae pack`": [*CVAE, "pack", str(source), "-m", MODEL, "-o", "p.bin", *asked],
                "`cvae unpack`": [*CVAE, "unpack", "p.bin", "-o", "p.npz", *asked],
            }
            for name, (wall, memory) in timing.processes(commands, folder, repeats=1).items():
                count = _count(source)
                rows.append(
                    f"| {name} | {count:,} | {threads} | {count / wall:,.0f} | {memory:.0f} MB |"
                )
    return "\n".join(rows)


def _count(path: Path) -> int:
    """How many images an .npy file has, without reading them: what measures stays small."""
    command = [
        sys.executable,
        "-c",
        "import sys, numpy as np; print(len(np.load(sys.argv[1], 'r')))",
    ]
    return int(subprocess.run([*command, path], check=True, stdout=subprocess.PIPE).stdout)


if __name__ == "__main__":
    main()
