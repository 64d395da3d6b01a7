"""The picture of the README: the samples, what comes back of them, and the bytes of each.

python benchmarks/readme.py docs/samples.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cvae.codec import open_model
from cvae.data.images import Pixels

SAMPLES = sorted((Path(__file__).parents[1] / "samples").glob("digit_*.png"))
ZOOM, GAP, LEFT, TEXT = 3, 10, 120, 22


def rows() -> list[tuple[str, list[Pixels], list[int]]]:
    """A title, uint8 pictures (h, w) and bytes of each row."""
    originals = np.stack([np.asarray(Image.open(path).convert("L")) for path in SAMPLES])
    found = [("PNG", list(originals), [path.stat().st_size for path in SAMPLES])]
    for name in ("mnist", "mnist-hq"):
        codec = open_model(name)
        coded = [item.data for item in codec.encode_batch(originals[..., None])]
        found.append((name, codec.decode(coded), [len(data) for data in coded]))
    return found


def draw(table: list[tuple[str, list[Pixels], list[int]]]) -> Image.Image:
    side = ZOOM * table[0][1][0].shape[0]
    height = side + TEXT + GAP
    paper = Image.new("L", (LEFT + len(SAMPLES) * (side + GAP), len(table) * height + GAP), 255)
    pen, font = ImageDraw.Draw(paper), ImageFont.load_default(15)
    for row, (title, pictures, sizes) in enumerate(table):
        top = GAP + row * height
        pen.text((GAP, top + side / 2), title, 0, font, anchor="lm")
        for column, (picture, size) in enumerate(zip(pictures, sizes, strict=True)):
            left = LEFT + column * (side + GAP)
            paper.paste(
                Image.fromarray(picture).resize((side, side), Image.Resampling.NEAREST), (left, top)
            )
            pen.text((left + side / 2, top + side + TEXT / 2), f"{size} B", 0, font, anchor="mm")
    return paper


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    draw(rows()).save(parser.parse_args().out, optimize=True)
