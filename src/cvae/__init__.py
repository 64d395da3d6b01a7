"""A neural image codec: learns one kind of image and writes a dozen bytes a picture.

    import cvae

    model = cvae.open_model("mnist")
    data = model.encode(image)  # uint8 (28, 28) -> bytes
    image = model.decode(data)

Importing the package is cheap: numpy, Pillow and ONNX Runtime are loaded by the first call.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cvae.errors import (
    ClusterError,
    CvaeError,
    DataError,
    FormatError,
    ImageError,
    ImageShapeError,
    MissingExtraError,
    ModelError,
    ModelKindError,
    ModelNotFoundError,
    OutputError,
    StorageError,
    TargetError,
    TrainingError,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cvae.codec import Codec, QualityWarning
    from cvae.options import EncodeOptions
    from cvae.packs.decode import Pack

__version__ = "0.1.0"

__all__ = [
    "ClusterError",
    "Codec",
    "CvaeError",
    "DataError",
    "EncodeOptions",
    "FormatError",
    "ImageError",
    "ImageShapeError",
    "MissingExtraError",
    "ModelError",
    "ModelKindError",
    "ModelNotFoundError",
    "OutputError",
    "Pack",
    "QualityWarning",
    "StorageError",
    "TargetError",
    "TrainingError",
    "__version__",
    "decode",
    "encode",
    "encode_pack",
    "open_model",
    "open_pack",
]


def open_model(model: str | Path = "mnist") -> Codec:
    """A codec by its model's name (see `cvae models`) or the path of a `.cvae` file.

    Raises:
        ModelNotFoundError: no model has that name, or several have.
        ModelError: the file cannot be read.
    """
    from cvae import codec

    return codec.open_model(model)


def encode(
    image: NDArray[np.uint8], model: str | Path = "mnist", quality: int | None = None
) -> bytes:
    """One uint8 image (h, w) or (h, w, c) as a container; see `Codec.encode`."""
    return open_model(model).encode(image, quality)


def decode(data: bytes) -> NDArray[np.uint8]:
    """The uint8 image of a container, with the model that the container names; see `Codec.decode`."""
    from cvae import codec

    return codec.open_model_of(data).decode(data)


def encode_pack(
    images: NDArray[np.uint8] | Iterable[NDArray[np.uint8]],
    path: str | Path,
    model: str | Path = "mnist",
    quality: int | None = None,
    effort: int = 5,
    names: Iterable[str] | None = None,
    force: bool = False,
) -> None:
    """Writes any number of uint8 images of the model's shape to one pack.

    Args:
        images: an array (n, h, w) or (n, h, w, c), or an iterable of single images, read once.
        path: the file to write.
        model: name or path of the model.
        quality: 1 (smallest) to 100 (best); None for the model's default.
        effort: 0 (plain rounding) to 9 (longest search for better symbols).
        names: a name for every image, kept in the pack.
        force: overwrite a file that exists.

    Raises:
        ImageError: an image is of another dtype or shape.
        OutputError: the file exists and `force` is off, or cannot be written.
    """
    from cvae.options import EncodeOptions
    from cvae.packs import encode as packing

    options = EncodeOptions(quality=quality, effort=effort, verify=False)
    packing.encode_pack(images, path, open_model(model), options, names, force)


def open_pack(path: str | Path, model: str | Path | None = None) -> Pack:
    """A pack, or a folder of packs, for reading; close it, or use it in a `with` statement.

    `len(pack)`, `pack.images([17, 42])`, and block by block in a for loop.

    Args:
        path: the pack's file, or the folder with the manifest; a URL as text.
        model: name or path of the model; None for the one that the pack names.

    Raises:
        FormatError: not a pack, or its header, index or manifest is damaged.
        ModelNotFoundError: its model, or the given one, is not here.
        StorageError: it cannot be reached.
    """
    from cvae import packs

    return packs.open(path, model)


def __getattr__(name: str) -> Any:
    # Types of the public API, without loading numpy for those who only ask for the version.
    if name in ("Codec", "EncodeOptions", "QualityWarning"):
        from cvae import codec

        return getattr(codec, name)
    if name == "Pack":
        from cvae.packs import decode as packed

        return packed.Pack
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
