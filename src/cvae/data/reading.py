"""How any image becomes one of a model's shape: the one way from a file to pixels."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, NamedTuple, NoReturn

import msgspec
import numpy as np
from PIL import Image, ImageColor

from cvae.bitstream.container import MAX_SIDE
from cvae.data import images, samples
from cvae.data.images import Box, Pixels, Shape
from cvae.data.memory import Budget
from cvae.data.samples import Factors, Flat, Samples
from cvae.errors import ImageError, ImageShapeError, at

Size = tuple[int, int]  # width, height

# An image is skipped when a side would have to grow by more.
MAX_ENLARGEMENT = 4
# JPEG is decoded at half, a quarter or an eighth of its size where so much more remains than needed.
_DRAFT = 2
_DRAFT_SIDE = 32  # at least, so that small targets see the picture as others do
# Other images become means of cells first, where so many times the size that is needed remains.
_GAP = 4
# Bytes of decoded images that wait for their conversion, in all threads together.
_DECODED = Budget(1 << 28)
_BYTES = 4  # of a pixel in Pillow's memory
# Decoders that keep several whole pictures take so many, and get pictures of so many pixels alone.
_COPYING = {"WEBP": 16, "AVIF": 16}
_COPIED = 24_000_000
# What messages call Pillow's modes.
_MODES = {
    "L": "grey", "I": "16-bit grey", "I;16": "16-bit grey", "I;16B": "16-bit grey",
    "RGBA": "RGB with alpha", "LA": "grey with alpha", "P": "palette", "1": "black and white",
}  # fmt: skip
# Modes of 8 bits that become grey or RGB, with transparency or without, and no value another.
_EXACT = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX"}
# What is said where it was done.
_DAMAGED_PROFILE = "damaged colour profile ignored"
_PROFILE = "colours converted from their profile to sRGB"
_GREY = "colours made grey"
_LEFT_OUT = "colour profile left out"
_TURNED = "turned upright, as its EXIF orientation says"
# And what such a text begins with.
CROPPED, UNSEEN = "cropped", "nothing is seen"


class Picture(NamedTuple):
    """A decoded image, before what is kept of it is brought to a shape."""

    image: Image.Image  # upright, in mode L or RGB, reduced where far less is needed
    size: Size  # of what is kept, before it is scaled
    changes: tuple[str, ...]  # what was lost or converted, in words
    profile: bytes | None = None  # of a reading that is `tagged`
    # What of `image` the picture is: where it was reduced, the outermost pixels may reach beyond it.
    box: Box | None = None

    @property
    def grey(self) -> bool:
        """Whether the file holds a grey image, whatever it is converted to."""
        return bool(self.image.mode == "L")


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
    lays: bool = False  # exact: they are, where they would be refused
    strict: bool = False  # exact and any: what would lose or change a sample is refused
    alpha: bool = False  # any: transparency stays, as a fourth channel
    tagged: bool = False  # colours are left as the profile has them, which `Picture` keeps
    labels: bool = False  # those beside images are read, too
    folders: bool = False  # the folder of an image is its label
    most: int = images.MAX_PIXELS  # stretch: pixels of an image, which decoding has to restore

    def to_json(self) -> dict[str, Any]:
        """As JSON types; `from_json` is the inverse."""
        values = asdict(self) | {"shape": list(self.shape)}
        for name in (
            "lays",
            "strict",
            "alpha",
            "tagged",
            "labels",
            "folders",
            "most",
        ):  # training lays, refuses and restores nothing, and keeps neither profile nor labels
            del values[name]
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
        with images.decoding(name):
            return self.pixels(self.picture(data, name))

    def picture(self, data: bytes | Image.Image, name: str) -> Picture:
        """An image file's first picture, of any size where it may differ; errors call it `name`.

        Of an opened image, the page that it is at.

        Raises:
            ImageShapeError: the image differs from the shape, and must not.
            ImageError: the data is no image, is damaged, has samples of unknown meaning, or cannot be
                brought to the shape.
        """
        return self._opened(
            images.open_image(data, name) if isinstance(data, bytes) else data, name
        )

    def _opened(self, image: Image.Image, name: str) -> Picture:
        # Judged before any pixel is decoded; EXIF rotation may swap the sides below.
        if self.fit == "exact" and sorted(image.size) != sorted(self.shape[1::-1]):
            self._refuse(image, name)
        with at(name):
            try:
                return self._decoded(image, name)
            except (ImageError, MemoryError):
                raise
            except Exception as error:  # of any kind: Pillow's readers have no common base class
                raise ImageError(f"the image is damaged: {error}") from error

    def _decoded(self, image: Image.Image, name: str) -> Picture:
        found, size, mode = samples.samples_of(image), image.size, image.mode
        drafted = None
        if self.scales and image.format == "JPEG":  # one of several pages is told once for all
            enough = _DRAFT * max(*self.shape[:2], _DRAFT_SIDE)
            drafted = image.draft(None, (enough, enough))
        with _DECODED.hold(self._bytes(image)):
            image.load()
            colours, changes = (None, []) if self._tags(image) else _to_srgb(image)
            turn = images.turn_of(image)
            if self.strict:
                colours, changes = None, [_LEFT_OUT] if colours else changes
                changes += [] if turn is None else [_TURNED]
            factors = self._factors(image.size, turn)
            keep = self.alpha
            flat = samples.flat(image, found, self.background, colours, factors, keep)
        inside = drafted[1][2:] if drafted else image.size
        inside = inside[0] / factors[0], inside[1] / factors[1]
        box = images.turned_box(inside, flat.image.size, turn)
        if turn is not None:
            flat = flat._replace(image=flat.image.transpose(turn))
            size = size[::-1] if images.swaps_sides(turn) else size
        if self.strict:
            self._check_strict(flat, found, mode, name)
        if self.fit == "exact":
            self._check_exact(flat, size, found.bits, mode, image, name)
        self._check_sides(size, name)
        changes += self._changes(flat, size, found.bits, mode)
        profile = image.info["icc_profile"] if self._tags(image) else None
        return Picture(flat.image, self.kept(size), tuple(changes), profile, box)

    def _bytes(self, image: Image.Image) -> int:
        """What an image takes while it is decoded. Raises ImageError where that is too much to shrink it."""
        each = _COPYING.get(image.format or "", _BYTES)
        pixels: int = image.width * image.height
        if self.scales and each > _BYTES and pixels > _COPIED:
            text = f"expected at most {_COPIED:,} pixels of {image.format} to shrink"
            raise ImageError(f"{text}, found {image.width}x{image.height}")
        return each * pixels

    def _tags(self, image: Image.Image) -> bool:
        """Whether the image's profile is kept beside its colours: no RGB has one of CMYK."""
        return (
            self.tagged
            and bool(image.info.get("icc_profile"))
            and samples.colours_of(image) != "CMYK"
        )

    def _changes(self, flat: Flat, size: Size, bits: int, mode: str) -> list[str]:
        """What was lost or converted, and will be by `pixels`."""
        changes = []
        if flat.transparent and not self.alpha:
            changes.append(f"transparent parts laid on {self.background}")
            if is_all(flat.image, self.background):
                changes.append(f"{UNSEEN} on {self.background}")
        if bits > 8:
            changes.append(f"{bits} bits a sample reduced to 8")
        if mode == "CMYK":
            changes.append("CMYK converted to RGB")
        if self._mode == "L" and self.fit != "any" and not is_grey(flat.image):
            changes.append(_GREY)
        kept, target = self.kept(size), self.shape[1::-1]
        if self.fit in ("crop", "resize") and size != target:
            done = (CROPPED, kept != size), ("scaled", kept != target)
            how = " and ".join(word for word, was_done in done if was_done)
            changes.append(f"{how} to {self.shape[1]}x{self.shape[0]}")
        return changes

    def pixels(self, picture: Picture | Image.Image) -> Pixels:
        """A picture as uint8 pixels (h, w, c); one of the right size is not resampled."""
        height, width, channels = self.shape
        image, box = (
            (picture.image, picture.box) if isinstance(picture, Picture) else (picture, None)
        )
        if self.fit == "any":
            channels = len(image.getbands())
        elif image.mode != self._mode:
            image = image.convert(self._mode)
        if not self.keeps and image.size != (width, height):
            box = box or (0, 0, *image.size)
            box = _middle(box, width / height) if self.fit == "crop" else box
            image = image.resize((width, height), Image.Resampling.LANCZOS, box)
        return np.asarray(image, np.uint8).reshape(image.height, image.width, channels)

    def check_array(self, shape: Shape, name: str) -> None:
        """Raises ImageShapeError when images (h, w, c) of an array cannot be brought to the shape."""
        height, width, channels = shape
        fits = shape == self.shape
        if self.fit != "exact":
            sides = min(height, width) >= 1 and max(height, width) <= MAX_SIDE
            fits = channels in (1, 3) and sides and height * width <= images.MAX_PIXELS
        if self.fit == "own":
            fits = fits and channels == self.shape[2]
        if fits and self.scales:
            self._check_restorable(self.kept((width, height)), name)
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

    def _check_strict(self, flat: Flat, told: Samples, mode: str, name: str) -> None:
        """Raises ImageError where a lossless model would lose what the image has."""
        found, advice = "", ""
        if told.lost:
            found = told.lost
        elif told.bits > 8:
            found = f"{told.bits} bits a sample"
            advice = "convert it to 8 bits, which loses the others"
        elif mode not in _EXACT:
            found, advice = mode, "convert it to RGB"
        elif flat.transparent and not (self.lays or self.alpha):
            found = "transparent parts"
            advice = (
                "--background #rrggbb lays them on a colour, files of `encode --lossless` keep them"
            )
        if found:
            expected = "expected 8 bits of grey or RGB, which come back as they are"
            raise ImageError(f"{expected}, found {found}", where=name, advice=advice)

    def _check_exact(
        self, flat: Flat, size: Size, bits: int, mode: str, image: Image.Image, name: str
    ) -> None:
        """Raises ImageShapeError when the image lost something that only `--fit` gives up."""
        lost = bits > 8 or mode not in _EXACT or (flat.transparent and not self.lays)
        colours = self._mode == "L" and not is_grey(flat.image)
        if lost or colours or size != self.shape[1::-1]:
            self._refuse(image, name)

    def _check_sides(self, size: Size, name: str) -> None:
        height, width, _ = self.shape
        if self.scales:
            self._check_restorable(self.kept(size), name)
        small = size[0] * MAX_ENLARGEMENT < width or size[1] * MAX_ENLARGEMENT < height
        if (self.fit != "crop" or self.keeps) and max(size) > MAX_SIDE:
            expected = f"sides of at most {MAX_SIDE}"
        elif self._trains and small:
            expected = f"at least a quarter of {width}x{height} pixels a side"
        else:
            return
        raise ImageError(f"expected {expected}, found {size[0]}x{size[1]}", where=name)

    def _refuse(self, image: Image.Image, name: str) -> NoReturn:
        mode = _MODES.get(image.mode, image.mode)
        # By one colour, or by entries of the palette.
        keyed = "alpha" not in mode and image.has_transparency_data
        found = f"{image.width}x{image.height} {mode}{' with transparency' if keyed else ''}"
        raise ImageShapeError(f"expected {images.describe(self.shape)}, found {found}", where=name)

    def _factors(self, size: Size, turn: Image.Transpose | None) -> Factors:
        """By what (width, height) can be divided before they are scaled, without a loss that shows."""
        if not self.scales:
            return 1, 1
        height, width, _ = self.shape
        if turn is not None and images.swaps_sides(turn):
            height, width = width, height
        across, down = size[0] / width / _GAP, size[1] / height / _GAP
        if self.fit == "crop":
            across = down = min(across, down)
        return max(1, int(across)), max(1, int(down))

    def kept(self, size: Size) -> Size:
        """What of (width, height) is scaled: all of it, or the middle."""
        if self.fit != "crop":
            return size
        height, width, _ = self.shape
        scale = min(size[0] / width, size[1] / height)
        return max(1, round(width * scale)), max(1, round(height * scale))

    @property
    def keeps(self) -> bool:
        """Whether images keep their sizes."""
        return self.fit in ("own", "any")

    @property
    def scales(self) -> bool:
        """Whether images of other sizes are brought to that of the shape."""
        return self.fit in ("stretch", "crop", "resize")

    @property
    def _trains(self) -> bool:
        """Whether this is how training reads folders."""
        return self.fit in ("crop", "resize") or (self.fit == "own" and min(self.shape[:2]) > 0)

    @property
    def _mode(self) -> str:
        return "L" if self.shape[2] == 1 else "RGB"


