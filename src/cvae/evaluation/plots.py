"""Plots by matplotlib, which nothing else imports: loss curves, latents, rate against distortion."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvae.data import files
from cvae.data.images import Pixels
from cvae.errors import MissingExtraError

Points = NDArray[np.float32]  # (n, 2)

_CELLS = 14  # thumbnails along each axis of a map, at most


def loss_curves(rows: list[dict[str, Any]], path: Path) -> None:
    """Draws each training loss of a history with its validation counterpart, one panel each, as PNG.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "train") from error
    names = [name for name in rows[0] if f"val_{name}" in rows[0] and any(r[name] for r in rows)]
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


def latent_map(points: Points, pixels: Pixels, path: Path) -> None:
    """Draws where images lie in two dimensions, some of them as thumbnails, as PNG.

    Args:
        points: (n, 2).
        pixels: uint8 (n, h, w, c), the image of each point.
        path: the file.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "train") from error
    figure = Figure(figsize=(7, 7), layout="constrained")
    axes = figure.subplots()
    axes.scatter(points[:, 0], points[:, 1], s=4, color=_COLOURS[1], alpha=0.4, linewidths=0)
    low, high = points.min(axis=0), points.max(axis=0)
    span = np.where(high > low, high - low, 1)  # one image, or all in one place
    side = span / _CELLS / 2
    # The first image of each cell, so that none covers another.
    cells = np.floor((points - low) / span * (_CELLS - 1e-6))
    _, first = np.unique(cells, axis=0, return_index=True)
    for i in first:
        (left, bottom), (right, top) = points[i] - 0.9 * side, points[i] + 0.9 * side
        picture = pixels[i].repeat(3 // pixels.shape[3], axis=2)
        axes.imshow(picture, extent=(left, right, bottom, top), aspect="auto", zorder=2)
    axes.set(
        title="latents of validation images", xlabel="component 1", ylabel="component 2",
        xlim=(low[0] - side[0], high[0] + side[0]),
        ylim=(low[1] - side[1], high[1] + side[1]),
    )  # fmt: skip
    with files.atomic_path(path, force=True) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


# Okabe and Ito's colours, which differ for colour-blind readers, too; ours is black.
_COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8A8A8A")
_MARKERS = "osD^vPX*"
# The PSNRs that are shown: those of our curve, and so many dB below and above.
_BELOW, _ABOVE = 3.0, 6.0


def rate_distortion_plot(curve: list[dict[str, Any]], rivals: list[dict[str, Any]]) -> bytes:
    """Bytes an image against PSNR as a PNG: single files solid, many images at once dashed.

    Args:
        curve: our rows, see `comparison.compare`.
        rivals: the other codecs' rows; one that is only lossless is a vertical line.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "eval") from error
    rows = curve + rivals
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    codecs = list(dict.fromkeys(row["codec"] for row in rows))
    for number, codec in enumerate(codecs):
        style = {
            "color": _COLOURS[number % len(_COLOURS)],
            # Past the last colour they begin again, with other markers.
            "marker": _MARKERS[(number + number // len(_COLOURS)) % len(_MARKERS)],
            "linewidth": 1.6 if number else 2.6,
            "markersize": 4.5,
        }
        _draw(axes, [row for row in rows if row["codec"] == codec], codec, style)
    _frame(axes, curve, rows)
    figure.legend(loc="outside right upper", frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()


def _draw(axes: Any, rows: list[dict[str, Any]], codec: str, style: dict[str, Any]) -> None:
    label: str | None = codec
    for layout in dict.fromkeys(row["layout"] for row in rows):
        dash = "-" if layout == "single" else "--"
        group = [row for row in rows if row["layout"] == layout]
        lossy = sorted(
            (row["psnr_mean"], row["file_bytes_mean"]) for row in group if not row["lossless"]
        )
        if lossy:
            psnr, size = zip(*lossy, strict=True)
            axes.plot(size, psnr, dash, label=label, **style)
        else:
            plain = {"color": style["color"], "linewidth": style["linewidth"]}
            name = None if label is None else f"{label} (lossless)"
            axes.axvline(group[0]["file_bytes_mean"], linestyle=dash, label=name, **plain)
        label = None  # one entry a codec


def _frame(axes: Any, curve: list[dict[str, Any]], rows: list[dict[str, Any]]) -> None:
    """Axes, limits around our curve, and what solid and dashed mean."""
    reached = [row["psnr_mean"] for row in curve]
    low, high = min(reached) - _BELOW, max(reached) + _ABOVE
    shown = [
        row["file_bytes_mean"] for row in rows if row["lossless"] or low <= row["psnr_mean"] <= high
    ]
    axes.plot([], [], "-", color="grey", label="single files")
    axes.plot([], [], "--", color="grey", label="block or mosaic")
    axes.set(
        xlabel="bytes an image",
        ylabel="PSNR, dB",
        xscale="log",
        xlim=(min(shown) / 1.2, max(shown) * 1.2),
        ylim=(low, high),
    )
    axes.xaxis.set_major_locator(_steps())
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.grid(alpha=0.3)


def _steps() -> Any:
    from matplotlib.ticker import LogLocator

    return LogLocator(base=10, subs=(1, 2, 5), numticks=20)
