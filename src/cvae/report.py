"""Pictures of training runs: loss curves, grids of images. matplotlib is only imported in here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cvae import files, images
from cvae.errors import MissingExtraError
from cvae.images import Pixels

_GAP = 2
_PAPER = 128


def loss_curves(rows: list[dict[str, Any]], path: Path) -> None:
    """Draws each training loss of a history with its validation counterpart, one panel each, as PNG.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "train") from error
    names = [name for name in rows[0] if f"val_{name}" in rows[0]]
    epochs = [row["epoch"] for row in rows]
    figure = Figure(figsize=(4 * len(names), 3.2), layout="constrained")
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(names))), names, strict=True):
        axes.plot(epochs, [row[name] for row in rows], ".-", label="training")
        axes.plot(epochs, [row[f"val_{name}"] for row in rows], ".-", label="validation")
        # The first epochs are so much worse that on a linear axis nothing else would be seen.
        axes.set(title=name, xlabel="epoch", yscale="log")
        axes.yaxis.set_major_formatter("{x:.4g}")
        axes.yaxis.set_minor_formatter("{x:.4g}")
        axes.grid(alpha=0.3)
        axes.legend()
    with files.atomic_path(path, force=True) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def image_grid(rows: list[Pixels], path: Path, zoom: int = 3) -> None:
    """Writes rows of uint8 images, each (n, h, w, c), as one PNG, every pixel `zoom` times as large."""
    n, height, width, channels = rows[0].shape
    grid = np.full(
        (len(rows) * (height + _GAP) + _GAP, n * (width + _GAP) + _GAP, channels), _PAPER, np.uint8
    )
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            top, left = _GAP + i * (height + _GAP), _GAP + j * (width + _GAP)
            grid[top : top + height, left : left + width] = image
    large = grid.repeat(zoom, axis=0).repeat(zoom, axis=1)
    files.write_bytes(path, images.encode_image(large), force=True)
