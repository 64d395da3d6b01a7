"""Plots by matplotlib, which nothing else imports: loss curves, latents, rate against distortion."""

from __future__ import annotations

import io
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvae.data import files
from cvae.data.images import Pixels
from cvae.errors import MissingExtraError
from cvae.evaluation import fonts

Points = NDArray[np.float32]  # (n, 2)

_CELLS = 14  # thumbnails along each axis of a map, at most
# Okabe and Ito's colours, which differ for colour-blind readers, too; ours is black.
_COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8A8A8A")
_MARKERS = "osD^vPX*"
# The PSNRs that are shown: those of our curve, and so many dB below and above.
_BELOW, _ABOVE = 3.0, 6.0


def look(number: int) -> dict[str, str]:
    """Colour and marker of the curve of this number, in every figure.

    Past the last colour they begin again, with other markers.
    """
    marker = _MARKERS[(number + number // len(_COLOURS)) % len(_MARKERS)]
    return {"color": _COLOURS[number % len(_COLOURS)], "marker": marker}


def loss_curves(rows: list[dict[str, Any]], path: Path) -> None:
    """Draws each training loss of a history with its validation counterpart, one panel each, as PNG.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    names = [name for name in rows[0] if f"val_{name}" in rows[0] and any(r[name] for r in rows)]
    epochs = [row["epoch"] for row in rows]
    figure = _figure(4 * len(names), 3.2, "train")
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(names))), names, strict=True):
        for number, (key, label) in enumerate(((name, "training"), (f"val_{name}", "validation"))):
            axes.plot(epochs, [row[key] for row in rows], **look(number), markersize=3, label=label)
        # The first epochs are so much worse that on a linear axis nothing else would be seen.
        axes.set(title=name, xlabel="epoch", yscale="log")
        axes.yaxis.set_major_formatter("{x:.4g}")
        axes.yaxis.set_minor_formatter("{x:.4g}")
        axes.grid(alpha=0.3)
        axes.legend()
    files.write_bytes(path, _png(figure, 100), force=True)


def latent_map(points: Points, pixels: Pixels, path: Path) -> None:
    """Draws where images, uint8 (n, h, w, c), lie in two dimensions, some as thumbnails, as PNG.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure = _figure(7, 7, "train")
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
    axes.set(title="latents of validation images", xlabel="component 1", ylabel="component 2")
    (left, bottom), (right, top) = low - side, high + side
    axes.set(xlim=(left, right), ylim=(bottom, top))
    files.write_bytes(path, _png(figure, 100), force=True)


def rate_distortion_plot(curve: list[dict[str, Any]], rivals: list[dict[str, Any]]) -> bytes:
    """Bytes an image against PSNR as a PNG: single files solid, many images at once dashed.

    Rows are those of `comparison.compare`. A codec that is only lossless is a vertical line.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    rows = curve + rivals
    figure = _figure(8, 5, "eval")
    axes = figure.subplots()
    for number, codec in enumerate(dict.fromkeys(row["codec"] for row in rows)):
        line: dict[str, Any] = {**look(number), "linewidth": 1.6 if number else 2.6}
        _draw(axes, [row for row in rows if row["codec"] == codec], line)
    _frame(axes, curve, rows)
    figure.legend(loc="outside right upper", frameon=False)
    return _png(figure, 130)


def rates_plot(curves: dict[str, list[tuple[float, float]]], rates: tuple[float, float]) -> bytes:
    """Mean PSNR over mean bits a pixel as a PNG, one curve a codec, ours first.

    `rates` is the range that figures are about: it is shaded, and what is shown is a little more.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure = _figure(8, 5, "eval")
    axes = figure.subplots()
    left, right = rates[0] / 2, rates[1] * 2
    for number, (name, curve) in enumerate(curves.items()):
        bits, psnr = zip(*curve, strict=True) if curve else ((), ())
        width = 1.6 if number else 2.6
        axes.plot(bits, psnr, "-", label=name, markersize=4.5, linewidth=width, **look(number))
    shown = [psnr for bits, psnr in chain.from_iterable(curves.values()) if left <= bits <= right]
    if shown:
        axes.set(ylim=(min(shown) - 0.5, max(shown) + 0.5))
    axes.axvspan(*rates, color="grey", alpha=0.08, linewidth=0)
    axes.set(xlabel="bits a pixel", xscale="log", xlim=(left, right), ylabel="PSNR, dB")
    ticks = [tick for tick in (0.125, 0.25, 0.5, 1, 2, 4) if left <= tick <= right]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.set_minor_formatter("")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", frameon=False)
    return _png(figure, 130)


def _figure(width: float, height: float, extra: str) -> Any:
    try:
        with fonts.kept_apart():
            from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", extra) from error
    return Figure(figsize=(width, height), layout="constrained")


def _png(figure: Any, dpi: int) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def _draw(axes: Any, rows: list[dict[str, Any]], line: dict[str, Any]) -> None:
    """The curves of one codec, with one label for all."""
    label: str | None = rows[0]["codec"]
    for layout, group in groupby(rows, itemgetter("layout")):
        dash, found = "-" if layout == "single" else "--", list(group)
        lossy = sorted((r["psnr_mean"], r["file_bytes_mean"]) for r in found if not r["lossless"])
        if lossy:
            psnr, size = zip(*lossy, strict=True)
            axes.plot(size, psnr, dash, label=label, markersize=4.5, **line)
        else:
            name = label and f"{label} (lossless)"
            plain = {key: value for key, value in line.items() if key != "marker"}
            axes.axvline(found[0]["file_bytes_mean"], linestyle=dash, label=name, **plain)
        label = None


def _frame(axes: Any, curve: list[dict[str, Any]], rows: list[dict[str, Any]]) -> None:
    """Axes, limits around our curve, and what solid and dashed mean."""
    from matplotlib.ticker import LogLocator

    reached = [row["psnr_mean"] for row in curve]
    low, high = min(reached) - _BELOW, max(reached) + _ABOVE
    shown = [r["file_bytes_mean"] for r in rows if r["lossless"] or low <= r["psnr_mean"] <= high]
    axes.plot([], [], "-", color="grey", label="single files")
    axes.plot([], [], "--", color="grey", label="block or mosaic")
    axes.set(xlabel="bytes an image", xscale="log", xlim=(min(shown) / 1.2, max(shown) * 1.2))
    axes.set(ylabel="PSNR, dB", ylim=(low, high))
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5), numticks=20))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.grid(alpha=0.3)
