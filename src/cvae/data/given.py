"""Images as callers of the API give them, arrays and Pillow's, as uint8 arrays that can be coded."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cvae.bitstream.container import MAX_SIDE
from cvae.checks import expect
from cvae.data import images, pages, samples
from cvae.data.images import MAX_PIXELS, Pixels, Shape
from cvae.data.reading import Reading
from cvae.errors import ImageError, ImageShapeError, at, translated

FLOATS_ADVICE = "np.rint(255 * x).astype(np.uint8) makes pixels of values from 0 to 1"


# What helps against arrays whose images have so many values a pixel.
_CHANNELS_ADVICE = {
    2: "x[..., :1] drops the alpha of grey",
    4: "x[..., :3] drops the alpha of RGBA, and with a = x[..., 3:] / 255 "
    "np.rint(x[..., :3] * a + 255 * (1 - a)).astype(np.uint8) lays it on white",
}
_AXES_ADVICE = "np.moveaxis(x, 1, -1) puts the channels last"
_LIST_ADVICE = "list(x) gives grey images (n, h, w) one by one"
_BATCH_ADVICE = "x[..., np.newaxis] gives grey images (n, h, w) their one channel"
_SIZED_ADVICE = "the models photo and lossless-photo take pictures of any size"
_READ_ADVICE = f"Codec.read fits it where training did; {_SIZED_ADVICE}"


class ConversionWarning(UserWarning):
    """An image of Pillow, or a file, is read with something of it lost or converted, such as its profile."""


Readable: TypeAlias = str | Path | Image.Image


def is_list(given: object) -> bool:
    """Whether several images were given, each by itself."""
    return isinstance(given, list | tuple)


def as_array(given: Any, shape: Shape | None = None) -> NDArray:
    """One image, or an array of images, as numpy has it; of any dtype and shape.

    An image of Pillow becomes upright, and uint8; its shape has to be (h, w, c) where that is given.
    Raises ImageError when that would lose something, or it is no image.
    """
    if isinstance(given, Image.Image):
        return _pixels(given, shape)
    try:
        return np.asarray(given)
    except Exception as error:  # of any kind: objects say in their own ways that they are no array
        wrong = f"expected an image, found {type(given).__name__}: {error}"
        raise ImageError(wrong) from error


def as_picture(given: Any, channels: tuple[int, ...] = (1, 3)) -> Pixels:
    """One image (h, w) or (h, w, 1 or 3) as (h, w, c). Raises ImageError when it is none to code."""
    image = as_array(given)
    pixels = image[..., np.newaxis] if image.ndim == 2 else image
    expected = "uint8 arrays of shape (h, w) or (h, w, 3)"
    fits = pixels.ndim == 3 and min(pixels.shape) > 0 and pixels.shape[2] in channels
    if pixels.dtype != np.uint8 or not fits:
        raise refusal(expected, image)
    check_batch(pixels[np.newaxis], expected)
    return pixels


def as_pictures(given: Any, channels: tuple[int, ...] = (1, 3)) -> list[Pixels]:
    """Images of any sizes, or one, as arrays (h, w, 1 or 3); raises ImageError when they are none.

    `channels` are those that pictures may have. Of a list, the error names the image by its number.
    """
    if is_list(given):
        return _each(given, 0, lambda image: as_picture(image, channels))
    array = as_array(given)
    return [as_picture(image, channels) for image in (array if array.ndim > 3 else [array])]


def as_picture_of(given: Any, shape: Shape) -> Pixels:
    """One image of a shape (h, w, c). Raises ImageError when it is none."""
    image = as_array(given, shape)
    if image.dtype != np.uint8 or image.shape not in (shape, _flat(shape)):
        raise refusal(f"uint8 arrays of shape {_flat(shape)}", image, sized=True)
    return image.reshape(shape)


def as_stack(given: Any, shape: Shape, first: int = 0) -> tuple[Pixels, bool]:
    """Images of one shape as (n, h, w, c), and whether it is one image that was not in a list.

    Raises ImageError; of a list, it names the image by its number, counted from `first` on.
    """
    if is_list(given):
        pictures = _each(given, first, lambda image: as_picture_of(image, shape))
        return np.array(pictures, np.uint8).reshape(-1, *shape), False
    array = as_array(given, shape)
    if array.shape == (0,):
        return np.empty((0, *shape), np.uint8), False
    shapes = shape, _flat(shape)
    single = array.shape in shapes
    if array.dtype != np.uint8 or not (single or array.shape[1:] in shapes):
        raise refusal(f"uint8 arrays of shape {_flat(shape)}", array, sized=True)
    return array.reshape(-1, *shape), single


def read(given: Readable, reading: Reading) -> Pixels:
    """An image file, or an image of Pillow, as a reading has it: uint8 (h, w), or (h, w, 3 or 4).

    Raises ImageError; warns of what is lost or converted.
    """
    expect(given, (str, Path, Image.Image), "a path or an image of Pillow")
    name = "" if isinstance(given, Image.Image) else str(given)
    with images.decoding(name):
        if isinstance(given, Image.Image):
            images.check_pixels(given, name)
            if given.format == "JPEG":
                given.load()  # for good: a reading that scales would have a part of its pixels
            data = given
        else:
            data = images.read_file(Path(given), name)
        try:
            picture = reading.picture(data, name)
        except ImageError as error:
            if "--background" in error.advice:
                error.advice = 'EncodeOptions(background="#ffffff") lays them on white'
            elif isinstance(error, ImageShapeError) and not reading.strict:
                error.advice = "EncodeOptions(fit=True) converts and scales it"
            raise
        pixels = np.array(images.flat(reading.pixels(picture)))  # which can be written to
    changes = [f"{name or 'an image of Pillow'}: {change}" for change in picture.changes]
    if isinstance(data, bytes) and (several := pages.count(data)) > 1:
        changes.append(str(pages.notice(several, name)))
    for change in changes:
        warn(change, ConversionWarning)
    return pixels


def _flat(shape: Shape) -> tuple[int, ...]:
    """A shape without the axis of a single channel."""
    return shape[:2] if shape[2] == 1 else shape


def _each(given: Iterable[Any], first: int, work: Callable[[Any], Pixels]) -> list[Pixels]:
    """Images one by one; an error names the one that is to blame."""
    found = []
    for number, image in enumerate(given, first):
        with at(f"image {number}"):
            found.append(work(image))
    return found


def check_batch(batch: Any, expected: str) -> None:
    """Raises ImageError unless it is uint8 (n, h, w, c) of pictures that can be coded."""
    if not isinstance(batch, np.ndarray) or batch.dtype != np.uint8 or batch.ndim != 4:
        wrong = refusal(expected, batch)
        if isinstance(batch, np.ndarray) and batch.dtype == np.uint8 and batch.ndim == 3:
            wrong.advice = _BATCH_ADVICE
        raise wrong
    height, width = batch.shape[1:3]
    if not min(height, width):
        raise refusal(expected, batch)
    if max(height, width) > MAX_SIDE or height * width > MAX_PIXELS:
        limits = f"sides of at most {MAX_SIDE} and {MAX_PIXELS:,} pixels"
        raise ImageError(f"expected {limits}, found {width}x{height}")


def check_channels(shape: Shape, name: str) -> None:
    """Raises ImageShapeError, which names `name`, unless images (h, w, c) of an array are grey or RGB."""
    if shape[2] not in (1, 3):
        text = f"expected images (h, w), (h, w, 1) or (h, w, 3), found {shape}"
        advice = _channels_advice((1, *shape)) or "x[..., :3] takes three of the channels"
        raise ImageShapeError(text, where=name, advice=advice)


def check_alpha(size: tuple[int, int], most: int) -> None:
    """Raises ImageError when a picture with alpha (width, height) has too many rows or pixels."""
    width, height = size
    if height > MAX_SIDE // 2 or width * height > most:
        limits = f"at most {MAX_SIDE // 2:,} rows and {most:,} pixels with alpha"
        raise ImageError(f"expected an image of {limits}, found {width}x{height}")


def _channels_advice(shape: tuple[int, ...]) -> str:
    """What makes of an array of images one that has grey or RGB ones; nothing where that is not known."""
    if len(shape) == 4 and shape[1] in (1, 3) and min(shape[2:]) > max(_CHANNELS_ADVICE):
        return _AXES_ADVICE
    return _CHANNELS_ADVICE.get(shape[-1], "") if len(shape) in (3, 4) else ""


def refusal(expected: str, found: Any, sized: bool = False) -> ImageError:
    """The error for what is no such array of images, of one size or of any."""
    advice, kind = "", ImageError
    if isinstance(found, np.ndarray):
        if found.dtype == np.uint8 and found.ndim in (2, 3, 4) and found.size:
            kind = ImageShapeError  # these are pixels, and nothing else is wrong with them
        advice = FLOATS_ADVICE if found.dtype.kind == "f" else _channels_advice(found.shape)
        if kind is ImageShapeError and not advice:
            advice = _SIZED_ADVICE if sized else _LIST_ADVICE if found.ndim == 3 else ""
        if found.dtype.kind == "U":  # a path
            advice = "PIL.Image.open(path) or Codec.read(path) reads a file"
    return kind(f"expected {expected}, found {described(found)}", advice=advice)


def is_rows(value: object, kinds: str, elements: int) -> bool:
    """Whether it is an array (n, elements) of numbers of such kinds, as numpy has them."""
    if not isinstance(value, np.ndarray):
        return False
    return value.dtype.kind in kinds and value.ndim == 2 and value.shape[1] == elements


def described(value: object) -> str:
    """What messages call what was found: an array by dtype and shape."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    return type(value).__name__


