"""Rate and distortion of pictures of any size, `photo` beside other codecs: tables for docs/results.md.

python benchmarks/anysize.py FOLDER [--jobs N] [--plot FILE]   prints the tables of one folder
python benchmarks/anysize.py FOLDER --keep                     adds points of slow codecs to points.json

A point of AVIF at speed 0 takes 10 seconds, and there are hundreds: those in `points.json` are not
measured again while picture, setting and version of the codec are the same; without the file all are.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msssim
import numpy as np
from PIL import __version__ as pillow_version
from PIL import features

from cvae import CvaeError, open_model
from cvae.codec import WHITE, Codec
from cvae.data import files, metrics
from cvae.data.listing import images as images_of
from cvae.data.places import Local
from cvae.data.reading import Reading
from cvae.errors import ModelNotFoundError
from cvae.evaluation import plots, rivals
from cvae.evaluation.rivals import Options, Rival
from cvae.options import DEFAULT_EFFORT, EncodeOptions

MODEL = "photo"
QUALITIES = [1, 10, 20, 30, 40, 50, 60, 75, 90]
RATES = (0.25, 1.0)  # bits a pixel of the other codec, between which BD-rates count
# One JSON file a picture and setting; git ignores the folder.
KEPT = Path(__file__).parents[1] / "runs" / "anysize"
# What was measured of these codecs, in git: name of the task -> point.
SLOW, POINTS = ("avif", "jxl"), Path(__file__).parent / "points.json"
_FEWEST, _SHORTEST = 4, 1.0  # points of a curve, and dB, for a BD-rate

_STEPS = [5, 10, 20, 30, 40, 50, 60, 70, 80, 90]


def _best(name: str, fixed: Options, **lossy: list[Any]) -> Rival:
    known = rivals.RIVALS[name]
    return replace(known, fixed={**known.fixed, **fixed}, lossy=lossy, single={})


# All of these are tried on every picture, and a curve is what no mixture of others beats.
RIVALS = {
    "jpeg": _best("jpeg", {"progressive": True}, quality=[*_STEPS, 15, 95]),
    "webp": _best("webp", {}, quality=[0, *_STEPS, 95]),
    "avif": _best("avif", {"speed": 0}, quality=[20, 35, 50, 65, 80]),
    "jpeg2000": _best(
        "jpeg2000",
        {},
        irreversible=[True],
        quality_layers=[[db] for db in range(20, 49, 2)],
        num_resolutions=[3, 6],
    ),
    "jxl": _best("jxl", {"effort": 9}, quality=_STEPS),
}
TITLES = {
    "jpeg": "JPEG, optimized, progressive",
    "webp": "WebP, method 6",
    "avif": "AVIF, speed 0",
    "jpeg2000": "JPEG 2000",
    "jxl": "JPEG XL, effort 9",
}

Curve = list[tuple[float, float]]  # bits a pixel and PSNR in dB, both rising


@dataclass(frozen=True)
class Point:
    """A picture coded and decoded with one setting."""

    bpp: float  # of the whole file
    psnr: float
    ms_ssim: float | None  # None for pictures that are too small


@dataclass(frozen=True)
class Task:
    """One setting of one codec on one picture."""

    path: Path
    codec: str  # MODEL or one of RIVALS
    setting: str  # JSON: the quality of the model, or options of Pillow's `save`

    @property
    def name(self) -> str:
        """By what is in the file, and who codes it."""
        key = json.dumps([self.setting, _coder(self.codec)])
        coded = f"{self.codec}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
        return f"{_digest(self.path)}/{coded}"

    @property
    def kept(self) -> Path:
        """Where the result is kept."""
        return KEPT / f"{self.name}.json"

    @property
    def is_known(self) -> bool:
        return self.name in _points() or self.kept.exists()


@cache
def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@cache
def _points() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(POINTS.read_text()) if POINTS.exists() else {}
    return found


def keep(paths: Sequence[Path]) -> int:
    """Adds what is measured of slow codecs on these pictures to `points.json`; how many are there."""
    slow = [task for path in paths for task in tasks(path) if task.codec in SLOW]
    found = {task.name: json.loads(task.kept.read_text()) for task in slow if task.kept.exists()}
    points = {**_points(), **found}
    lines = (f"{json.dumps(name)}: {json.dumps(points[name])}" for name in sorted(points))
    files.write_bytes(POINTS, ("{\n" + ",\n".join(lines) + "\n}\n").encode(), force=True)
    return len(points)


@cache
def _coder(codec: str) -> Any:
    """What the results of a codec depend on, besides the picture and the setting."""
    if codec == MODEL:
        return [_model().model.manifest.hashes, DEFAULT_EFFORT]
    if feature := RIVALS[codec].feature:
        return [pillow_version, features.version(feature)]
    try:
        return version("pillow-jxl-plugin")
    except PackageNotFoundError:
        return None


@cache
def _model() -> Codec:
    return open_model(MODEL)


def reading() -> Reading:
    """As models of any size read pictures, for all codecs."""
    return Reading((0, 0, 3), "any", WHITE)


def tasks(path: Path) -> list[Task]:
    """All that is measured of a picture."""
    channels = reading().read(path.read_bytes(), path.name).shape[2]
    found = [Task(path, MODEL, json.dumps(quality)) for quality in QUALITIES]
    for name, rival in RIVALS.items():
        settings = rival.settings("single", channels)
        found += [Task(path, name, json.dumps(options, sort_keys=True)) for options in settings]
    return found


def measure(task: Task) -> Point | None:
    """Codes and decodes, or takes what is kept; None where a codec refuses the picture."""
    if task.name in _points():
        values = _points()[task.name]
        return None if values is None else Point(**values)
    if not task.kept.exists():
        files.write_bytes(task.kept, json.dumps(_measured(task)).encode(), force=True)
    values = json.loads(task.kept.read_text())
    return None if values is None else Point(**values)


def _measured(task: Task) -> dict[str, float | None] | None:
    pixels = reading().read(task.path.read_bytes(), task.path.name)
    setting = json.loads(task.setting)
    if task.codec == MODEL:
        options = EncodeOptions(quality=setting)
        data = _model().encode_batch(pixels[np.newaxis], options)[0].data
        size, decoded = len(data), _model().decode(data).reshape(pixels.shape)
    else:
        rivals.check(RIVALS[task.codec])
        try:
            size, decoded = rivals.code(RIVALS[task.codec], pixels, setting)
        except CvaeError:
            return None
    return {
        "bpp": 8 * size / (pixels.shape[0] * pixels.shape[1]),
        "psnr": float(metrics.psnr(pixels[np.newaxis], decoded[np.newaxis])[0]),
        "ms_ssim": msssim.ms_ssim(pixels, decoded),
    }


def measure_all(work: Sequence[Task], jobs: int) -> dict[Task, Point | None]:
    """What is not kept yet is measured by processes side by side, with progress on stderr."""
    missing = [task for task in work if not task.is_known]
    started, said = time.monotonic(), 0.0
    if jobs > 1 and len(missing) > 1:
        # Not forked: threads of a network's session would not live on.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs, mp_context=context) as pool:
            running = [pool.submit(measure, task) for task in missing]
            for done, future in enumerate(as_completed(running), 1):
                if future.exception():
                    pool.shutdown(cancel_futures=True)
                future.result()
                if time.monotonic() - said > 30 or done == len(missing):
                    said = time.monotonic()
                    print(
                        f"{said - started:.0f} s: {done} of {len(missing)} points", file=sys.stderr
                    )
    return {task: measure(task) for task in work}


def hull(points: Iterable[tuple[float, float]]) -> Curve:
    """The points of (bits, PSNR) that neither another nor any mixture of two others beats."""
    found = list(points)
    kept: Curve = []
    for point in (found[i] for i in rivals.front(found)):
        while len(kept) > 1 and _is_below(kept[-1], kept[-2], point):
            kept.pop()
        kept.append(point)
    return kept


def _is_below(
    point: tuple[float, float], left: tuple[float, float], right: tuple[float, float]
) -> bool:
    """Whether a point lies on or below the line between two others."""
    (x, y), (x0, y0), (x1, y1) = point, left, right
    return (y - y0) * (x1 - x0) <= (y1 - y0) * (x - x0)


def front(points: Iterable[tuple[float, float]]) -> Curve:
    """The points that no other beats."""
    found = list(points)
    return [found[i] for i in rivals.front(found)]


def bd_rate(ours: Curve, other: Curve, rates: tuple[float, float] = (0, math.inf)) -> float | None:
    """Bjøntegaard's mean difference of bits at equal PSNR in percent; negative where ours takes less.

    The logarithm of the bits is interpolated over PSNR by PCHIP and integrated exactly, over the PSNRs
    that both curves reach, and where the other's rate is within `rates`. None with fewer than four
    points a curve or less than a decibel to integrate over.
    """
    from scipy.interpolate import PchipInterpolator

    if min(len(ours), len(other)) < _FEWEST:
        return None
    # Both axes rise, so that each rate has one PSNR.
    mine, theirs = (
        PchipInterpolator([psnr for _, psnr in curve], np.log([bits for bits, _ in curve]))
        for curve in (ours, other)
    )
    low, high = max(ours[0][1], other[0][1]), min(ours[-1][1], other[-1][1])
    if rates[0] > other[-1][0] or rates[1] < other[0][0]:
        return None
    if rates[0] > other[0][0]:
        low = max(low, float(theirs.solve(math.log(rates[0]), extrapolate=False)[0]))
    if rates[1] < other[-1][0]:
        high = min(high, float(theirs.solve(math.log(rates[1]), extrapolate=False)[0]))
    if high - low < _SHORTEST:
        return None
    mean = (mine.integrate(low, high) - theirs.integrate(low, high)) / (high - low)
    return 100 * math.expm1(float(mean))


def _curves(points: dict[Task, Point | None], path: Path) -> dict[str, Curve]:
    """A picture's curve of each codec; pictures that come back exactly have no PSNR."""
    curves: dict[str, Curve] = {}
    for name in (MODEL, *RIVALS):
        own = [p for task, p in points.items() if task.path == path and task.codec == name]
        lossy = [(p.bpp, p.psnr) for p in own if p is not None and p.psnr < metrics.PSNR_CAP]
        curves[name] = front(lossy) if name == MODEL else hull(lossy)
    return curves


