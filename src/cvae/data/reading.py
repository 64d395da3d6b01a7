"""How any image becomes one of a model's shape, so that evaluation reads as training did."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

import numpy as np
from PIL import Image

from cvae import records
from cvae.data import images
from cvae.data.images import CheckedShape, Pixels
from cvae.errors import ImageError

# An image is left out when a side would have to grow by more.
MAX_ENLARGEMENT = 4
# JPEG is decoded at half, a quarter or an eighth of its size where so much more remains than needed.
_DRAFT = 2
_DRAFT_SIDE = 32  # at least, so that small targets see the picture as others do


@dataclass(frozen=True)
class Reading:
    """The shape that images are brought to, and how; it is recorded in the run and in the model."""

    shape: CheckedShape
    # crop: the shorter side is scaled and the middle cut out; resize: the aspect is given up.
    fit: Literal["crop", "resize"] = "crop"
    # What transparent images are composited on.
    background: Annotated[str, records.matching("#[0-9a-f]{6}")] = "#000000"

    def to_json(self) -> dict[str, Any]:
        """As JSON types; `from_json` is the inverse."""
        return {**asdict(self), "shape": list(self.shape)}

    @classmethod
    def from_json(cls, values: object) -> Reading:
        """Raises ValueError when the values are not a reading's."""
        return records.read(cls, values, complete=True)

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
