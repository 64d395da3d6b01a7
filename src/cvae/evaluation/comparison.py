"""A model against other codecs on the same images: rate-distortion curves, bytes at equal PSNR, BD-rate."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np

from cvae import kinds
from cvae.codec import Codec
from cvae.data import metrics
from cvae.errors import CvaeError, MissingExtraError, ModelNotFoundError
from cvae.evaluation import fonts, rivals
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
_BD_POINTS, _BD_OVERLAP = 4, 1.0

Row = dict[str, Any]
Curves = Iterable[tuple[str, Sequence[Point]]]  # layouts and their points
_CURVE = itemgetter("codec", "layout")  # what the rows of a curve have in common
_OURS = {"single": "single", "block": "block", "mosaic": "block"}  # what a layout is compared with


def parse(text: str) -> list[str]:
    """`png,webp` -> names, each once, in that order. Raises CvaeError at one that is not known."""
    names = list(dict.fromkeys(name.strip().lower() for name in text.split(",")))
    for name in names:
        if name not in NAMES:
            raise CvaeError(f"--against: expected some of {','.join(NAMES)}, found {name!r}")
    return names


def check(codec: Codec, names: list[str]) -> None:
    """Raises CvaeError, saying what is missing, before any long work begins."""
    _bjontegaard()
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
    unread = f" (not readable: {'; '.join(map(str, errors))})" if errors else ""
    raise ModelNotFoundError(
        f"--against linear: expected a linear model of the images that {codec.name} was trained on "
        f"({manifest.data.get('name', 'unknown data')}), found none; cvae train linear-... makes one, "
        f"and {registry.SEARCH_PATH} says where it lies{unread}"
    )


@dataclass(frozen=True)
class Comparison:
    """Rows of figures, one a codec, layout and setting: ours, and the others'."""

    curve: list[Row]
    rivals: list[Row]
    refused: list[str]  # why a codec and layout is missing


def compare(codec: Codec, ours: Measured, names: list[str], progress: Progress) -> Comparison:
    """Measures our curve, and other codecs around our PSNR at the quality and effort of `ours`.

    Returns:
        Rows with `codec`, `settings`, `layout` and the figures of `metrics.figures`. Layout `single`
        is a file an image; `block` all images as one block of the rANS coder, without any header;
        `mosaic` a picture of up to 1,000 images. Of a model of any size there are single files alone.
        `ssim_mean` is None but for the setting next to our PSNR. Rivals' rows are those of `seen_from`.

    Raises:
        CvaeError: a codec is missing here.
    """
    psnr = float(ours.psnr.mean())
    shape = metrics.mean_shape(image.shape for image in ours.pixels)

    def rows(name: str, curves: Curves) -> Iterator[Row]:
        for layout, points in curves:
            near = min(points, key=lambda point: abs(point.psnr - psnr))
            for point in points:
                yield {
                    "codec": name,
                    "settings": point.settings,
                    "layout": layout,
                    **metrics.figures(shape, point.total_bytes, point.mse),
                    "ssim_mean": _ssim(ours, near) if point is near else None,
                    "lossless": point.lossless,
                }

    curve = list(rows(codec.name, _our_curves(codec, ours, progress)))
    others: list[Row] = []
    refused: list[str] = []
    for name in names:
        if name == LINEAR:
            curves = _linear_curves(find_linear(codec), ours, psnr, progress)
        else:
            layouts = rivals.LAYOUTS[:1] if codec.any_size else rivals.LAYOUTS
            curves = _rival_curves(rivals.RIVALS[name], layouts, ours, psnr, progress, refused)
        others += rows(name, curves)
    return Comparison(curve, seen_from(curve, psnr, others), refused)


def _ssim(ours: Measured, point: Point) -> float | None:
    known = point.decoded is ours.decoded
    values = ours.ssim if known else metrics.ssim_each(ours.pixels, point.decoded)
    mean: float | None = metrics.ssim_figures(values)["ssim_mean"]
    return mean


def _rival_curves(
    rival: rivals.Rival, layouts: Sequence[rivals.Layout], ours: Measured, target: float,
    progress: Progress, refused: list[str],
) -> Curves:  # fmt: skip
    for layout in layouts:
        try:
            points = rivals.curve(rival, ours.pixels, layout, target, progress)
        except CvaeError as error:  # as of an image that is too small for it; the others go on
            refused.append(f"{layout}: {error}")
        else:
            yield layout, points


def _our_curves(codec: Codec, ours: Measured, progress: Progress) -> Curves:
    found = []
    for quality in sorted({ours.quality, *QUALITIES}):
        progress(f"{codec.name}: quality {quality}")
        known = quality == ours.quality
        found.append(ours if known else measure(codec, ours.pixels, quality, ours.effort))
    return _curves(codec, found)


