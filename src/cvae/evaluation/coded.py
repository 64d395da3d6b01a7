"""What is known of coded images that are there already, beside their originals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvae.codec import Codec
from cvae.data import metrics

_SHOWN = 3  # names in a message


@dataclass(frozen=True)
class Compared:
    """Coded images beside their originals."""

    figures: list[dict[str, Any]]  # one of each model; what is missing or lost stands in the first
    absent: list[str]  # coded images of which no original can be read


def measure(codec: Codec, x: Any, x_hat: Any, qualities: list[int]) -> NDArray[np.float64]:
    """Images and what they come back as, as in `metrics.each` -> (3, n): MSE, SSIM or NaN, expected PSNR."""
    ssim = metrics.ssim_each(x, x_hat)
    ssim = np.full(len(x), np.nan) if ssim is None else ssim
    floors = [codec.expected_psnr(quality) for quality in qualities]
    return np.stack([metrics.each(metrics.mse, x, x_hat), ssim, np.array(floors)])


def figures(
    codec: Codec,
    measured: NDArray[np.float64],
    size: int,
    speed: float,
    shape: tuple[float, float, float],
) -> dict[str, Any]:
    """`size` is the bytes of the files, `speed` decoded images a second, `shape` that of the images."""
    mse, ssim, floors = measured
    exact = {"images_that_differ": int((mse > 0).sum())} if codec.lossless else {}
    return {
        "model": codec.name,
        **metrics.figures(shape if codec.any_size else codec.image_shape, size, mse),
        **metrics.ssim_figures(ssim),
        "warned": int((metrics.psnr_of_mse(mse) < floors).sum()),
        **exact,
        "decode_images_per_second": rounded(speed),
    }


def rounded(speed: float) -> float:
    """Images a second; of large pictures less than one, of which the first digit is far behind the point."""
    return round(speed, 1 if speed >= 1 else 5)


def first_of(names: list[str]) -> str:
    """`a.png, b.png, ...`: the first names, for a message."""
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
