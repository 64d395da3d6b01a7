"""Rate and distortion."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from cvae.data import metrics

rng = np.random.default_rng(0)
X = rng.integers(0, 256, (3, 12, 11, 3), dtype=np.uint8)
X_HAT = np.clip(X.astype(int) + rng.integers(-9, 9, X.shape), 0, 255).astype(np.uint8)


def test_psnr_is_that_of_scikit_image() -> None:
    expected = [peak_signal_noise_ratio(a, b) for a, b in zip(X, X_HAT, strict=True)]
    assert metrics.psnr(X, X_HAT) == pytest.approx(expected)


def test_psnr_of_equal_images_is_capped() -> None:
    assert metrics.psnr(X, X).tolist() == [99.0] * 3


def test_extreme_errors_do_not_overflow() -> None:
    black, white = np.zeros((1, 4, 4, 1), np.uint8), np.full((1, 4, 4, 1), 255, np.uint8)
    assert metrics.mse(black, white).tolist() == [65025.0]
    assert metrics.psnr(black, white).tolist() == [0.0]


def test_ssim_is_one_for_equal_images_and_less_for_others() -> None:
    assert metrics.ssim(X, X) == pytest.approx(1)
    assert (metrics.ssim(X, X_HAT) < 1).all()


def test_bits_per_pixel_count_pixels_and_not_channels() -> None:
    assert metrics.figures((28, 28, 3), 24, np.ones(2))["bpp"] == pytest.approx(12 * 8 / 784)
