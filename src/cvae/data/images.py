"""Images in and out: files <-> Pillow <-> uint8 arrays."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from itertools import groupby
from pathlib import PurePath
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cvae.data.files import NotAFileError
from cvae.data.names import SUFFIXES
from cvae.data.places import Location
from cvae.data.signatures import HEAD, image_format
from cvae.errors import (
    CvaeError,
    ImageError,
    OutputError,
    StorageError,
    first_line,
    translated,
)

Pixels = NDArray[np.uint8]  # (h, w, c)
Shape = tuple[int, int, int]  # h, w, c
Box = tuple[float, float, float, float]  # left, top, right, bottom


class Images(Protocol):
    """uint8 images (n, h, w, c): an array, or files that are decoded when they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: slice | NDArray[np.intp], /) -> Pixels:
        """Those images as an array (k, h, w, c)."""


# The readers that may see a file; some of Pillow's others start programs.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF")

_PNG = b"\x89PNG\r\n\x1a\n"
_ZSTD = b"\x28\xb5\x2f\xfd"
_UNPACKED = "`zstd -dc FILE | cvae pack - -o OUT.bin` packs a tar archive"
_ORIENTATION = 0x0112  # the EXIF tag
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90,
}  # fmt: skip
_SWAPPING = {_TURNS[value] for value in (5, 6, 7, 8)}
# Left, top, right and bottom of a box; and to which of them a turn brings its right and its bottom.
_LEFT, _TOP, _RIGHT, _BOTTOM = range(4)
_EDGES = {
    Image.Transpose.FLIP_LEFT_RIGHT: (_LEFT, _BOTTOM), Image.Transpose.ROTATE_180: (_LEFT, _TOP),
    Image.Transpose.FLIP_TOP_BOTTOM: (_RIGHT, _TOP), Image.Transpose.TRANSPOSE: (_BOTTOM, _RIGHT),
    Image.Transpose.ROTATE_270: (_BOTTOM, _LEFT), Image.Transpose.TRANSVERSE: (_TOP, _LEFT),
    Image.Transpose.ROTATE_90: (_TOP, _RIGHT), None: (_RIGHT, _BOTTOM),
}  # fmt: skip

# Above this an image is refused before its pixels are decoded.
MAX_PIXELS = 64_000_000
# Above this an image that was fitted is not restored: the file of a small one claims any size. Or above
# so many times the pixels of the model, if that is more.
RESTORED_PIXELS, RESTORED_TIMES = 16_000_000, 256
MORE_PIXELS = "max_pixels=N allows more"  # advice
BATCH_PIXELS = 1 << 20  # of small pictures that go through the networks together
CHANGED = "this format changed pixels of a lossless file; .png and .webp keep all"
MAX_FILE = 1 << 28  # bytes; no image that can be read is near
# A file that cannot be read for one of these reasons cannot be read tomorrow either.
_LOST = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError, NotAFileError)


def restorable(shape: Shape) -> int:
    """How many pixels an image may have that is fitted to a shape (h, w, c), and restored."""
    most = max(RESTORED_PIXELS, RESTORED_TIMES * shape[0] * shape[1])
    return min(MAX_PIXELS, most)


def check_shape(shape: Shape) -> None:
    """Raises ValueError when no image that can be read has the shape (h, w, c)."""
    height, width, channels = shape
    if min(height, width) < 1 or height * width > MAX_PIXELS or channels not in (1, 3):
        raise ValueError(
            f"expected a shape (h, w, 1 or 3) of at most {MAX_PIXELS:,} pixels, found {shape}"
        )


def describe(shape: Shape) -> str:
    """`28x28 grey`: what people call an image of this (h, w, c)."""
    height, width, channels = shape
    size = f"{width}x{height} " if height else ""  # none where every image has its own
    return f"{size}{'grey' if channels == 1 else 'RGB'}"


def as_floats(pixels: Pixels) -> NDArray[np.float32]:
    """uint8 pixels as the networks take them: float32 in [0, 1]."""
    # In one step: those of a large tile take tens of megabytes.
    return np.divide(pixels, np.float32(255), dtype=np.float32)


def as_pixels(x: NDArray[np.float32]) -> Pixels:
    """What networks give, float32 in [0, 1], as uint8 pixels; `x` is overwritten."""
    # In place: on large batches these passes cost as much as a layer.
    np.multiply(x, 255, out=x)
    np.rint(x, out=x)
    return np.clip(x, 0, 255, out=x).astype(np.uint8)


