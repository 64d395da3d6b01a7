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
    from typing import Any

    from cvae.api import (
        ModelInfo,
        decode,
        denoise,
        encode,
        encode_pack,
        from_latents,
        interpolate,
        latents,
        list_models,
        sample,
    )
    from cvae.codec import Codec, QualityWarning, open_model
    from cvae.data.given import ConversionWarning
    from cvae.errors import (
        ClusterError,
        CvaeError,
        DataError,
        FormatError,
        ImageError,
        ImageIndexError,
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
    from cvae.options import Encoded, EncodeOptions
    from cvae.packs import open as open_pack
    from cvae.packs.decode import Pack

__version__ = "0.1.0"

__all__ = [
    "ClusterError", "Codec", "ConversionWarning", "CvaeError", "DataError", "EncodeOptions",
    "Encoded", "FormatError", "ImageError", "ImageIndexError", "ImageShapeError", "MissingExtraError",
    "ModelError", "ModelInfo", "ModelKindError", "ModelNotFoundError", "OutputError", "Pack",
    "QualityWarning", "StorageError", "TargetError", "TrainingError", "UnsupportedError", "__version__",
    "decode", "denoise", "encode", "encode_pack", "from_latents", "interpolate", "latents", "list_models",
    "open_model", "open_pack", "sample",
]  # fmt: skip

_FUNCTIONS = (
    "ModelInfo", "decode", "denoise", "encode", "encode_pack", "from_latents", "interpolate",
    "latents", "list_models", "sample",
)  # fmt: skip
# Imported when they are asked for.
_LAZY = {
    "Codec": "cvae.codec",
    "ConversionWarning": "cvae.data.given",
    "EncodeOptions": "cvae.options",
    "Encoded": "cvae.options",
    "Pack": "cvae.packs.decode",
    "QualityWarning": "cvae.codec",
    "open_model": "cvae.codec",
    "open_pack": "cvae.packs",
    **{name: "cvae.errors" for name in __all__ if name.endswith("Error")},
    **dict.fromkeys(_FUNCTIONS, "cvae.api"),
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), "open" if name == "open_pack" else name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """What shells complete: names that are not loaded yet, too, and none that only this file needs."""
    return sorted({*globals(), *__all__} - {"TYPE_CHECKING", "annotations"})
