"""How any image becomes one of a model's shape, so that evaluation reads as training did."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image

from cvae.data import images
from cvae.data.images import Pixels, Shape
from cvae.errors import ImageError

# An image is left out when a side would have to grow by more.
MAX_ENLARGEMENT = 4
# JPEG is decoded at half, a quarter or an eighth of its size where so much more remains than needed.
_DRAFT = 2
_DRAFT_SIDE = 32  # at least, so that small targets see the picture as others do


@dataclass(frozen=True)
class Reading:
    """The shape that images are brought to, and how; it is recorded in the run and in the model."""

    shape: Shape
    # crop: the shorter side is scaled and the middle cut out; resize: the aspect is given up.
    fit: Literal["crop", "resize"] = "crop"
    background: str = "#000000"  # what transparent images are composited on

    def to_json(self) -> dict[str, Any]:
        """As JSON types; `from_json` is the inverse."""
        return {"shape": list(self.shape), "fit": self.fit, "background": self.background}

    @classmethod
    def from_json(cls, values: Any) -> Reading:
        """Raises ValueError, KeyError or TypeError when the values are not a reading's."""
        height, width, channels = values["shape"]
        fit, background = values["fit"], values["background"]
        if not all(type(side) is int and side > 0 for side in values["shape"]):
            raise ValueError(f"expected a shape (h, w, c), found {values['shape']!r}")
        if channels not in (1, 3) or height * width > images.MAX_PIXELS:
            raise ValueError(f"shape {values['shape']} is out of range")
        if fit not in ("crop", "resize") or not re.fullmatch("#[0-9a-f]{6}", background):
            raise ValueError(f"expected crop or resize and a colour, found {fit!r}, {background!r}")
        return cls((height, width, channels), fit, background)

    def __str__(self) -> str:
        how = "cropped" if self.fit == "crop" else "resized"
        return f"{images.describe(self.shape)}, {how}, on {self.background}"

    def picture(self, data: bytes, name: str) -> Image.Image:
        """An image file's first picture in RGB, upright, without transparency, of any size.

        Raises:
            ImageError: the data is no image, is damaged, or is far smaller than the shape.
        """
        image = images.open_image(data, name)
        height, width, _ = self.shape
        enough = _DRAFT * max(height, width, _DRAFT_SIDE)
        try:
            image.draft(None, (enough, enough))
            image = images.upright(image)
            if image.mode == "F":
                raise ImageError("samples are floats, of which black and white are unknown")
            image = images.flatten(image, self._background).convert("RGB")
        except Exception as error:  # of any kind: Pillow's readers have no common base class
            raise ImageError(f"the image is damaged: {error}", where=name) from error
        if image.width * MAX_ENLARGEMENT < width or image.height * MAX_ENLARGEMENT < height:
            raise ImageError(
                f"expected at least a quarter of {width}x{height} pixels a side, "
                f"found {image.width}x{image.height}",
                where=name,
            )
        return image

    def pixels(self, picture: Image.Image) -> Pixels:
        """A picture as uint8 pixels (h, w, c) of the shape; of that size already, it is not resampled."""
        height, width, channels = self.shape
        if channels == 1:
            picture = picture.convert("L")
        if picture.size != (width, height):
            if self.fit == "crop":
                from PIL import ImageOps

                picture = ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS)
            else:
                picture = picture.resize((width, height), Image.Resampling.LANCZOS)
        return np.asarray(picture, np.uint8).reshape(self.shape)

    @property
    def _background(self) -> tuple[int, int, int]:
        red, green, blue = bytes.fromhex(self.background[1:])
        return red, green, blue