def alike(pictures: Sequence[Pixels]) -> Iterator[Pixels]:
    """Pictures (h, w, c) -> batches (n, h, w, c) of those that follow each other and have one shape."""
    for shape, group in groupby(pictures, lambda picture: picture.shape):
        held = list(group)
        step = max(1, BATCH_PIXELS // (shape[0] * shape[1]))
        for start in range(0, len(held), step):
            yield stacked(held[start : start + step])


def stacked(pictures: Sequence[Pixels]) -> Pixels:
    """Pictures of one shape as a batch; one alone, which may be large, is not copied."""
    return pictures[0][np.newaxis] if len(pictures) == 1 else np.stack(pictures)


def flat(pixels: Pixels) -> Pixels:
    """(..., h, w, c) as callers of the API get it: grey without the axis of its one channel."""
    return pixels[..., 0] if pixels.shape[-1] == 1 else pixels


def below(batch: Pixels) -> Pixels:
    """RGBA (n, h, w, 4) -> (n, 2 h, w, 3): the transparency as a grey picture below the colours."""
    alpha = np.repeat(batch[..., 3:], 3, axis=3)
    return np.concatenate([batch[..., :3], alpha], axis=1)


def from_below(picture: Pixels) -> Pixels:
    """The inverse of `below` for one picture: (2 h, w, 3) -> (h, w, 4)."""
    height = len(picture) // 2
    return np.concatenate([picture[:height], picture[height:, :, :1]], axis=2)


def as_grey(pixels: Pixels) -> Pixels:
    """(..., c) -> (..., 1): the mean of the channels, rounded; row by row of the first axis, as floats
    take four times the memory."""
    grey = np.empty((*pixels.shape[:-1], 1), np.uint8)
    for row, result in zip(pixels, grey, strict=True):
        result[...] = np.rint(row.mean(axis=-1, keepdims=True, dtype=np.float32))
    return grey


def open_image(data: bytes, name: str) -> Image.Image:
    """Opens an encoded image without decoding its pixels. Raises ImageError, which names `name`."""
    if not data:
        raise ImageError("expected an image, found an empty file", where=name)
    try:
        if data.startswith(_PNG):
            # `Image.open` loads five readers first, which takes longer than coding a small image.
            from PIL.PngImagePlugin import PngImageFile

            image: Image.Image = PngImageFile(io.BytesIO(data))
        else:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise ImageError(f"the image is too large: {error}", where=name) from error
    except Exception as error:  # of any kind: Pillow's readers have no common base class
        advice = _UNPACKED if data.startswith(_ZSTD) else ""
        wrong = f"expected an image, found {_found(data)}"
        raise ImageError(wrong, where=name, advice=advice) from error
    check_pixels(image, name)
    if image.format == "TIFF":
        _silence_libtiff()
    return image


def _found(data: bytes) -> str:
    """What a file is that no reader takes."""
    if data.startswith(_ZSTD):
        return "zstd, which is not read"
    found = image_format(data[:HEAD])
    if not found:
        return "something else"
    return "a damaged one" if found in FORMATS else f"{found}, a format that is not read"


def check_pixels(image: Image.Image, name: str) -> None:
    """Raises ImageError when an opened image has no pixels, or too many to be decoded."""
    pixels, found = image.width * image.height, f"{image.width}x{image.height}"
    if not pixels:
        raise ImageError(f"expected an image, found one of {found}", where=name)
    if pixels > MAX_PIXELS:
        raise ImageError(f"expected at most {MAX_PIXELS:,} pixels, found {found}", where=name)


def turn_of(image: Image.Image) -> Image.Transpose | None:
    """How a decoded image is turned upright: phones store photographs lying on their side, and say so."""
    return _TURNS.get(image.getexif().get(_ORIENTATION, 1))


@cache
def _silence_libtiff() -> None:
    """libtiff prints its errors, too, which Pillow raises; of its warnings Pillow has taken care."""
    import ctypes

    with suppress(OSError, AttributeError):  # a Pillow that has it built in
        ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler(None)


def swaps_sides(turn: Image.Transpose | None) -> bool:
    """Whether width and height change places."""
    return turn in _SWAPPING


def turned_box(
    inside: tuple[float, float], size: tuple[int, int], turn: Image.Transpose | None
) -> Box:
    """Where the upper left (width, height) of an image of a size come to lie when it is turned."""
    right, bottom = _EDGES[turn]
    width, height = size[::-1] if swaps_sides(turn) else size
    box = [0.0, 0.0, width, height]
    for edge, beyond in (right, size[0] - inside[0]), (bottom, size[1] - inside[1]):
        box[edge] += beyond if edge in (_LEFT, _TOP) else -beyond
    return box[_LEFT], box[_TOP], box[_RIGHT], box[_BOTTOM]


def as_image(pixels: Pixels) -> Image.Image:
    """uint8 pixels (h, w) or (h, w, c) for Pillow."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels)


def grey_if_equal(pixels: Pixels) -> Pixels:
    """(h, w, 3) pixels whose channels are equal as (h, w, 1); others as they are."""
    first = pixels[..., :1]
    return first if pixels.shape[2] == 3 and bool((pixels == first).all()) else pixels


def resize(pixels: Pixels, width: int, height: int) -> Pixels:
    """(h, w, c) uint8 pixels resampled to another size.

    In strips of columns, as Pillow does the rows before the columns: beside the result, memory stays
    flat, and pixels are those of one go.
    """
    wide = as_image(pixels).resize((width, len(pixels)), Image.Resampling.LANCZOS)
    resized = np.empty((height, width, pixels.shape[2]), np.uint8)
    step = max(1, BATCH_PIXELS // height)
    for start in range(0, width, step):
        columns = slice(start, min(width, start + step))
        strip = wide.crop((columns.start, 0, columns.stop, len(pixels)))
        strip = strip.resize((strip.width, height), Image.Resampling.LANCZOS)
        resized[:, columns] = np.asarray(strip, np.uint8).reshape(height, -1, pixels.shape[2])
    return resized


def check_ending(name: str) -> None:
    """Raises OutputError when the ending of a name is of no image format that is written."""
    ending = PurePath(name).suffix.lower()
    if ending in SUFFIXES:
        return
    if Image.registered_extensions().get(ending) not in Image.SAVE:
        text = f"expected the ending of an image format, such as .png, found {ending or 'none'}"
        advice = "" if ending else "put a / behind it if a folder is meant"
        raise OutputError(text, where=name, advice=advice)


def encode_image(
    pixels: Pixels, name: str = "", profile: bytes | None = None, exact: bool = False
) -> bytes:
    """uint8 pixels (h, w) or (h, w, c) as an image file; the ending of `name` chooses the format, else PNG.

    `profile` is the ICC profile of its colours, for formats that have one. With `exact`, a format that can
    keep every pixel does; see `holds`.

    Raises OutputError when Pillow does not write such files, or not from such pixels.
    """
    buffer = io.BytesIO()
    buffer.name = name or "x.png"  # by its ending Pillow loads that one format only
    check_ending(buffer.name)
    wrong = "cannot be written in the format of its ending"
    with translated(OutputError, wrong, name, (OSError, ValueError, KeyError)):
        # Options of WebP; no other format that is read knows them. `exact`: transparent colours, too.
        kept = {"lossless": True, "exact": True} if exact else {}
        as_image(pixels).save(buffer, icc_profile=profile, **kept)
    return buffer.getvalue()


def holds(data: bytes, pixels: Pixels) -> bool:
    """Whether an image file has the pixels that it was made of, as JPEG has not; True where nobody knows."""
    expected = as_image(pixels)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return bool(image.convert(expected.mode).tobytes() == expected.tobytes())
    except Exception:  # of a format that is written and not read
        return True


@contextmanager
def decoding(name: str) -> Iterator[None]:
    """Raises ImageError for whatever a reader raises in the block: Pillow's have no common base class."""
    try:
        yield
    except CvaeError:
        raise
    except MemoryError as error:
        raise ImageError("needs more memory than there is", where=name) from error
    except Exception as error:
        raise ImageError(f"cannot be decoded: {first_line(error)}", where=name) from error


def read_file(place: Location, name: str = "") -> bytes:
    """The bytes of an image file, which errors call `name`, else by its path.

    Raises:
        ImageError: it is missing, may not be read, or has more than `MAX_FILE` bytes.
        StorageError: anything else went wrong, so that the next attempt may find it.
    """
    name = name or str(place)
    with (
        translated(StorageError, "cannot be reached", name),
        translated(ImageError, "cannot be read", name, _LOST),
        place.open("rb") as file,
    ):
        data: bytes = file.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise ImageError(f"expected an image, found more than {MAX_FILE:,} bytes", where=name)
    return data
