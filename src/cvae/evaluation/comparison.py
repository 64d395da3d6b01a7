"""A model against other codecs on the same images: rate-distortion curves, bytes at equal PSNR, BD-rate."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cvae import kinds
from cvae.codec import Codec
from cvae.data import metrics
from cvae.data.names import printable
from cvae.errors import CvaeError, MissingExtraError, ModelNotFoundError
from cvae.evaluation import rivals
from cvae.evaluation.measure import Measured, measure
from cvae.evaluation.rivals import Point, Progress
from cvae.kinds.fixed import is_linear
from cvae.models import registry
from cvae.models.file import Model

LINEAR = "linear"
NAMES = (LINEAR, *rivals.RIVALS)

# Qualities of our curve, besides the one that is asked for.
QUALITIES = (10, 30, 50, 70, 90)
# Lanes of the block, and symbols that pay for one: bytes count here, not speed.
_LANES, _SYMBOLS_A_LANE = 64, 64
_LINEAR_QUALITIES = range(1, 101, 3)
_SAMPLE = 128  # images that the linear codec's qualities are compared on

# A BD-rate of fewer points, or over a shorter range in dB, says nothing.
_BD_POINTS = 4
_BD_OVERLAP = 1.0

Row = dict[str, Any]


def parse(text: str) -> list[str]:
    """`png,webp` -> names, each once, in that order. Raises CvaeError at one that is not known."""
    names = list(dict.fromkeys(name.strip().lower() for name in text.split(",")))
    for name in names:
        if name not in NAMES:
            raise CvaeError(f"--against: expected some of {','.join(NAMES)}, found {name!r}")
    return names


def check(codec: Codec, names: list[str]) -> None:
    """Raises CvaeError, saying what is missing, before any long work begins."""
    try:
        import bjontegaard  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("bjontegaard", "eval") from error
    for name in names:
        if name == LINEAR:
            find_linear(codec)
        else:
            rivals.check(rivals.RIVALS[name])


def find_linear(codec: Codec) -> Codec:
    """The linear codec fitted to the images that the model was trained on.

    Raises:
        ModelNotFoundError: no known model is that.
        CvaeError: the model is itself linear.
    """
    manifest = codec.model.manifest
    if is_linear(manifest):
        raise CvaeError(f"--against linear: expected another kind of model, found {codec.name}")
    data = manifest.data.get("sha256")
    entries, errors = kinds.known_models()
    fitting = [
        (other.elements, path)
        for path, other in entries
        if other.image_shape == codec.image_shape
        and other.data.get("sha256") == data is not None
        and is_linear(other)
    ]
    if fitting:
        return Codec(Model(max(fitting)[1]))  # that of most components
    name = printable(str(manifest.data.get("name", "unknown data")))
    unread = f" (not readable: {'; '.join(map(str, errors))})" if errors else ""
    raise ModelNotFoundError(
        f"--against linear: expected a linear model of the images that {codec.name} was trained on "
        f"({name}), found none; cvae train linear-... makes one, and {registry.SEARCH_PATH} says "
        f"where it lies{unread}"
    )


@dataclass(frozen=True)
class Comparison:
    """Rows of figures, one a codec, layout and setting: ours, and the others'."""

    curve: list[Row]
    rivals: list[Row]
    refused: list[str]  # why a codec and layout is missing


def compare(codec: Codec, ours: Measured, names: list[str], progress: Progress) -> Comparison:
    """Measures our curve, and other codecs around our PSNR.

    Args:
        codec: the model's codec.
        ours: what it gave at the quality and effort in question.
        names: of the codecs to measure, see `parse`.
        progress: is told what is being measured.

    Returns:
        Rows with `codec`, `settings`, `layout` and the figures of `metrics.figures`. Layout `single`
        is a file an image; `block` all images as one block of the rANS coder, without any header;
        `mosaic` a picture of up to 1,000 images. `ssim_mean` is None but for the setting next to
        our PSNR. Rivals' rows repeat what holds for their whole curve: `bytes_at_our_psnr` and
        `bd_rate_percent`, ours against it, negative where ours needs less; None where unknown.

    Raises:
        CvaeError: a codec is missing here.
    """
    shape, psnr = codec.image_shape, float(ours.psnr.mean())
    our_ssim = None if ours.ssim is None else float(ours.ssim.mean())
    curve = [
        _row(codec.name, layout, point, shape, our_ssim if point.mse is ours.mse else None)
        for layout, points in _our_curve(codec, ours, progress).items()
        for point in points
    ]
    rows: list[Row] = []
    refused: list[str] = []
    for name in names:
        for layout, points in _curves(codec, name, ours, psnr, progress, refused):
            near = min(points, key=lambda point: abs(point.psnr - psnr))
            ssim = metrics.ssim_mean(ours.pixels, near.decoded)
            found = [
                _row(name, layout, point, shape, ssim if point is near else None)
                for point in points
            ]
            same = "single" if layout == "single" else "block"
            rows += _with_totals(found, [row for row in curve if row["layout"] == same], psnr)
    return Comparison(curve, rows, refused)