def against(curves: list[dict[str, Curve]]) -> str:
    """BD-rates, one row a codec; `curves` has those of each picture."""
    rows = [
        f"| `{MODEL}` against | BD-rate, {RATES[0]:g} to {RATES[1]:g} bit a pixel | of single pictures "
        "| smaller on | BD-rate, all rates in common | pictures |",
        "|---|---|---|---|---|---|",
    ]
    for name in RIVALS:
        within, whole = (
            [rate for c in curves if (rate := bd_rate(c[MODEL], c[name], rates)) is not None]
            for rates in (RATES, (0, math.inf))
        )
        cells = ["n/a", "", ""]
        if within:
            cells[0] = f"{np.mean(within):+.1f} %"
            cells[1] = f"{min(within):+.1f} to {max(within):+.1f} %"
            cells[2] = f"{sum(rate < 0 for rate in within)} of {len(within)}"
        common = f"{np.mean(whole):+.1f} %" if whole else "n/a"
        rows.append(f"| {TITLES[name]} | {' | '.join(cells)} | {common} | {len(whole)} |")
    return "\n".join(rows)


def _mean(points: Sequence[Point]) -> Point:
    similarities = [p.ms_ssim for p in points if p.ms_ssim is not None]
    similarity = float(np.mean(similarities)) if len(similarities) == len(points) else None
    return Point(
        float(np.mean([p.bpp for p in points])),
        float(np.mean([p.psnr for p in points])),
        similarity,
    )


