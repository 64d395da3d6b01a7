"""A neural image codec: learns one kind of image and writes few bytes a picture.

    import cvae

    model = cvae.open_model("mnist")
    data = model.encode(image)  # uint8 (28, 28) -> bytes
    image = model.decode(data)

Importing the package is cheap: numpy, Pillow and ONNX Runtime are loaded by the first call.
"""

from __future__ import annotations

TYPE_CHECKING = False  # importing `typing` would take as long as Python takes to start

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from typing import Any

    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from cvae.codec import Codec, QualityWarning, open_model
    from cvae.data.given import ConversionWarning
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
        UnsupportedError,
    )
    from cvae.options import EncodeOptions
    from cvae.packs import open as open_pack
    from cvae.packs.decode import Pack

__version__ = "0.1.0"

__all__ = [
    "ClusterError", "Codec", "ConversionWarning", "CvaeError", "DataError", "EncodeOptions",
    "FormatError", "ImageError", "ImageShapeError", "MissingExtraError", "ModelError",
    "ModelKindError", "ModelNotFoundError", "OutputError", "Pack", "QualityWarning", "StorageError",
    "TargetError", "TrainingError", "UnsupportedError", "__version__", "decode", "encode",
    "encode_pack", "open_model", "open_pack",
]  # fmt: skip

# Imported when they are asked for.
_LAZY = {
    "Codec": "cvae.codec",
    "ConversionWarning": "cvae.data.given",
    "EncodeOptions": "cvae.options",
    "Pack": "cvae.packs.decode",
    "QualityWarning": "cvae.codec",
    "open_model": "cvae.codec",
    "open_pack": "cvae.packs",
    **{name: "cvae.errors" for name in __all__ if name.endswith("Error")},
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), "open" if name == "open_pack" else name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def encode(
    image: NDArray[np.uint8] | Image,
    model: str | Path | Codec = "mnist",
    quality: int | None = None,
) -> bytes:
    """One uint8 image (h, w) or (h, w, c), or one of Pillow, as a container; see `Codec.encode`."""
    from cvae.codec import open_model

    return open_model(model).encode(image, quality)


def decode(data: bytes, max_pixels: int | None = None) -> NDArray[np.uint8]:
    """The uint8 image of a container, with the model that the container names; see `Codec.decode`.

    `max_pixels` is how many pixels an image may have that was fitted, and is restored.
    """
    from cvae.codec import open_model_of

    return open_model_of(data).restoring(max_pixels).decode(data)


def encode_pack(
    images: NDArray[np.uint8] | Iterable[NDArray[np.uint8] | Image],
    path: str | Path,
    model: str | Path | Codec = "mnist",
    quality: int | None = None,
    effort: int = 5,
    names: Iterable[str] | None = None,
    force: bool = False,
) -> None:
    """Writes any number of uint8 images of the model's shape to one pack.

    Args:
        images: an array (n, h, w) or (n, h, w, c), or an iterable of single images, read once.
        path: the file to write.
        model: name or path of the model, or its codec.
        quality: 1 (smallest) to 100 (best); None for the model's default.
        effort: 0 (plain rounding) to 9 (longest search).
        names: a name for every image, kept in the pack.
        force: overwrite a file that exists.

    Raises:
        ImageError: an image is of another dtype or shape.
        CvaeError: an image has no name, or quality or effort is out of range.
        OutputError: the file exists and `force` is off, or cannot be written.
    """
    from cvae.codec import open_model
    from cvae.options import EncodeOptions
    from cvae.packs import encode as packing

    options = EncodeOptions(quality=quality, effort=effort, verify=False)
    packing.encode_pack(images, path, open_model(model), options, names, force)
