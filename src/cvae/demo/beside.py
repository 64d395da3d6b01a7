"""Other codecs on one picture at the PSNR that a model reached, quickly enough for a page."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from cvae.data import metrics, pipeline
from cvae.data.images import Pixels
from cvae.errors import CvaeError
from cvae.evaluation import rivals
from cvae.evaluation.rivals import Options, Rival

SHOWN = (rivals.PNG, rivals.WEBP, rivals.JPEG, rivals.AVIF)
_BEST = 100  # the best quality of an encoder


@dataclass(frozen=True)
class Line:
    """The file of a codec for a picture."""

    codec: str
    bytes: int
    psnr: float  # dB


def lines(pixels: Pixels, psnr: float) -> list[Line]:
    """The smallest file of each codec that is as good as `psnr`, else its best; PNG keeps every pixel.

    A codec whose smallest file is better already has that one. Those that are missing here are left out.
    """
    found = pipeline.ordered_map(
        lambda rival: _line(rival, pixels, psnr), SHOWN, pipeline.processors()
    )
    return [line for line in found if line is not None]


def _line(rival: Rival, pixels: Pixels, psnr: float) -> Line | None:
    channels = pixels.shape[2]
    exact = rival.settings("single", channels, lossless=True)
    files = [_nearest(rival, pixels, options, psnr) for options in _kinds(rival, channels)]
    good = [line for line in files if line and line.psnr >= psnr]
    if not good:
        good = [line for line in (_file(rival, pixels, options) for options in exact) if line]
    return min(good, key=lambda line: line.bytes) if good else _best(files)


def _best(files: Iterable[Line | None]) -> Line | None:
    return max(filter(None, files), key=lambda line: line.psnr, default=None)


def _kinds(rival: Rival, channels: int) -> list[Options]:
    """The lossy settings of an encoder apart from its quality, each once."""
    settings = rival.settings("single", channels)
    bare = [{k: v for k, v in options.items() if k != "quality"} for options in settings]
    return [options for i, options in enumerate(bare) if options not in bare[:i]]


def _nearest(rival: Rival, pixels: Pixels, options: Options, psnr: float) -> Line | None:
    """The file of the lowest quality that is as good as `psnr`, by bisection; else the best one."""
    low, high, found = 1 if rival is rivals.JPEG else 0, _BEST, None
    while low <= high:
        middle = (low + high) // 2
        line = _file(rival, pixels, {**options, "quality": middle})
        if line is None:
            return None
        if line.psnr >= psnr:
            found, high = line, middle - 1
        else:
            found, low = found or (line if middle == _BEST else None), middle + 1
    return found


def _file(rival: Rival, pixels: Pixels, options: Options) -> Line | None:
    """What a setting makes of a picture; None where its encoder does not take it."""
    try:
        size, decoded = rivals.code(rival, pixels, options)
    except CvaeError:
        return None
    error = metrics.mse(pixels[np.newaxis], decoded[np.newaxis])
    return Line(rival.name, size, float(metrics.psnr_of_mse(error)[0]))
