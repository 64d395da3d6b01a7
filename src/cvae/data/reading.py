"""How any image becomes one of a model's shape: the one way from a file to pixels."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, NamedTuple, NoReturn

import msgspec
import numpy as np
from PIL import Image

from cvae.bitstream.container import MAX_SIDE
from cvae.data import images
from cvae.data.images import Pixels, Shape
from cvae.errors import ImageError, ImageShapeError

# An image is skipped when a side would have to grow by more.
MAX_ENLARGEMENT = 4
# JPEG is decoded at half, a quarter or an eighth of its size where so much more remains than needed.
_DRAFT = 2
_DRAFT_SIDE = 32  # at least, so that small targets see the picture as others do
# What messages call Pillow's modes.
_MODES = {"L": "grey", "I;16": "16-bit grey", "RGBA": "RGB with alpha", "LA": "grey with alpha"}


class Picture(NamedTuple):
    """A decoded image before it is brought to a shape."""

    image: Image.Image  # upright, without transparency
    grey: bool  # the file holds a grey image, whatever it is converted to
    changed: bool  # transparency, colour or depth was lost
    alpha: bool = False  # transparent parts were laid on the background


@dataclass(frozen=True)
class Reading:
    """The shape that images are brought to, and how. A run and its model record that of a folder.

    What `fit` means:
        exact: an image that differs is refused; only lossless changes of mode pass.
        stretch: an image that differs is converted and resized, as by `--fit`.
        own: images keep their sizes; only the channels count. With sides in the shape, as training
            reads folders for networks that see parts of such sides.
        any: as own, and grey images stay grey, with one channel.
        crop: as training reads folders; the shorter side is scaled and the middle cut out.
        resize: as training reads folders; the aspect is given up.
    """

    shape: Shape  # (h, w, c), c = 1 (grey) or 3 (RGB)
    fit: Literal["exact", "stretch", "own", "any", "crop", "resize"]
    # What transparent images are composited on.
    background: Annotated[str, msgspec.Meta(pattern=r"^#[0-9a-f]{6}\Z")] = "#000000"
    most: int = images.MAX_PIXELS  # stretch: pixels of an image, which decoding has to restore

    def to_json(self) -> dict[str, Any]:
        """As JSON types; `from_json` is the inverse."""
        values = asdict(self) | {"shape": list(self.shape)}
        del values["most"]  # training restores nothing
        return values

    @classmethod
    def from_json(cls, values: object) -> Reading:
        """Raises ValueError when the values do not say how training reads folders."""
        reading = msgspec.convert(values, cls)
        images.check_shape(reading.shape)
        if not reading._trains:
            raise ValueError(f"expected crop, resize or own, found {reading.fit}")
        return reading

    def __str__(self) -> str:
        if self.fit == "own":
            return (
                f"{images.describe((0, 0, self.shape[2]))} at their own sizes, on {self.background}"
            )
        how = {"crop": "cropped", "resize": "resized"}.get(self.fit, self.fit)
        return f"{images.describe(self.shape)}, {how}, on {self.background}"

    def read(self, data: bytes, name: str) -> Pixels:
        """An image file as uint8 pixels (h, w, c); raises as `picture` does."""
        return self.pixels(self.picture(data, name).image)

    def picture(self, data: bytes, name: str) -> Picture:
        """An image file's first picture, of any size where it may differ; errors call it `name`.

        Raises:
            ImageShapeError: the image differs from the shape, and must not.
            ImageError: the data is no image, is damaged, or cannot be brought to the shape.
        """
        image = images.open_image(data, name)
        height, width, _ = self.shape
        exact, trains = self.fit == "exact", self._trains
        # Judged before any pixel is decoded; EXIF rotation may swap the sides below.
        if exact and sorted(image.size) != sorted((width, height)):
            self._refuse(image, name)
        try:
            if trains and self.fit != "own":
                enough = _DRAFT * max(height, width, _DRAFT_SIDE)
                image.draft(None, (enough, enough))
            image.load()  # here, because what cannot be converted is decoded nowhere below
            image = images.upright(image)
            if trains and image.mode == "F":
                raise ImageError("samples are floats, of which black and white are unknown")
            grey = Image.getmodebase(image.mode) == "L"
            mode = "L" if grey and self.fit == "any" else self._mode
            # Training looks at colours, too, whatever the model takes.
            same = None if trains else images.lossless(image, mode)
            if exact and (same is None or same.size != (width, height)):
                self._refuse(image, name)
            picture, alpha = same, False
            if picture is None:
                alpha = image.has_transparency_data
                flat = images.flatten(image, self.background)
                picture = flat.convert("RGB" if trains else mode)
        except ImageShapeError:
            raise
        except Exception as error:  # of any kind: Pillow's readers have no common base class
            raise ImageError(f"the image is damaged: {error}", where=name) from error
        self._check_sides(picture, name)
        return Picture(picture, grey, same is None, alpha)

    def pixels(self, picture: Image.Image) -> Pixels:
        """A picture as uint8 pixels (h, w, c); one of the right size is not resampled."""
        height, width, channels = self.shape
        if self.fit == "any":
            channels = len(picture.getbands())
        elif picture.mode != self._mode:
            picture = picture.convert(self._mode)
        if not self.keeps and picture.size != (width, height):
            if self.fit == "crop":
                from PIL import ImageOps

                picture = ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS)
            else:
                picture = picture.resize((width, height), Image.Resampling.LANCZOS)
        return np.asarray(picture, np.uint8).reshape(picture.height, picture.width, channels)

    def check_array(self, shape: Shape, name: str) -> None:
        """Raises ImageShapeError when images (h, w, c) of an array cannot be brought to the shape."""
        height, width, channels = shape
        fits = shape == self.shape
        if self.fit != "exact":
            sides = min(height, width) >= 1 and max(height, width) <= MAX_SIDE
            fits = channels in (1, 3) and sides and height * width <= images.MAX_PIXELS
        if self.fit == "own":
            fits = fits and channels == self.shape[2]
        if fits and self.fit == "stretch":
            self._check_restorable((width, height), name)
        if not fits:
            sizes = "any size, " if self.keeps else ""
            found = f"{width}x{height} with {channels} channels"
            expected = f"{sizes}{images.describe(self.shape)}"
            raise ImageShapeError(f"expected {expected}, found {found}", where=name)

    def _check_restorable(self, size: tuple[int, int], name: str) -> None:
        """Raises ImageError when decoding would not restore so many pixels."""
        width, height = size
        if width * height > self.most:
            found = f"{width}x{height}, which decoding would have to restore"
            text = f"expected at most {self.most:,} pixels, found {found}"
            raise ImageError(text, where=name, advice=images.MORE_PIXELS)

    def _check_sides(self, picture: Image.Image, name: str) -> None:
        height, width, _ = self.shape
        if self.fit == "stretch":
            self._check_restorable(picture.size, name)
        small = picture.width * MAX_ENLARGEMENT < width or picture.height * MAX_ENLARGEMENT < height
        if (self.fit == "stretch" or self.keeps) and max(picture.size) > MAX_SIDE:
            expected = f"sides of at most {MAX_SIDE}"
        elif self._trains and small:
            expected = f"at least a quarter of {width}x{height} pixels a side"
        else:
            return
        found = f"{picture.width}x{picture.height}"
        raise ImageError(f"expected {expected}, found {found}", where=name)

    def _refuse(self, image: Image.Image, name: str) -> NoReturn:
        found = f"{image.width}x{image.height} {_MODES.get(image.mode, image.mode)}"
        raise ImageShapeError(f"expected {images.describe(self.shape)}, found {found}", where=name)

    @property
    def keeps(self) -> bool:
        """Whether images keep their sizes."""
        return self.fit in ("own", "any")

    @property
    def _trains(self) -> bool:
        """Whether this is how training reads folders."""
        return self.fit in ("crop", "resize") or (self.fit == "own" and min(self.shape[:2]) > 0)

    @property
    def _mode(self) -> str:
        return "L" if self.shape[2] == 1 else "RGB"
