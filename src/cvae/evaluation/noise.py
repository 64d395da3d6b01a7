"""How well noise goes away: Gaussian noise of a known strength put on images and taken off again.

The noise of a factor `f` is `f` times a number of N(0, 1) for every value of an image in [0, 1];
the sum is clipped to [0, 1] and rounded to 8 bits, as a file would hold it. The numbers of image
`i` are those of `numpy.random.default_rng([SEED, i])`, so figures repeat.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvae import denoising as denoise
from cvae import kinds
from cvae.data import images, metrics, places
from cvae.data.contents import What, what_lies_at
from cvae.data.folders import FileImages
from cvae.data.images import Pixels, Shape
from cvae.data.names import SUFFIXES
from cvae.data.reading import Reading
from cvae.data.sources import open_images
from cvae.errors import CvaeError, DataError, MissingExtraError
from cvae.evaluation import measure as evaluation
from cvae.models.file import Model

SEED = 0
MAX_FACTOR = 10.0
TV = "tv"

# Weights that total variation is tried with.
_TV_WEIGHTS = (0.03, 0.05, 0.07, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 1.0)
# Iterates ten times closer than scikit-image does by default. At its best weight that gains 0.15 dB on
# photographs with noise of 0.4, and 0.01 dB on Fashion-MNIST with 0.3.
_TV_EPS = 2e-5
# Pixels that are measured together.
_CHUNK = 1 << 20

Floats = NDArray[np.float64]


Images = Pixels | FileImages  # (n, h, w, c), or of different sizes


def load(source: Path, split: str | None, model: Model) -> Images:
    """The images to measure a model on: a split of an `.npz` file, a folder, or one image file.

    Args:
        source: the file or folder; `of_part` takes a split of a folder.
        split: test, validation or train of an `.npz` file; None for test.
        model: whose images they are; a denoiser takes those of a folder at their own sizes.

    Raises:
        DataError: the source cannot be read, or has no images.
        ImageError: its images are not of the model's shape.
    """
    split = split or "test"
    shape = model.manifest.image_shape
    if not kinds.of(model.manifest, model.path).any_size:
        return evaluation.load(source, split, shape)[0]
    reading = _own_sizes(shape)
    if what_lies_at(source) is What.ARRAY:
        data: Images = open_images([source], reading, split=split).all()[0]
    else:
        found = [file.name for file in places.find(source, SUFFIXES)]
        data = FileImages(source if source.is_dir() else source.parent, found, reading)
    if not len(data):
        raise DataError("expected images, found none", where=source)
    return data


def of_part(folder: Path, part: evaluation.Part, model: Model) -> Images:
    """The images of a part of a folder, those of a denoiser at their own sizes."""
    if not kinds.of(model.manifest, model.path).any_size:
        return part.images[:]
    return FileImages(folder, sorted(part.names), _own_sizes(model.manifest.image_shape))


def _own_sizes(shape: Shape) -> Reading:
    return Reading((0, 0, shape[2]), "own")


def count(data: Images, limit: int | None) -> int:
    """How many images are measured."""
    return len(data) if limit is None else min(limit, len(data))


def add_noise(pixels: Pixels, factor: float, index: int) -> Pixels:
    """One image (h, w, c) with the noise of its place in the data set.

    Raises:
        CvaeError: the factor is not from 0 to 10.
    """
    if not 0 <= factor <= MAX_FACTOR:
        raise CvaeError(f"expected a factor of the noise from 0 to {MAX_FACTOR:g}, found {factor}")
    numbers = np.random.default_rng([SEED, index]).standard_normal(pixels.shape, np.float32)
    return images.as_pixels(images.as_floats(pixels) + np.float32(factor) * numbers)


def measure(model: Model, data: Images, factor: float, limit: int | None = None) -> dict[str, Any]:
    """The figures that `cvae eval --noise` adds, of a model and the first `limit` images.

    MSE is of pixels in [0, 1], PSNR of 8-bit pixels in dB and at most 99 an image; both are means
    over the images of each one's value.
    """
    noisy, denoised = [], []
    for clean, dirty in _stacks(data, factor, limit):
        noisy.append(metrics.mse(clean, dirty))
        denoised.append(metrics.mse(clean, denoise.denoise(model, dirty)))
    noisy_mse, noisy_psnr = _means(noisy)
    denoised_mse, denoised_psnr = _means(denoised)
    return {
        "noise": factor,
        "noisy_mse": noisy_mse,
        "denoised_mse": denoised_mse,
        "noisy_psnr": noisy_psnr,
        "denoised_psnr": denoised_psnr,
    }


def total_variation(
    data: Images,
    factor: float,
    limit: int | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """The same figures of total-variation denoising (Chambolle 2004), at its best.

    Every weight of a grid is tried on every image, and the one of the best mean PSNR is taken: a
    sample could mislead, and so weaken what a model is compared with.

    Raises:
        MissingExtraError: scikit-image is not installed.
    """
    check_tv()
    total = count(data, limit)
    errors: dict[float, list[Floats]] = {weight: [] for weight in _TV_WEIGHTS}
    done = 0
    for clean, noisy in _stacks(data, factor, limit):
        for weight in _TV_WEIGHTS:
            say(f"total variation, weight {weight}, {done} of {total} images done")
            errors[weight].append(metrics.mse(clean, _tv(noisy, weight)))
        done += len(clean)
    reached = {weight: _means(parts) for weight, parts in errors.items()}
    best = max(reached, key=lambda weight: reached[weight][1])
    mse, psnr = reached[best]
    return {"codec": TV, "weight": best, "images": total, "mse": mse, "psnr": psnr}


def check_tv() -> None:
    """Raises MissingExtraError when scikit-image is not installed."""
    try:
        import skimage.restoration  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("scikit-image", "eval") from error


def _tv(pixels: Pixels, weight: float) -> Pixels:
    from skimage.restoration import denoise_tv_chambolle

    x = images.as_floats(pixels)
    clean = [denoise_tv_chambolle(i, weight=weight, eps=_TV_EPS, channel_axis=-1) for i in x]
    return images.as_pixels(np.stack(clean))


def _means(parts: list[Floats]) -> tuple[float, float]:
    """MSE of [0, 1] and PSNR from the MSE of each image's 8-bit pixels."""
    values = np.concatenate(parts)
    return float(values.mean() / 255**2), float(metrics.psnr_of_mse(values).mean())


def _stacks(data: Images, factor: float, limit: int | None) -> Iterator[tuple[Pixels, Pixels]]:
    """Clean and noisy images (n, h, w, c), as many of one size as come one after another."""
    group: list[tuple[Pixels, Pixels]] = []
    for index in range(count(data, limit)):
        clean = data[index]
        full = (len(group) + 1) * clean.size > _CHUNK
        if group and (full or clean.shape != group[0][0].shape):
            yield _stacked(group)
            group = []
        group.append((clean, add_noise(clean, factor, index)))
    if group:
        yield _stacked(group)


def _stacked(group: list[tuple[Pixels, Pixels]]) -> tuple[Pixels, Pixels]:
    clean, noisy = zip(*group, strict=True)
    return np.stack(clean), np.stack(noisy)
