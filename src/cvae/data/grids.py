"""Several images as one picture: grids on grey paper, and animations."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from cvae.data import files, images
from cvae.data.images import Pixels, Shape

_GAP = 2  # pixels between images
_PAPER = 128
_SEEN = 96  # pixels: no image is enlarged beyond this side
_FRAME = 120  # milliseconds


def zoom_for(shape: Shape) -> int:
    """How often a pixel of images (h, w, c) is repeated so that small ones can be seen."""
    return max(1, min(3, _SEEN // max(shape[:2])))


def grid_shape(rows: int, columns: int, shape: Shape, zoom: int) -> Shape:
    """(h, w, c) of a grid of images (h, w, c)."""
    height, width = shape[0] + _GAP, shape[1] + _GAP
    return (rows * height + _GAP) * zoom, (columns * width + _GAP) * zoom, shape[2]


def grid(rows: list[Pixels], zoom: int) -> Pixels:
    """Rows of uint8 images, each (n, h, w, c), as one picture; no row is longer than the first."""
    columns, height, width, _ = rows[0].shape
    paper = np.full(grid_shape(len(rows), columns, rows[0].shape[1:], 1), _PAPER, np.uint8)
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            top, left = _GAP + i * (height + _GAP), _GAP + j * (width + _GAP)
            paper[top : top + height, left : left + width] = image
    return _enlarge(paper, zoom)


def image_grid(rows: list[Pixels], path: Path, zoom: int = 3) -> None:
    """Writes a grid as a PNG file, over one that exists. Raises OutputError."""
    files.write_bytes(path, images.encode_image(grid(rows, zoom)), force=True)


def animation(frames: Pixels, zoom: int) -> bytes:
    """uint8 images (n, h, w, c) as a GIF that runs through them and back, for ever."""
    there_and_back = [*frames, *frames[-2:0:-1]]
    first, *others = (images.as_image(_enlarge(frame, zoom)) for frame in there_and_back)
    buffer = io.BytesIO()
    first.save(buffer, "GIF", save_all=True, append_images=others, duration=_FRAME, loop=0)
    return buffer.getvalue()


def _enlarge(pixels: Pixels, zoom: int) -> Pixels:
    return pixels.repeat(zoom, axis=0).repeat(zoom, axis=1)