def _curves(
    codec: Codec,
    name: str,
    ours: Measured,
    target: float,
    progress: Progress,
    refused: list[str],
) -> Iterable[tuple[str, list[Point]]]:
    if name == LINEAR:
        yield from _linear_curves(find_linear(codec), ours, target, progress).items()
        return
    rival = rivals.RIVALS[name]
    layouts: tuple[rivals.Layout, ...] = ("single", "mosaic")
    for layout in layouts:
        try:
            points = rivals.curve(rival, ours.pixels, layout, target, progress)
        except CvaeError as error:  # as of an image that is too small for it; the others go on
            refused.append(f"{layout}: {error}")
            continue
        yield layout, points


def _our_curve(codec: Codec, ours: Measured, progress: Progress) -> dict[str, list[Point]]:
    curves: dict[str, list[Point]] = {"single": [], "block": []}
    for quality in sorted({ours.quality, *QUALITIES}):
        progress(f"{codec.name}: quality {quality}")
        known = quality == ours.quality
        measured = ours if known else measure(codec, ours.pixels, quality, ours.effort)
        for layout, points in curves.items():
            points.append(_point(codec, measured, layout))
    return curves


def _linear_curves(
    codec: Codec, ours: Measured, target: float, progress: Progress
) -> dict[str, list[Point]]:
    """The linear codec at the qualities around the target, with the same effort as ours."""
    sample = ours.pixels[:_SAMPLE]
    psnrs = []
    for quality in _LINEAR_QUALITIES:
        progress(f"{LINEAR}: quality {quality} on a sample")
        symbols = codec.quantize(sample, quality, ours.effort)
        psnrs.append(float(metrics.psnr(sample, codec.synthesize(symbols, quality)).mean()))
    blocks: dict[str, Point] = {}

    def measured(index: int) -> Point:
        quality = _LINEAR_QUALITIES[index]
        progress(f"{LINEAR}: quality {quality}")
        result = measure(codec, ours.pixels, quality, ours.effort)
        single = _point(codec, result, "single")
        blocks[single.settings] = _point(codec, result, "block")
        return single

    singles = rivals.bracket(measured, psnrs, target)
    return {"single": singles, "block": [blocks[point.settings] for point in singles]}


