"""Training data, split into train and validation: a public data set by name, a folder, or other images."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cvae.data import folders, images, pipeline, places
from cvae.data.contents import What, what_lies_at
from cvae.data.folders import Folder, Watch
from cvae.data.images import Images, Pixels, Shape
from cvae.data.names import printable
from cvae.data.reading import Reading
from cvae.data.sources import Which
from cvae.errors import CvaeError, DataError, ImageShapeError, Notice, PassedOver
from cvae.packs.source import open_images

LICENCES = {
    "mnist": "CC BY-SA 3.0 (LeCun, Cortes, Burges)",
    "fashion_mnist": "MIT (Zalando SE)",
    "cifar10": "none stated (Krizhevsky)",
}
# sha256 of the training splits in this module's order: a file is known by its content, not its name.
_KNOWN = {
    "4f8a0594fd8680a85a06e7118d93e2302e1a5dba8fd4a5c9eb8327b92e93186a": "mnist",
    "9583269b034b826e8e625f5b4432aead9d676364ae19f0dce7e6118fc600fa97": "fashion_mnist",
}
# Bytes of floats, and the least number of images, of a sample for what is not trained by batches.
_SAMPLE, _MIN_SAMPLE = 1 << 31, 256


@dataclass(frozen=True)
class Dataset:
    """uint8 images (n, h, w, c), split; only `cvae eval` sees the test split.

    They are read by slices or arrays of integers: those of a large folder stay on disk.
    """

    source: str  # a public name, a URL, or the absolute path of a file or folder
    name: str
    train: Images
    validation: Images
    folder: Folder | None = None  # what they were found in
    reading: Reading | None = None  # how image files became images of one shape
    skipped: tuple[str, ...] = ()  # `NAME: why` of each file that was skipped
    key: str | None = None  # of the array of an `.npz` file, where one was named

    def describe(self) -> dict[str, Any]:
        """The `data` of the manifest of a model that was trained on it."""
        counts = {"train": len(self.train), "validation": len(self.validation)}
        more: dict[str, Any] = {"key": self.key} if self.key else {}
        if self.folder:
            counts["test"] = len(self.folder.names[folders.TEST])
        if self.reading:
            counts["skipped"] = len(self.skipped)
            more["reading"] = self.reading.to_json()
        sha256 = self.folder.sha256 if self.folder else self._digest()
        name = _KNOWN.get(sha256, self.name)
        licence = LICENCES.get(name, "unknown")
        return {"name": name, "licence": licence, **counts, "sha256": sha256, **more}

    def _digest(self) -> str:
        digest = hashlib.sha256(self.train[:].tobytes())
        digest.update(self.validation[:].tobytes())
        return digest.hexdigest()


def sample(images: Images) -> Pixels:
    """As many of the first images as fit in memory as floats, and at least `_MIN_SAMPLE`."""
    return images[: max(_MIN_SAMPLE, _SAMPLE // (4 * math.prod(images.shape[1:])))]


def load(
    source: str | None, public_name: str, shape: Shape,
    reading: Reading | None = None, watch: Watch = iter, key: str | None = None,
) -> Dataset:  # fmt: skip
    """The images of `source` to train on, a tenth of them set aside for validation.

    It is the name of a public data set, or whatever `sources.open_images` takes; None for
    `public_name`. A folder is read as `folders.read` says, which sets another tenth aside for `cvae eval
    --split test`. Of an `.npz` file it is `key`, else what `array_source` finds for training.

    Args:
        reading: how image files become images of the shape; None to crop them. Arrays and packs have it.

    Raises:
        DataError: the source cannot be read, or holds images of another shape (h, w, c).
    """
    if source is None and public_name not in LICENCES:
        text = "nothing to train on, for this preset is for images of your own"
        raise DataError(text, advice="name them with --data FOLDER")
    source = source or public_name
    if key and (source in LICENCES or _is_folder(source)):
        raise DataError(f"expected an .npz file for --key {key}, found none", where=source)
    if source in LICENCES:  # a file of that name is ./mnist
        pixels = _download(source)
        return _divided(Dataset(source, source, pixels, pixels[:0]), shape)
    whole = source if places.is_url(source) else str(Path(source).resolve())
    if not _is_folder(source):
        return _divided(_read(source, whole, shape, reading, key), shape)
    reading = reading or Reading(shape, "crop")
    folder = folders.read(Path(source), reading, watch)
    parts = folder.images[folders.TRAIN], folder.images[folders.VALIDATION]
    return Dataset(whole, Path(whole).name, *parts, folder, reading, tuple(folder.skipped))


def of_files(source: str) -> bool:
    """Whether a source is a folder or an archive of image files, which can be brought to any size."""
    if source in LICENCES or places.is_pattern(source):
        return False
    return what_lies_at(source) in (What.FOLDER, What.RUN, What.TAR, What.ZIP)


def _is_folder(source: str) -> bool:
    """Whether it is a folder of images on this machine."""
    return Path(source).is_dir() and what_lies_at(source) is not What.PACKS


def _read(
    source: str, whole: str, shape: Shape, reading: Reading | None, key: str | None
) -> Dataset:
    """All images of a file or a URL, none of them set aside yet."""
    skipped: list[str] = []

    def refuse(error: CvaeError) -> None:
        if isinstance(error, PassedOver) or not isinstance(
            error, Notice
        ):  # others are of read ones
            skipped.append(str(error))

    cropped = (reading or Reading(shape, "crop")) if of_files(source) else None
    stream = open_images(
        [source], cropped or Reading(shape, "exact"), which=Which(key=key, default="train"),
        threads=pipeline.processors(), refuse=refuse if cropped else None,
    )  # fmt: skip
    try:
        pixels, _ = stream.all()
    except ImageShapeError as error:
        text = f"the preset takes {images.describe(shape)}: {error.text}"
        raise DataError(text, where=error.where, advice=error.advice) from error
    name = Path(whole).stem
    return Dataset(whole, name, pixels, pixels[:0], None, cropped, tuple(skipped), key)


def _divided(whole: Dataset, shape: Shape) -> Dataset:
    """The images of `train`, a tenth of them to validate. Raises DataError when they are too few."""
    pixels, source = whole.train[:], whole.source
    if pixels.shape[1:] != shape:
        found = f"found arrays of shape {pixels.shape[1:]}"
        raise DataError(f"the preset takes {images.describe(shape)}, {found}", where=source)
    if len(pixels) < 10:
        first = (
            f" and {len(whole.skipped)} that cannot be used: {whole.skipped[0]}"
            if whole.skipped
            else ""
        )
        found = f"expected at least 10 images to train on, found {len(pixels)}{printable(first)}"
        raise DataError(found, where=source)
    # One fixed order, so that every run and every later export sets the same images aside.
    pixels = pixels[np.random.default_rng(0).permutation(len(pixels))]
    held_out = len(pixels) // 10
    return replace(whole, train=pixels[:-held_out], validation=pixels[-held_out:])


def _download(name: str) -> Pixels:
    from cvae.training import backend

    backend.load_keras()
    import keras

    backend.downloading()
    try:
        (pixels, _), _ = getattr(keras.datasets, name).load_data()
    except Exception as error:  # keras.utils.get_file raises a bare Exception without a network
        advice = "pass a file in the layout of keras.datasets with --data FILE.npz"
        raise DataError(f"the download failed ({error})", where=name, advice=advice) from error
    pixels = np.asarray(pixels, np.uint8)
    return pixels if pixels.ndim == 4 else pixels[..., np.newaxis]
