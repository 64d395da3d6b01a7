"""Draws landscape.png, and landscape_noisy.png: the same with Gaussian noise of 0.4, to denoise.

python benchmarks/landscape.py docs/models
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

WIDTH, HEIGHT = 192, 128
OVERSAMPLING = 4
NOISE = 0.4  # standard deviation, in pixel values from 0 to 1

SKY = ((70, 120, 190), (235, 215, 190))  # top and horizon
# From far to near: height over the bottom, how much it waves, waves across the picture, colour.
HILLS = (
    (0.52, 0.07, 1.3, (112, 128, 150)),
    (0.40, 0.06, 2.1, (84, 118, 96)),
    (0.22, 0.05, 1.6, (62, 96, 52)),
)
SUN = ((0.74, 0.26), 0.07, (255, 244, 214))
# Left, right, foot and eaves of a house, in shares of the picture.
HOUSE = (0.24, 0.40, 0.84, 0.64)
WALL, ROOF, WINDOW = (214, 196, 168), (150, 62, 48), (58, 54, 62)


def draw() -> Image.Image:
    width, height = WIDTH * OVERSAMPLING, HEIGHT * OVERSAMPLING
    down = np.linspace(0, 1, height)[:, np.newaxis, np.newaxis]
    sky = (1 - down) * np.array(SKY[0]) + down * np.array(SKY[1])
    picture = Image.fromarray(np.broadcast_to(sky, (height, width, 3)).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    (x, y), radius, colour = SUN
    pen.circle((x * width, y * height), radius * width, fill=colour)
    across = np.arange(width)
    for phase, (level, swing, waves, colour) in enumerate(HILLS):
        wave = np.sin(2 * np.pi * waves * across / width + 2.3 * phase)
        top = height * (1 - level - swing * wave)
        pen.polygon([(0, height), *zip(across, top, strict=True), (width, height)], fill=colour)
    _house(pen, width, height)
    return picture.resize((WIDTH, HEIGHT), Image.Resampling.BOX)


def _house(pen: ImageDraw.ImageDraw, width: int, height: int) -> None:
    left, right, foot, eaves = (
        share * side for share, side in zip(HOUSE, (width, width, height, height), strict=True)
    )
    middle, unit = (left + right) / 2, (right - left) / 10
    pen.rectangle((left, eaves, right, foot), fill=WALL)
    pen.polygon(
        [(left - unit, eaves), (middle, eaves - 4 * unit), (right + unit, eaves)], fill=ROOF
    )
    for start in (left + 1.5 * unit, right - 3.5 * unit):
        pen.rectangle((start, eaves + 1.5 * unit, start + 2 * unit, eaves + 4 * unit), fill=WINDOW)
    pen.rectangle((middle - unit, foot - 4 * unit, middle + unit, foot), fill=ROOF)


def noisy(picture: Image.Image) -> Image.Image:
    pixels = np.asarray(picture) / 255
    pixels = pixels + NOISE * np.random.default_rng(0).standard_normal(pixels.shape)
    return Image.fromarray(np.rint(255 * np.clip(pixels, 0, 1)).astype(np.uint8))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    picture = draw()
    picture.save(folder / "landscape.png", optimize=True)
    noisy(picture).save(folder / "landscape_noisy.png", optimize=True)


if __name__ == "__main__":
    main()
