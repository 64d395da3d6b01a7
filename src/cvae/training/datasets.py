"""Training data: a public data set by name, an `.npz` file or a folder, split into train and validation."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cvae.data import folders, images
from cvae.data.folders import Folder, Watch
from cvae.data.images import Images, Pixels, Shape
from cvae.data.reading import Reading
from cvae.data.sources import array_source
from cvae.errors import DataError

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

    source: str  # a public name, or the absolute path of a file or folder
    name: str
    train: Images
    validation: Images
    folder: Folder | None = None  # what they were found in

    @property
    def skipped(self) -> list[str]:
        """`NAME: why` of each file of a folder that was skipped."""
        return self.folder.skipped if self.folder else []

    def describe(self) -> dict[str, Any]:
        """The `data` of the manifest of a model that was trained on it."""
        name, counts = self.name, {"train": len(self.train), "validation": len(self.validation)}
        if self.folder:
            counts |= {"test": len(self.folder.names[folders.TEST]), "skipped": len(self.skipped)}
            found = {"sha256": self.folder.sha256, "reading": self.folder.reading.to_json()}
            return {"name": name, "licence": "unknown", **counts, **found}
        digest = hashlib.sha256(self.train[:].tobytes())
        digest.update(self.validation[:].tobytes())
        sha256 = digest.hexdigest()
        name = _KNOWN.get(sha256, name)
        licence = LICENCES.get(name, "unknown")
        return {"name": name, "licence": licence, **counts, "sha256": sha256}


def sample(images: Images) -> Pixels:
    """As many of the first images as fit in memory as floats, and at least `_MIN_SAMPLE`."""
    return images[: max(_MIN_SAMPLE, _SAMPLE // (4 * math.prod(images.shape[1:])))]


def load(
    source: str | None, public_name: str, shape: Shape,
    reading: Reading | None = None, watch: Watch = iter,
) -> Dataset:  # fmt: skip
    """The training split of `source`, a tenth of it set aside for validation.

    It is the name of a public data set, an `.npz` file or a folder; None for `public_name`. A folder
    is read as `folders.read` says, which sets another tenth aside for `cvae eval --split test`.
    Raises DataError when the source cannot be read, or holds images of another shape (h, w, c).
    """
    if source is None and public_name not in LICENCES:
        text = "nothing to train on, for this preset is for images of your own"
        raise DataError(text, advice="name them with --data FOLDER")
    source = source or public_name
    if source in LICENCES:  # a file of that name is ./mnist
        name, pixels = source, _download(source)
    else:
        path, whole = Path(source), Path(source).resolve()
        name, source = whole.stem, str(whole)
        if path.is_dir():
            folder = folders.read(path, reading or Reading(shape, "crop"), watch)
            parts = folder.images[folders.TRAIN], folder.images[folders.VALIDATION]
            return Dataset(source, whole.name, *parts, folder)
        if path.suffix != ".npz":
            expected = f"expected {', '.join(sorted(LICENCES))}, an .npz file or a folder as --data"
            found = "another kind of file" if path.exists() else "no such file or folder"
            raise DataError(f"{expected}, found {found}", where=path)
        pixels = array_source(path, "train").all()
    if pixels.shape[1:] != shape:
        found = f"found arrays of shape {pixels.shape[1:]}"
        raise DataError(f"the preset takes {images.describe(shape)}, {found}", where=source)
    if len(pixels) < 10:
        found = f"expected at least 10 images to train on, found {len(pixels)}"
        raise DataError(found, where=source)
    # One fixed order, so that every run and every later export sets the same images aside.
    pixels = pixels[np.random.default_rng(0).permutation(len(pixels))]
    held_out = len(pixels) // 10
    return Dataset(source, name, pixels[:-held_out], pixels[-held_out:])


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
