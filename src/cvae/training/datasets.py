"""Training data: a public data set by name, an `.npz` file or a folder, split into train and validation."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cvae import images
from cvae.errors import DataError
from cvae.images import Pixels, Shape

LICENCES = {
    "mnist": "CC BY-SA 3.0 (LeCun, Cortes, Burges)",
    "fashion_mnist": "MIT (Zalando SE)",
    "cifar10": "none stated (Krizhevsky)",
}


@dataclass(frozen=True)
class Dataset:
    """uint8 images (n, h, w, c), split; the test split is only ever looked at by `cvae eval`."""

    source: str
    name: str
    licence: str
    train: Pixels
    validation: Pixels

    def describe(self) -> dict[str, object]:
        """What a model's manifest says of the data that it was trained on."""
        digest = hashlib.sha256()
        digest.update(self.train.tobytes())
        digest.update(self.validation.tobytes())
        return {
            "name": self.name,
            "licence": self.licence,
            "train": len(self.train),
            "validation": len(self.validation),
            "sha256": digest.hexdigest(),
        }


def load(source: str | None, public_name: str, shape: Shape) -> Dataset:
    """The training split of `source`, a tenth of it set aside for validation.

    Args:
        source: a public data set's name, an `.npz` file, a folder of images, or None for `public_name`.
        public_name: the preset's own data set.
        shape: (h, w, c) that the preset's networks take.

    Raises:
        DataError: the source cannot be read or downloaded, or holds images of another shape.
    """
    source = source or public_name
    if source in LICENCES and not Path(source).exists():
        name, licence, pixels = source, LICENCES[source], _download(source)
    else:
        path = Path(source)
        # A file that holds a public data set is known by its name.
        name = path.resolve().name if path.is_dir() else path.stem
        licence = LICENCES.get(name, "unknown")
        pixels = _read(path, shape)
    if pixels.shape[1:] != shape:
        raise DataError(
            f"{source}: the preset takes {images.describe(shape)}, "
            f"found arrays of shape {pixels.shape[1:]}"
        )
    if len(pixels) < 10:
        raise DataError(f"{source}: expected at least 10 images to train on, found {len(pixels)}")
    # One fixed order, so that every run and every later export sets the same images aside.
    pixels = pixels[np.random.default_rng(0).permutation(len(pixels))]
    held_out = len(pixels) // 10
    return Dataset(source, name, licence, pixels[:-held_out], pixels[-held_out:])


def _read(path: Path, shape: Shape) -> Pixels:
    if path.is_dir():
        paths = images.find_images(path)
        if not paths:
            raise DataError(f"{path}: expected images, found none in this folder")
        return images.read_images(paths, shape)
    if path.suffix == ".npz":
        return images.read_npz(path, "train")
    found = "no such file or folder" if not path.exists() else "another kind of file"
    raise DataError(
        f"{path}: expected {', '.join(sorted(LICENCES))}, an .npz file or a folder, found {found}"
    )


def _download(name: str) -> Pixels:
    import keras

    try:
        (pixels, _), _ = getattr(keras.datasets, name).load_data()
    except Exception as error:  # keras.utils.get_file raises a bare Exception without a network
        raise DataError(
            f"{name}: the download failed ({error}); "
            "pass a file in the layout of keras.datasets with --data FILE.npz"
        ) from error
    pixels = np.asarray(pixels, np.uint8)
    return pixels if pixels.ndim == 4 else pixels[..., np.newaxis]