def _point(codec: Codec, measured: Measured, layout: str) -> Point:
    if layout == "single":
        size = int(measured.file_bytes.sum())
    else:
        lanes = max(1, min(_LANES, measured.symbols.size // _SYMBOLS_A_LANE))
        size = len(codec.coding.encode_block(measured.symbols, measured.quality, lanes))
    settings = f"quality={measured.quality} effort={measured.effort}"
    return Point(settings, size, measured.mse, measured.decoded)


def _row(
    name: str, layout: str, point: Point, shape: tuple[int, int, int], ssim: float | None
) -> Row:
    return {
        "codec": name,
        "settings": point.settings,
        "layout": layout,
        **metrics.figures(shape, point.total_bytes, point.mse),
        "ssim_mean": ssim,
        "lossless": point.lossless,
    }


def seen_from(curve: list[Row], psnr: float, rows: list[Row]) -> list[Row]:
    """Rivals' rows that were measured for one model, with what they say of another model's curve.

    Args:
        curve: the other model's rows.
        psnr: its PSNR of interest in dB.
        rows: as `Comparison.rivals`, of the same images.
    """
    seen = []
    for name, layout in dict.fromkeys((row["codec"], row["layout"]) for row in rows):
        group = [row for row in rows if (row["codec"], row["layout"]) == (name, layout)]
        same = "single" if layout == "single" else "block"
        seen += _with_totals(group, [row for row in curve if row["layout"] == same], psnr)
    return seen


def _with_totals(rows: list[Row], ours: list[Row], psnr: float) -> list[Row]:
    """A rival's rows, each with what holds for the whole curve."""
    totals = {
        "bytes_at_our_psnr": bytes_at(rows, psnr),
        "bd_rate_percent": bd_rate(ours, rows),
    }
    return [{**row, **totals} for row in rows]


def bytes_at(rows: list[Row], psnr: float) -> float | None:
    """Bytes an image at a PSNR in dB, between a curve's neighbours; None outside of its range.

    The logarithm of the bytes is taken as linear in PSNR. Lossless coding counts where it is smaller.
    """
    x, y = _lossy(rows)
    if not x or not x[0] <= psnr <= x[-1]:
        return None
    between = math.exp(float(np.interp(psnr, x, np.log(y))))
    lossless = [float(row["file_bytes_mean"]) for row in rows if row["lossless"]]
    return min([between, *lossless])


def bd_rate(ours: list[Row], rival: list[Row]) -> float | None:
    """Bjøntegaard's mean difference of bytes at equal PSNR in percent, by PCHIP; negative where ours is less.

    None with fewer than four lossy points a curve, or where they share less than a decibel.

    Raises:
        MissingExtraError: the package `bjontegaard` is not installed.
    """
    (our_psnr, our_bytes), (psnr, sizes) = _lossy(ours), _lossy(rival)
    if min(len(our_psnr), len(psnr)) < _BD_POINTS:
        return None
    if min(our_psnr[-1], psnr[-1]) - max(our_psnr[0], psnr[0]) < _BD_OVERLAP:
        return None
    try:
        import bjontegaard
    except ImportError as error:
        raise MissingExtraError("bjontegaard", "eval") from error
    percent: float = bjontegaard.bd_rate(
        sizes, psnr, our_bytes, our_psnr,
        method="pchip", require_matching_points=False, min_overlap=0,
    )  # fmt: skip
    return percent


def _lossy(rows: list[Row]) -> tuple[list[float], list[float]]:
    """PSNR and bytes an image of the lossy points that no other beats, both rising."""
    points = [(row["file_bytes_mean"], row["psnr_mean"]) for row in rows if not row["lossless"]]
    kept = [points[i] for i in rivals.front(points)]
    return [psnr for _, psnr in kept], [size for size, _ in kept]


# Why a codec is not shown at our PSNR, as marks in tables; the ratio is then of unequal pictures.
STARTS_ABOVE, ENDS_BELOW = "*", "**"
MARKS = {
    STARTS_ABOVE: "its smallest files are better than our pictures: the smallest is shown",
    ENDS_BELOW: "its best pictures are worse than ours: the best is shown",
}


@dataclass(frozen=True)
class Line:
    """What there is to say of one codec and layout in a table."""

    codec: str
    layout: str
    bytes: float  # an image
    psnr: float | None  # dB; None for lossless
    mark: str  # empty at our PSNR, else why not: STARTS_ABOVE or ENDS_BELOW
    settings: str
    times_ours: float
    bd_rate_percent: float | None


def lines(curve: list[Row], rows: list[Row], quality: int, psnr: float) -> list[Line]:
    """One line a codec and layout, ours first.

    Args:
        curve: our rows.
        rows: the rivals' rows.
        quality: ours.
        psnr: ours at that quality, in dB.
    """
    ours = {
        row["layout"]: row for row in curve if row["settings"].startswith(f"quality={quality} ")
    }
    found = [
        Line(row["codec"], layout, row["file_bytes_mean"], psnr, "", row["settings"], 1.0, None)
        for layout, row in ours.items()
    ]
    for name, layout in dict.fromkeys((row["codec"], row["layout"]) for row in rows):
        group = [row for row in rows if (row["codec"], row["layout"]) == (name, layout)]
        same = ours["single" if layout == "single" else "block"]["file_bytes_mean"]
        found.append(_line(group, same, psnr))
    return found


def _line(rows: list[Row], ours: float, psnr: float) -> Line:
    """At our PSNR if the curve has it; else the smallest that is as good, else the best there is."""
    size = rows[0]["bytes_at_our_psnr"]
    good = [row for row in rows if row["psnr_mean"] >= psnr]
    if good:
        row, mark = min(good, key=lambda row: float(row["file_bytes_mean"])), STARTS_ABOVE
    else:
        row, mark = max(rows, key=lambda row: float(row["psnr_mean"])), ENDS_BELOW
    reached = None if row["lossless"] else row["psnr_mean"]
    shown = row["file_bytes_mean"] if size is None else size
    return Line(
        codec=row["codec"],
        layout=row["layout"],
        bytes=shown,
        psnr=reached if size is None else psnr,
        mark=mark if size is None and reached is not None else "",
        settings=row["settings"],
        times_ours=shown / ours,
        bd_rate_percent=row["bd_rate_percent"],
    )