def _linear_curves(codec: Codec, ours: Measured, target: float, progress: Progress) -> Curves:
    """The linear codec at the qualities around the target, with the same effort as ours."""
    sample = ours.pixels[:_SAMPLE]
    psnrs = []
    for quality in _LINEAR_QUALITIES:
        progress(f"{LINEAR}: quality {quality} on a sample")
        symbols = codec.quantize(sample, quality, ours.effort)
        psnrs.append(float(metrics.psnr(sample, codec.synthesize(symbols, quality)).mean()))

    @cache
    def measured(index: int) -> Measured:
        progress(f"{LINEAR}: quality {_LINEAR_QUALITIES[index]}")
        return measure(codec, ours.pixels, _LINEAR_QUALITIES[index], ours.effort)

    chosen = rivals.bracket(lambda i: float(measured(i).psnr.mean()), psnrs, target)
    return _curves(codec, [measured(index) for index in chosen])


def _curves(codec: Codec, found: list[Measured]) -> Curves:
    """Single files, and one block where all have one size, at each of the measured qualities."""
    curves: dict[str, list[Point]] = defaultdict(list)
    for item in found:
        sizes = {"single": int(item.file_bytes.sum())}
        if not codec.any_size:
            lanes = max(1, min(_LANES, item.symbols.size // _SYMBOLS_A_LANE))
            sizes["block"] = len(codec.coding.encode_block(item.symbols, item.quality, lanes))
        settings = f"quality={item.quality} effort={item.effort}"
        for layout, size in sizes.items():
            curves[layout].append(Point(settings, size, item.mse, item.decoded))
    return curves.items()


def seen_from(curve: list[Row], psnr: float, rows: list[Row]) -> list[Row]:
    """Rivals' rows, each with what holds for its whole curve beside ours; None where unknown.

    `bytes_at_our_psnr` is of an image, `bd_rate_percent` ours against the rival's. The curve may be
    of another model than `rows` were measured for; rows of one curve follow each other.
    """
    seen = []
    for (_, layout), group in groupby(rows, _CURVE):
        found = list(group)
        ours = [row for row in curve if row["layout"] == _OURS[layout]]
        size, rate = bytes_at(found, psnr), bd_rate(ours, found)
        seen += [{**row, "bytes_at_our_psnr": size, "bd_rate_percent": rate} for row in found]
    return seen


def bytes_at(rows: list[Row], psnr: float) -> float | None:
    """Bytes an image at a PSNR in dB, between a curve's neighbours; None outside its range.

    The logarithm of the bytes is taken as linear in PSNR. Lossless coding counts where it is smaller.
    """
    x, y = _lossy(rows)
    if not x or not x[0] <= psnr <= x[-1]:
        return None
    between = math.exp(float(np.interp(psnr, x, np.log(y))))
    return min([between, *(float(row["file_bytes_mean"]) for row in rows if row["lossless"])])


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
    percent: float = _bjontegaard().bd_rate(
        sizes, psnr, our_bytes, our_psnr,
        method="pchip", require_matching_points=False, min_overlap=0,
    )  # fmt: skip
    return percent


def _bjontegaard() -> Any:
    try:
        with fonts.kept_apart():  # it imports matplotlib
            import bjontegaard
    except ImportError as error:
        raise MissingExtraError("bjontegaard", "eval") from error
    return bjontegaard


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
    """One line a codec and layout, ours first, at our quality and its PSNR; rows as `seen_from` has them."""
    ours = {r["layout"]: r for r in curve if r["settings"].startswith(f"quality={quality} ")}
    found = [
        Line(row["codec"], layout, row["file_bytes_mean"], psnr, "", row["settings"], 1.0, None)
        for layout, row in ours.items()
    ]
    for (codec, layout), group in groupby(rows, _CURVE):
        row, size, reached, mark = _shown(list(group), psnr)
        ratio = size / ours[_OURS[layout]]["file_bytes_mean"]
        rate = row["bd_rate_percent"]
        found.append(Line(codec, layout, size, reached, mark, row["settings"], ratio, rate))
    return found


def _shown(rows: list[Row], psnr: float) -> tuple[Row, float, float | None, str]:
    """A setting, bytes, PSNR and mark: the smallest that is as good as ours, else the best there is."""
    good = [row for row in rows if row["psnr_mean"] >= psnr]
    by_bytes, by_psnr = itemgetter("file_bytes_mean"), itemgetter("psnr_mean")
    row = min(good, key=by_bytes) if good else max(rows, key=by_psnr)
    if row["bytes_at_our_psnr"] is not None:
        return row, row["bytes_at_our_psnr"], psnr, ""
    if row["lossless"]:
        return row, row["file_bytes_mean"], None, ""
    return row, row["file_bytes_mean"], row["psnr_mean"], STARTS_ABOVE if good else ENDS_BELOW
