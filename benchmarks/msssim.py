"""MS-SSIM, multi-scale structural similarity (Wang, Simoncelli, Bovik 2003), of 8-bit pictures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve1d

from cvae.data.images import Pixels

# The exponents of the paper, from the finest of five scales to the coarsest.
WEIGHTS = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])
_TAPS, _SIGMA = 11, 1.5
LEAST_SIDE = _TAPS << (len(WEIGHTS) - 1)  # pixels, for a whole window at the coarsest scale
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2

_Floats = NDArray[np.float64]


def ms_ssim(x: Pixels, y: Pixels) -> float | None:
    """uint8 (h, w, c) twice -> the mean over the channels; None where a side is under 176 pixels.

    The Gaussian window is 11x11 with a deviation of 1.5 and is not laid over the border; between
    scales each 2x2 pixels become their mean, behind an odd side's last pixel repeated.
    """
    if min(x.shape[:2]) < LEAST_SIDE:
        return None
    a, b = x.astype(np.float64), y.astype(np.float64)
    value = np.ones(x.shape[2])
    for scale, weight in enumerate(WEIGHTS):
        if scale:
            a, b = _halved(a), _halved(b)
        similarity, contrast = _means(a, b)
        factor = similarity if scale == len(WEIGHTS) - 1 else contrast
        value = value * np.maximum(factor, 0) ** weight
    return float(value.mean())


def _means(a: _Floats, b: _Floats) -> tuple[_Floats, _Floats]:
    """The mean SSIM of each channel, and that of its term of contrast and structure."""
    mean_a, mean_b = _blurred(a), _blurred(b)
    square_a, square_b, product = mean_a * mean_a, mean_b * mean_b, mean_a * mean_b
    variances = _blurred(a * a) - square_a + _blurred(b * b) - square_b
    contrast = (2 * (_blurred(a * b) - product) + _C2) / (variances + _C2)
    luminance = (2 * product + _C1) / (square_a + square_b + _C1)
    return (luminance * contrast).mean(axis=(0, 1)), contrast.mean(axis=(0, 1))


def _blurred(x: _Floats) -> _Floats:
    """Where the window lies wholly inside."""
    taps = np.exp(-0.5 * ((np.arange(_TAPS) - _TAPS // 2) / _SIGMA) ** 2)
    taps /= taps.sum()
    cut = slice(_TAPS // 2, -(_TAPS // 2))
    return np.asarray(convolve1d(convolve1d(x, taps, axis=0)[cut], taps, axis=1)[:, cut])


def _halved(x: _Floats) -> _Floats:
    height, width, channels = x.shape
    even = np.pad(x, [(0, height % 2), (0, width % 2), (0, 0)], mode="edge")
    cells = even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2, channels)
    return np.asarray(cells.mean(axis=(1, 3)))