def _middle(box: Box, aspect: float) -> Box:
    """The largest box of an aspect, width over height, in the middle of a box."""
    left, top, right, bottom = box
    width, height = (
        min(right - left, aspect * (bottom - top)),
        min(bottom - top, (right - left) / aspect),
    )
    left, top = left + (right - left - width) / 2, top + (bottom - top - height) / 2
    return left, top, left + width, top + height


def is_grey(image: Image.Image) -> bool:
    """Whether all pixels of an image in mode L or RGB are grey."""
    if image.mode == "L":
        return True
    red, green, blue = (band.tobytes() for band in image.split())
    return bool(red == green == blue)


def is_all(image: Image.Image, colour: str) -> bool:
    """Whether all pixels of an image in mode L or RGB are of a colour, `#rrggbb`."""
    found, levels = image.getextrema(), ImageColor.getrgb(colour)
    if image.mode == "L":
        return all(found == (level, level) for level in levels)
    return all(band == (level, level) for band, level in zip(found, levels, strict=True))


def _to_srgb(image: Image.Image) -> tuple[Any, list[str]]:
    """A transform to sRGB where the image has a profile for it, and what is to be said of it."""
    profile = image.info.get("icc_profile")
    if not profile:
        return None, []
    from cvae.data import profiles

    try:
        transform = profiles.to_srgb(profile, samples.colours_of(image))
    except ValueError:
        return None, [_DAMAGED_PROFILE]
    return transform, [] if transform is None else [_PROFILE]