def warn(text: str, category: type[Warning]) -> None:
    """A warning that names the line that called cvae, through however many functions of it."""
    frame, level = sys._getframe(), 1
    while frame.f_back and str(frame.f_globals.get("__name__")).split(".")[0] == "cvae":
        frame, level = frame.f_back, level + 1
    warnings.warn(text, category, level)


def _pixels(image: Image.Image, shape: Shape | None) -> NDArray[np.uint8]:
    """The pixels (h, w) or (h, w, 3) of an image of Pillow, which has to be of the shape, if any."""
    grey = Image.getmodebase(image.mode) == "L" if shape is None else shape[2] == 1
    images.check_pixels(image, "")
    wanted = "L" if grey else "RGB"
    with translated(
        ImageError, "the image is damaged", "", Exception
    ):  # Pillow's have no base class
        found = samples.samples_of(image)  # which a decoded image may no longer know
        image.load()
        turn = images.turn_of(image)
    if found.bits > 8:
        bits = f"{found.bits} bits a sample"
        text = f"expected an image of mode {wanted}, found {bits}, which would lose something"
        raise ImageShapeError(text, advice="Codec.read reduces them to 8")
    width, height = image.size[::-1] if turn and images.swaps_sides(turn) else image.size
    if shape is not None and shape[:2] != (height, width):
        text = f"expected {images.describe(shape)}, found {width}x{height} {image.mode}"
        raise ImageShapeError(text, advice=_READ_ADVICE)
    reading = Reading((height, width, 1 if grey else 3), "exact")
    try:
        picture = reading.picture(image, "")
    except ImageShapeError as error:
        text = f"expected an image of mode {wanted}, found {image.mode}, which would lose something"
        advice = f"image.convert({wanted!r}) converts it"
        if samples.flat(image, found, "#ffffff").transparent:
            advice = 'Codec.read with EncodeOptions(background="#ffffff") lays transparent parts on white'
        raise ImageShapeError(text, advice=advice) from error
    for change in picture.changes:
        warn(f"an image of Pillow: {change}", ConversionWarning)
    pixels = reading.pixels(picture)
    return pixels[..., 0] if grey else pixels
