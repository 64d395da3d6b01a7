"""What the shipped denoisers take out of noise, beside total variation and linear regression, as Markdown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import photos
from numpy.typing import NDArray

from cvae.data.images import Pixels
from cvae.data.sources import Which, array_source
from cvae.evaluation import noise

Evaluate = Callable[..., dict[str, Any]]

_BATCH = 1000
# Training images are numbered from here on, so that their noise is another.
_OTHERS = 1_000_000
_PENALTY = 1.0  # of the regression; 100 gives an MSE that is 0.00003 higher

HEAD = """## Denoisers

Gaussian noise of the standard deviation that the model was trained for, on pixels in [0, 1], clipped:
`cvae eval DATA -m MODEL --noise FACTOR [--against tv] --json`. `total variation` is scikit-image's with the
weight that is best for these very images; `linear regression` gives each pixel from all noisy ones,
fitted to the training images. The photos are those that `benchmarks/photos.py` puts apart for testing.

| | images | MSE | PSNR |
|---|---|---|---|"""


def report(folder: Path, kept: Path, evaluate: Evaluate) -> str:
    """The tables.

    Args:
        folder: holds `fashion_mnist.npz` and `photos/`.
        kept: where the photos are put apart.
        evaluate: (data, model, *options) -> what `cvae eval --json` prints.
    """
    drawn = folder / "fashion_mnist.npz"
    parts = kept / "photos"
    if not parts.exists():
        photos.split(folder / "photos", parts)
    fashion = evaluate(drawn, "fashion-dae", "--noise", "0.3")
    photo = evaluate(parts, "photo-dae", "--split", "test", "--noise", "0.4", "--against", "tv")
    train, test = (array_source(drawn, Which(split)).all() for split in ("train", "test"))
    error, psnr = linear_regression(train, test, 0.3)
    regression = f"| linear regression | | {error:.5f} | {psnr:.2f} dB |"
    return "\n".join([HEAD, *_rows(fashion), regression, *_rows(photo)])


def _rows(found: dict[str, Any]) -> list[str]:
    title = f"`{found['model']}`, noise of {found['noise']:g}: before | {found['images']:,}"
    rows = [
        f"| {title} | {found['noisy_mse']:.5f} | {found['noisy_psnr']:.2f} dB |",
        f"| **denoised** | | {found['denoised_mse']:.5f} | {found['denoised_psnr']:.2f} dB |",
    ]
    for row in found.get("rivals", []):
        rows.append(f"| total variation | | {row['mse']:.5f} | {row['psnr']:.2f} dB |")
    return rows


def linear_regression(train: Pixels, test: Pixels, factor: float) -> tuple[float, float]:
    """Mean squared error and PSNR in dB of test images, by ridge regression from noisy to clean pixels."""
    size = train[0].size + 1
    squares, products = np.zeros((size, size)), np.zeros((size, size - 1))
    for start in range(0, len(train), _BATCH):
        x, y = _pairs(train[start : start + _BATCH], factor, _OTHERS + start)
        squares += x.T @ x
        products += x.T @ y
    weights = np.linalg.solve(squares + _PENALTY * np.eye(size), products)
    errors = []
    for start in range(0, len(test), _BATCH):
        x, y = _pairs(test[start : start + _BATCH], factor, start)
        estimate = np.rint(255 * np.clip(x @ weights, 0, 1)) / 255
        errors.append(np.square(estimate - y).mean(axis=1))
    error = np.concatenate(errors)
    return float(error.mean()), float(-10 * np.log10(error).mean())


def _pairs(
    pixels: Pixels, factor: float, first: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Noisy pixels with a one behind them, and clean ones: (n, values + 1) and (n, values).

    The noise of test images is that of `cvae eval`, which goes by the number of the image.
    """
    noisy = np.stack([noise.add_noise(x, factor, first + i) for i, x in enumerate(pixels)])
    x = noisy.reshape(len(pixels), -1) / 255.0
    y = pixels.reshape(len(pixels), -1) / 255.0
    return np.hstack([x, np.ones((len(x), 1))]), y
