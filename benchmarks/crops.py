"""Crops of photographs side by side at equal bytes: the original, `photo`, JPEG, WebP and AVIF.

python benchmarks/crops.py docs/results/crops.png
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cvae import open_model
from cvae.data import metrics
from cvae.data.images import Pixels
from cvae.evaluation import rivals
from cvae.evaluation.rivals import Options
from cvae.options import EncodeOptions

PHOTOGRAPHS = Path(__file__).parents[1] / "samples"
MODEL, QUALITY = "photo", 25
SIZE, ZOOM, GAP, TEXT = (128, 96), 2, 6, 40  # pixels
# Left and top of each crop, and a caption of the original.
CROPS = {"lake": (398, 78), "gecko": (92, 138), "launch": (382, 214)}
# What is tried besides the quality.
OTHERS: dict[str, list[Options]] = {
    "jpeg": [{"optimize": True, "progressive": True, "subsampling": s} for s in ("4:2:0", "4:4:4")],
    "webp": [{"method": 6}],
    "avif": [{**rivals.AVIF.fixed, "speed": 0, "subsampling": s} for s in ("4:2:0", "4:4:4")],
}
TITLES = {"jpeg": "JPEG", "webp": "WebP", "avif": "AVIF"}


class Coded(NamedTuple):
    """A whole picture that was coded and decoded."""

    title: str
    pixels: Pixels
    size: int  # bytes
    psnr: float | None  # dB; None for the original


def smallest_from(size: int, code: Callable[[int], tuple[int, Pixels]]) -> tuple[int, Pixels]:
    """The file of the lowest quality, of 1 to 100, that takes at least so many bytes, and its picture.

    `code` codes at a quality. Where none takes so many, the one of 100.
    """
    low, high = 1, 100
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if code(middle)[0] >= size else (middle + 1, high)
    return code(low)


def coded(path: Path) -> Iterator[Coded]:
    """The original, ours, and the others with as many bytes or the next more that they can."""
    pixels = np.asarray(Image.open(path).convert("RGB"))
    yield Coded("original, PNG", pixels, path.stat().st_size, None)
    codec = open_model(MODEL)
    data = codec.encode_batch(pixels[np.newaxis], EncodeOptions(quality=QUALITY))[0].data
    decoded = codec.decode(data)
    yield Coded(f"{MODEL}, quality {QUALITY}", decoded, len(data), _psnr(pixels, decoded))
    for name, settings in OTHERS.items():
        found = []
        for options in settings:

            def code(
                quality: int, options: Options = options, name: str = name
            ) -> tuple[int, Pixels]:
                return rivals.code(rivals.RIVALS[name], pixels, {**options, "quality": quality})

            size, picture = smallest_from(len(data), cache(code))
            found.append(Coded(TITLES[name], picture, size, _psnr(pixels, picture)))
        # Where even the least takes more, the fewest bytes.
        least = min(item.size for item in found)
        near = [item for item in found if item.size <= max(len(data) * 1.1, least)]
        yield max(near, key=lambda item: item.psnr or 0)


def _psnr(x: Pixels, y: Pixels) -> float:
    return float(metrics.psnr(x[np.newaxis], y[np.newaxis])[0])


def draw(rows: list[tuple[tuple[int, int], list[Coded]]]) -> Image.Image:
    """One row a picture, of where its crop begins and what is shown."""
    width, height = ZOOM * SIZE[0], ZOOM * SIZE[1]
    columns = max(len(items) for _, items in rows)
    size = columns * (width + GAP) + GAP, len(rows) * (height + TEXT + GAP) + GAP
    paper = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(paper), ImageFont.load_default(15)
    for row, ((x, y), items) in enumerate(rows):
        top = GAP + row * (height + TEXT + GAP)
        for column, item in enumerate(items):
            left = GAP + column * (width + GAP)
            crop = Image.fromarray(item.pixels[y : y + SIZE[1], x : x + SIZE[0]])
            paper.paste(crop.resize((width, height), Image.Resampling.NEAREST), (left, top))
            figures = f"{item.size:,} B" + (f", {item.psnr:.2f} dB" if item.psnr else "")
            middle = left + width / 2
            pen.text((middle, top + height + 12), item.title, "black", font, anchor="mm")
            pen.text((middle, top + height + 30), figures, "black", font, anchor="mm")
    return paper


def write(path: Path) -> bool:
    """Draws the picture, where the photographs are there; says whether they are."""
    found = {name: PHOTOGRAPHS / f"photo_{name}.png" for name in CROPS}
    rows = [(CROPS[name], list(coded(file))) for name, file in found.items() if file.exists()]
    if rows:
        path.parent.mkdir(parents=True, exist_ok=True)
        draw(rows).save(path, optimize=True)
    return bool(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("out", type=Path)
    if not write(parser.parse_args().out):
        raise SystemExit(f"{PHOTOGRAPHS}: expected photographs, found none")


if __name__ == "__main__":
    main()
