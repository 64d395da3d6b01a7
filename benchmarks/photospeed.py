"""Photographs to files and back as whole processes, `photo` beside Pillow: seconds and peak memory.

python benchmarks/photospeed.py   prints the table
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import timing

# What measures imports nothing large: what a child has resident counts from what its parent had.
if TYPE_CHECKING:
    from cvae.data.images import Pixels

ROOT = Path(__file__).parents[1]
PHOTOGRAPHS = ROOT / "samples"
DRAWN = ROOT / "docs" / "models" / "landscape.png"  # where there are none
MODEL = "photo"
SIZES = {"768x512": (768, 512), "4000x3000": (4000, 3000)}
REPEATS = {"768x512": timing.REPEATS, "4000x3000": 1}
# Pillow's defaults but for AVIF, whose best speed takes minutes on the large picture.
OTHERS = {"JPEG": ("jpg", {}), "WebP": ("webp", {}), "AVIF": ("avif", {"speed": 6})}


def mirrored(pictures: list[Pixels], width: int, height: int) -> Pixels:
    """A picture of any size: others as squares side by side, every other one mirrored."""
    import numpy as np

    side = min(min(picture.shape[:2]) for picture in pictures)
    rows = []
    for row in range(-(-height // side)):
        cells = []
        for column in range(-(-width // side)):
            cell = pictures[(row + column) % len(pictures)][:side, :side]
            cells.append(cell[:: -1 if row % 2 else 1, :: -1 if column % 2 else 1])
        rows.append(np.concatenate(cells, axis=1))
    return np.concatenate(rows)[:height, :width]


def make(path: Path, width: int, height: int) -> None:
    """Writes the picture that is coded."""
    import numpy as np
    from PIL import Image

    paths = sorted(PHOTOGRAPHS.glob("photo_*.png")) or [DRAWN]
    pictures = [np.asarray(Image.open(found).convert("RGB")) for found in paths]
    Image.fromarray(mirrored(pictures, width, height)).save(path)


def commands(folder: Path) -> dict[str, list[str]]:
    """A title and a command each; a file that is decoded is written by one before it.

    All read x.png, or write a PNG file.
    """
    cvae = [sys.executable, "-m", "cvae"]
    found = {
        f"`cvae encode -m {MODEL}`": [
            *[*cvae, "encode", str(folder / "x.png")],
            *["-m", MODEL, "-o", str(folder / "x.bin"), "--force"],
        ],
        "`cvae decode`": [
            *[*cvae, "decode", str(folder / "x.bin")],
            *["-o", str(folder / "y.png"), "--force"],
        ],
    }
    for title, (suffix, options) in OTHERS.items():
        for what, source, target, extra in (
            ("encode", "x.png", f"x.{suffix}", options),
            ("decode", f"x.{suffix}", "y.png", {}),
        ):
            paths = f"Image.open({str(folder / source)!r}).save({str(folder / target)!r}"
            more = "".join(f", {name}={value!r}" for name, value in extra.items())
            script = f"from PIL import Image; {paths}{more})"
            found[f"Pillow, {title}: {what}"] = [sys.executable, "-c", script]
    return found


def report() -> str:
    """The table; what is there instead where the model is not."""
    info = [sys.executable, "-m", "cvae", "info", MODEL]
    if subprocess.run(info, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
        return f"Not measured: there is no model `{MODEL}`."
    rows = [
        "| picture | process, start to exit | seconds | `cvae` takes as long, times | peak memory | file |",
        "|---|---|---|---|---|---|",
    ]
    for title, (width, height) in SIZES.items():
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            picture = [str(folder / "x.png"), str(width), str(height)]
            subprocess.run([sys.executable, __file__, "--make", *picture], check=True)
            works = commands(folder)
            measured = timing.processes(works, folder, REPEATS[title])
            sizes = [path.stat().st_size for path in map(folder.joinpath, _files())]
        times = list(measured.values())
        for i, (process, (wall, memory)) in enumerate(measured.items()):
            ours = times[i % 2][0]
            size = f"{sizes[i // 2]:,} B" if i % 2 == 0 else ""
            ratio = f"{ours / wall:.1f}" if i > 1 else ""
            rows.append(
                f"| {title} | {process} | {wall:.2f} | {ratio} | {memory:.0f} MB | {size} |"
            )
    return "\n".join(rows)


def _files() -> list[str]:
    return ["x.bin", *(f"x.{suffix}" for suffix, _ in OTHERS.values())]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--make"]:
        make(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    else:
        print(report())
