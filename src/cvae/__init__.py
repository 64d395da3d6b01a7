"""A neural image codec: learns one kind of image and writes a dozen bytes a picture.

    import cvae

    model = cvae.open_model("mnist")
    data = model.encode(image)  # uint8 (28, 28) -> bytes
    image = model.decode(data)

Importing the package is cheap: numpy, Pillow and ONNX Runtime are loaded by the first call.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cvae.errors import (
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
    TrainingError,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cvae.codec import Codec, QualityWarning

__version__ = "0.1.0"

__all__ = [
    "Codec",
    "CvaeError",
    "DataError",
    "FormatError",
    "ImageError",
    "ImageShapeError",
    "MissingExtraError",
    "ModelError",
    "ModelKindError",
    "ModelNotFoundError",
    "OutputError",
    "QualityWarning",
    "TrainingError",
    "__version__",
    "decode",
    "encode",
    "open_model",
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


def __getattr__(name: str) -> Any:
    # Types of the public API, without loading numpy for those who only ask for the version.
    if name in ("Codec", "QualityWarning"):
        from cvae import codec

        return getattr(codec, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
