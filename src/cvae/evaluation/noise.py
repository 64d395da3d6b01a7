"""How well noise goes away: Gaussian noise of a known strength put on images and taken off again.

The noise of a factor `f` is `f` times N(0, 1) for every value of an image in [0, 1]. The sum is clipped
and rounded to 8 bits. Image `i` has the numbers of `numpy.random.default_rng([SEED, i])`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvae import denoising
from cvae.data import images, listing, metrics, pages, places
from cvae.data.contents import What, what_lies_at
from cvae.data.folders import FileImages
from cvae.data.images import Pixels
from cvae.data.places import Found
from cvae.data.reading import Reading
from cvae.data.sources import Which
from cvae.errors import Changed, CvaeError, DataError, ImageError, MissingExtraError, Refuse, told
from cvae.models.file import Model
from cvae.models.recorded import recorded_reading
from cvae.packs.source import open_images

SEED = 0
MAX_FACTOR = 10.0
TV = "tv"

# Weights that total variation is tried with.
TV_WEIGHTS = (0.03, 0.05, 0.07, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 1.0)
# Ten times scikit-image's default precision. At its best weight that gains 0.15 dB on photographs with
# noise of 0.4, and 0.01 dB on Fashion-MNIST with 0.3.
_TV_EPS = 2e-5
_CHUNK = 1 << 20  # values that are measured together


Images = Pixels | list[Pixels] | FileImages  # (n, h, w, c), or of different sizes


def load(
    source: str | Path,
    which: Which,
    model: Model,
    names: list[str] | None = None,
    limit: int | None = None,
    refuse: Refuse = None,
) -> Images:
    """The images for a denoiser, each at its own size, of all that `measure.load` takes.

    At most `limit` of them. `which` is of an `.npz` file. `names` chooses files of a folder. `refuse` is
    called with every file that cannot be read; see `errors.told`.

    Raises:
        DataError: the source cannot be read, or has no images.
        ImageShapeError: an array's images have another number of channels.
    """
    known = recorded_reading(model)
    ground = known.background if known else Reading.background
    reading = Reading((0, 0, model.manifest.image_shape[2]), "own", ground)
    path = Path(source)
    files: Iterable[Found] | None = None
    if names is not None:
        files = [Found(places.locate(path) / name, name) for name in sorted(names)]
    elif path.exists() and what_lies_at(path) in (What.FOLDER, What.RUN, What.FILE):
        files = listing.find_images(path, refuse)
    data: Images
    if files is not None:
        readable = (file.name for file in files if _is_readable(file, reading, refuse))
        found = list(islice(readable, limit))
        data = FileImages(path if path.is_dir() else path.parent, found, reading)
    else:
        batches = open_images([source], reading, which=which, refuse=refuse).batches()
        data = list(islice(chain.from_iterable(batch.pixels for batch in batches), limit))
    if not len(data):
        raise DataError("expected images, found none", where=source)
    return data


def _is_readable(file: Found, reading: Reading, refuse: Refuse) -> bool:
    """Whether an image can be decoded, as it is again whenever it is asked for."""
    tell, name = told(refuse), str(file.place)
    try:
        data = images.read_file(file.place, name)
        with images.decoding(name):
            changes = reading.picture(data, name).changes
    except ImageError as error:
        tell(error)
        return False
    for change in changes:
        tell(Changed(change, where=name))
    if (count := pages.count(data)) > 1:
        tell(pages.notice(count, name))
    return True


def add_noise(pixels: Pixels, factor: float, index: int) -> Pixels:
    """One image (h, w, c) with the noise of its place in the data set.

    Raises:
        CvaeError: the factor is not from 0 to 10.
    """
    if not 0 <= factor <= MAX_FACTOR:
        raise CvaeError(f"expected a factor of the noise from 0 to {MAX_FACTOR:g}, found {factor}")
    numbers = np.random.default_rng([SEED, index]).standard_normal(pixels.shape, np.float32)
    return images.as_pixels(images.as_floats(pixels) + np.float32(factor) * numbers)


def measure(model: Model, data: Images, factor: float) -> dict[str, Any]:
    """The figures that `cvae eval --noise` adds.

    MSE is of pixels in [0, 1], PSNR of 8-bit pixels in dB and at most 99 an image. Both are means over
    the images of each one's value.
    """
    errors = [
        (metrics.mse(clean, noisy), metrics.mse(clean, denoising.denoise(model, noisy)))
        for clean, noisy in _stacks(data, factor)
    ]
    (noisy_mse, noisy_psnr), (denoised_mse, denoised_psnr) = map(_means, zip(*errors, strict=True))
    return {
        "noise": factor,
        "noisy_mse": noisy_mse,
        "denoised_mse": denoised_mse,
        "noisy_psnr": noisy_psnr,
        "denoised_psnr": denoised_psnr,
    }


def total_variation(
    data: Images, factor: float, progress: Callable[[str], None] = lambda text: None
) -> dict[str, Any]:
    """The same figures of total-variation denoising (Chambolle 2004), at its best.

    Every weight is tried on every image, and that of the best mean PSNR is taken. A sample could
    mislead, and so weaken what a model is compared with.

    Raises:
        MissingExtraError: scikit-image is not installed.
    """
    check_tv()
    errors: dict[float, list[NDArray[np.float64]]] = {weight: [] for weight in TV_WEIGHTS}
    done = 0
    for clean, noisy in _stacks(data, factor):
        for weight, found in errors.items():
            progress(f"total variation, weight {weight}, {done} of {len(data)} images done")
            found.append(metrics.mse(clean, tv(noisy, weight)))
        done += len(clean)
    reached = {weight: _means(parts) for weight, parts in errors.items()}
    best = max(reached, key=lambda weight: reached[weight][1])
    mse, psnr = reached[best]
    return {"codec": TV, "weight": best, "images": done, "mse": mse, "psnr": psnr}


def check_tv() -> None:
    """Raises MissingExtraError when scikit-image is not installed."""
    try:
        import skimage.restoration  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("scikit-image", "eval") from error


def tv(pixels: Pixels, weight: float) -> Pixels:
    """Images (n, h, w, c) with less noise, by total variation of a weight."""
    from skimage.restoration import denoise_tv_chambolle

    x = images.as_floats(pixels)
    clean = [denoise_tv_chambolle(i, weight=weight, eps=_TV_EPS, channel_axis=-1) for i in x]
    return images.as_pixels(np.stack(clean))


def _means(parts: Iterable[NDArray[np.float64]]) -> tuple[float, float]:
    """Mean MSE of pixels in [0, 1], and mean PSNR in dB, from each image's MSE of 8-bit pixels."""
    values = np.concatenate(list(parts))
    return float(values.mean() / 255**2), float(metrics.psnr_of_mse(values).mean())


def _stacks(data: Images, factor: float) -> Iterator[tuple[Pixels, Pixels]]:
    """Clean and noisy images (n, h, w, c), as many of one size as come one after another."""
    numbered = ((index, data[index]) for index in range(len(data)))
    for shape, group in groupby(numbered, lambda item: item[1].shape):
        while part := list(islice(group, max(1, _CHUNK // math.prod(shape)))):
            noisy = [add_noise(image, factor, index) for index, image in part]
            yield np.stack([image for _, image in part]), np.stack(noisy)