def means(points: dict[Task, Point | None]) -> dict[str, dict[str, Point]]:
    """Codec -> setting -> the mean over all pictures, of settings that no picture is refused with."""
    grouped: dict[str, dict[str, list[Point | None]]] = {}
    for task, point in points.items():
        grouped.setdefault(task.codec, {}).setdefault(task.setting, []).append(point)
    pictures = len({task.path for task in points})
    return {
        codec: {
            setting: _mean([p for p in found if p is not None])
            for setting, found in settings.items()
            if None not in found and len(found) == pictures
        }
        for codec, settings in grouped.items()
    }


def qualities(mean: dict[str, Point]) -> str:
    """The model's means over its qualities."""
    rows = ["| quality (`-q`) | bits a pixel | PSNR | MS-SSIM |", "|---|---|---|---|"]
    for quality in QUALITIES:
        point = mean[json.dumps(quality)]
        similarity = "n/a" if point.ms_ssim is None else f"{point.ms_ssim:.4f}"
        rows.append(f"| {quality} | {point.bpp:.3f} | {point.psnr:.2f} dB | {similarity} |")
    return "\n".join(rows)


def report(folder: Path, plot: Path | None, jobs: int) -> str:
    """The tables of a folder of pictures; writes the plot, which is linked as if from beside its folder."""
    paths = pictures_of(folder)
    points = measure_all([task for path in paths for task in tasks(path)], jobs)
    mean = means(points)
    parts = [against([_curves(points, path) for path in paths])]
    if plot:
        curves = {
            name: (front if name == MODEL else hull)([(p.bpp, p.psnr) for p in found.values()])
            for name, found in mean.items()
        }
        files.write_bytes(plot, plots.rates_plot(curves, RATES), force=True)
        parts.append(f"![Mean PSNR over mean bits a pixel]({plot.parent.name}/{plot.name})")
    parts.append(f"Means of all {len(paths)} pictures over the qualities of `{MODEL}`:")
    return "\n\n".join([*parts, qualities(mean[MODEL])])


def pictures_of(folder: Path) -> list[Path]:
    paths = sorted(folder / image.name for image in images_of(Local(folder).below()))
    if not paths:
        raise SystemExit(f"{folder}: expected pictures, found none")
    return paths


def is_there() -> bool:
    """Whether the model is."""
    try:
        _model()
    except ModelNotFoundError:
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", type=Path, help="pictures of any size")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes side by side")
    parser.add_argument("--plot", type=Path, default=Path("anysize.png"), help="PNG file to write")
    parser.add_argument("--keep", action="store_true", help="only add to points.json")
    options = parser.parse_args()
    if options.keep:
        print(f"{keep(pictures_of(options.folder))} points in {POINTS}")
        return
    print(report(options.folder, options.plot, options.jobs))


if __name__ == "__main__":
    main()
