"""Distortion and rate of coded images. All of uint8 pixels, one value an image."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvae.data.images import Pixels
from cvae.errors import MissingExtraError

_VALUES = 1 << 22  # that are compared at once
PSNR_CAP = 99.0  # dB, of images that come back exactly
SSIM_SIDE = 11  # pixels that the Gaussian window spans


def mse(x: Pixels, x_hat: Pixels) -> NDArray[np.float64]:
    """Mean squared error of 8-bit pixels: (n, h, w, c) twice -> (n,)."""
    total = np.zeros(len(x))
    # Some rows at a time: the errors take eight times the memory of the pixels.
    rows = max(1, _VALUES // max(1, x[:, :1].size))
    for top in range(0, x.shape[1], rows):
        error = x[:, top : top + rows].astype(np.int32) - x_hat[:, top : top + rows]
        total += np.sum(error * error, axis=(1, 2, 3), dtype=np.float64)
    return total / math.prod(x.shape[1:])


def psnr_of_mse(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """10 log10(255^2 / mse) in dB, at most 99."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.minimum(10 * np.log10(255.0**2 / values), PSNR_CAP))


def psnr(x: Pixels, x_hat: Pixels) -> NDArray[np.float64]:
    """Peak signal-to-noise ratio in dB: (n, h, w, c) twice -> (n,)."""
    return psnr_of_mse(mse(x, x_hat))


def ssim(x: Pixels, x_hat: Pixels) -> NDArray[np.float64]:
    """Structural similarity with Gaussian weights (Wang et al. 2004): (n, h, w, c) twice -> (n,).

    NaN for images smaller than the window. Raises MissingExtraError without scikit-image.
    """
    try:
        from skimage.metrics import structural_similarity
    except ImportError as error:
        raise MissingExtraError("scikit-image", "eval") from error
    if min(x.shape[1:3]) < SSIM_SIDE:
        return np.full(len(x), np.nan)
    gaussian = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    options = {"data_range": 255, "channel_axis": 2, **gaussian}
    pairs = zip(x, x_hat, strict=True)
    return np.array([structural_similarity(a, b, **options) for a, b in pairs])


def each(
    measure: Callable[[Pixels, Pixels], NDArray[np.float64]], x: Any, x_hat: Any
) -> NDArray[np.float64]:
    """A measure of images and what they come back as: (n, h, w, c) twice, or lists of (h, w, c) -> (n,)."""
    if isinstance(x, np.ndarray):
        return measure(x, x_hat)
    pairs = zip(x, x_hat, strict=True)
    return np.concatenate([measure(a[np.newaxis], b[np.newaxis]) for a, b in pairs])


def mean_shape(shapes: Iterable[tuple[int, ...]]) -> tuple[float, float, float]:
    """A shape (h, w, c) with as many pixels and bytes as images of these shapes have on average."""
    sizes = np.array([(h * w, h * w * c) for h, w, c in shapes], np.float64).mean(axis=0)
    return float(sizes[0]), 1.0, float(sizes[1] / sizes[0])


def figures(
    shape: tuple[float, float, float], total_bytes: int, values: NDArray[np.float64]
) -> dict[str, Any]:
    """What every codec is measured by.

    `shape` is (h, w, c) of the images, `total_bytes` what all take together, `values` (n,) their MSE.
    """
    mean = total_bytes / len(values)
    height, width, channels = shape
    return {
        "images": len(values),
        "file_bytes_mean": float(mean),
        "compression_ratio": float(height * width * channels / mean),
        "bpp": 8 * mean / (height * width),  # channels are not counted apart
        "psnr_mean": float(psnr_of_mse(values).mean()),
        "psnr_of_mean_mse": float(psnr_of_mse(values.mean(keepdims=True))[0]),
        "mse_mean": float(values.mean()),
    }


def ssim_each(x: Any, x_hat: Any) -> NDArray[np.float64] | None:
    """`each` of `ssim`: (n,), NaN for images smaller than the window; None without scikit-image."""
    try:
        return each(ssim, x, x_hat)
    except MissingExtraError:
        return None


def ssim_figures(values: NDArray[np.float64] | None) -> dict[str, Any]:
    """The mean SSIM of those images that have one, None where none has, and how many have none."""
    defined = np.empty(0) if values is None else values[~np.isnan(values)]
    left_out = 0 if values is None else len(values) - len(defined)
    return {
        "ssim_mean": float(defined.mean()) if len(defined) else None,
        "ssim_left_out": left_out,  # smaller than the window
    }
