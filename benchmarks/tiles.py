"""A folder of drawn 32x32 tiles (PNG of any mode) as one `.npz` in the layout of `keras.datasets`."""

from __future__ import annotations

import argparse
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cvae.data.images import Pixels
from cvae.data.listing import images as images_of
from cvae.data.places import Local

SIDE = 32
# The share of pixels below which two tiles are of one family.
NEAR = 0.1


def read(folder: Path) -> tuple[Pixels, Pixels]:
    """Tiles on black, odd sizes left out, equal ones once: uint8 (n, 32, 32, 3) to train and to test.

    About a tenth is for testing. Tiles that differ in few pixels, as those of an animation or in
    several colours do, stay on one side; which side is a check sum of the first one's name.
    """
    found: dict[bytes, tuple[str, Pixels]] = {}
    for path in sorted(folder / tile.name for tile in images_of(Local(folder).below())):
        with Image.open(path) as image:
            rgba = image.convert("RGBA")
        if rgba.size == (SIDE, SIDE):
            black = Image.new("RGBA", rgba.size, (0, 0, 0, 255))
            pixels = np.asarray(Image.alpha_composite(black, rgba).convert("RGB"))
            found.setdefault(pixels.tobytes(), (path.relative_to(folder).as_posix(), pixels))
    names = [name for name, _ in found.values()]
    tiles = np.stack([pixels for _, pixels in found.values()])
    first = families(tiles)
    testing = np.array([zlib.crc32(names[i].encode()) % 10 == 0 for i in first])
    return tiles[~testing], tiles[testing]


def families(tiles: Pixels) -> NDArray[np.int64]:
    """For each tile the first one of its family: tiles linked by pairs that differ in few pixels."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    # A pixel as one number, so that equal means equal in all channels.
    flat = tiles.reshape(len(tiles), -1, 3).astype(np.uint32) @ np.uint32([1, 1 << 8, 1 << 16])
    pairs = [
        (i, i + int(j))
        for i in range(len(flat))
        for j in np.flatnonzero(np.mean(flat[i:] != flat[i], axis=1) < NEAR)
    ]
    rows, columns = np.array(pairs).T
    links = coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(flat), len(flat)))
    _, labels = connected_components(links, directed=False)
    _, first = np.unique(labels, return_index=True)
    return np.asarray(first[labels], np.int64)


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
