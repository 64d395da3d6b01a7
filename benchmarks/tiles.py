"""A folder of drawn 32x32 tiles (PNG of any mode) as one `.npz` in the layout of `keras.datasets`."""

from __future__ import annotations

import argparse
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from cvae.images import Pixels, find_images

SIDE = 32


def read(folder: Path) -> tuple[Pixels, Pixels]:
    """Tiles on black, odd sizes left out, equal ones once: uint8 (n, 32, 32, 3) to train and to test.

    A tenth is for testing, chosen by a check sum of the pixels, so that it stays the same tenth
    whatever else is added.
    """
    found: dict[bytes, Pixels] = {}
    for path in find_images(folder):
        with Image.open(path) as image:
            rgba = image.convert("RGBA")
        if rgba.size == (SIDE, SIDE):
            black = Image.new("RGBA", rgba.size, (0, 0, 0, 255))
            pixels = np.asarray(Image.alpha_composite(black, rgba).convert("RGB"))
            found[pixels.tobytes()] = pixels
    ordered = sorted(found)
    test = [found[key] for key in ordered if zlib.crc32(key) % 10 == 0]
    train = [found[key] for key in ordered if zlib.crc32(key) % 10]
    return np.stack(train), np.stack(test)


def write(folder: Path, output: Path) -> None:
    """Writes the `.npz` file."""
    train, test = read(folder)
    output.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(output, x_train=train, x_test=test)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path, help="the .npz file to write")
    arguments = parser.parse_args()
    write(arguments.folder, arguments.output)


if __name__ == "__main__":
    main()
