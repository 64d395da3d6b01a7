"""What the samples of an image file mean, and the 8-bit grey or RGB picture that they stand for.

Pillow's modes say how samples lie in memory. The file says more: how many of their bits count, whether
zero is white, which grey is transparent, which colours the numbers name. What is not known to be right
is refused.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor

from cvae.errors import ImageError

# Tags of TIFF 6.0.
_BITS, _COMPRESSION, _PHOTOMETRIC, _PLANAR, _FORMAT, _SUBSAMPLING = 258, 259, 262, 284, 339, 530
_FURTHER, _UNKNOWN, _MULTIPLIED = 338, 0, 1  # samples beyond those of the colours
_WHITE_IS_ZERO, _YCBCR, _CIELAB = 0, 6, 8
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_RAW = 1
_SEPARATE = 2  # a plane for each channel
_FLOATS = "samples are floats, of which black and white are unknown"
_AVIF_HEAD = 1 << 16  # bytes that hold what describes an AVIF, if it is not animated
# A large picture is converted in strips of so many pixels, beside the whole of it.
_STRIP = 1 << 20

Factors = tuple[int, int]  # by which width and height are divided


class Samples(NamedTuple):
    """What a file says of its samples."""

    bits: int = 8
    white_is_zero: bool = False  # and Pillow has left it so
    lost: str = ""  # what Pillow does not give back as it is, of samples of 8 bits


def colours_of(image: Image.Image) -> str:
    """The mode that an image has without transparency, in 8 bits: L, RGB or CMYK."""
    if image.mode == "CMYK":
        return "CMYK"
    return "L" if Image.getmodebase(image.mode) == "L" and image.mode != "F" else "RGB"


class Flat(NamedTuple):
    """A picture in mode L or RGB."""

    image: Image.Image
    transparent: bool  # parts were laid on the background


def samples_of(image: Image.Image) -> Samples:
    """What an opened file says of its samples. Raises ImageError when they may not be read right."""
    if image.format == "TIFF":
        return _of_tiff(image)
    if image.mode == "F":
        raise ImageError(_FLOATS)
    if image.format == "AVIF":
        return Samples(_bits_of_avif(image))
    if image.format == "PNG":
        if depth := re.search(r";(\d+)", str(_rawmode(image))):
            return Samples(int(depth[1]))
    elif image.format == "PPM":  # whose samples Pillow scales
        return Samples(16 if image.mode.startswith("I") or _top_of_ppm(image) > 255 else 8)
    return Samples(16 if image.mode.startswith("I") else 8)


def _rawmode(image: Any) -> str:
    """How the samples lie in the file, in Pillow's words; nothing when they are decoded."""
    return image.tile[0][3] if image.tile else ""


def _top_of_ppm(image: Any) -> int:
    """The largest value of a sample, where Pillow has to know it."""
    known = image.tile[0][3] if image.tile else None
    return known[1] if isinstance(known, tuple) and isinstance(known[-1], int) else 0


def _bits_of_avif(image: Any) -> int:
    """Pillow gives eight of them; how many there are is in the configuration of AV1 (its section 2.3)."""
    if image.fp is None:  # of a page after the first, which has been decoded
        return 8
    place = image.fp.tell()
    image.fp.seek(0)
    head, bits = image.fp.read(_AVIF_HEAD), 8
    image.fp.seek(place)
    for found in re.finditer(rb"av1C\x81.(.)", head, re.DOTALL):
        high, twelve = found[1][0] & 0x40, found[1][0] & 0x20
        bits = max(bits, 8 + 2 * bool(high) + 2 * bool(high and twelve))
    return bits


def _of_tiff(image: Any) -> Samples:
    tags = image.tag_v2
    bits, kinds = max(tags.get(_BITS, (1,))), set(tags.get(_FORMAT, (_UNSIGNED,)))
    colours, planes = tags.get(_PHOTOMETRIC, 0), tags.get(_PLANAR, 1)
    if _FLOAT in kinds:
        raise ImageError(_FLOATS)
    if _SIGNED in kinds:
        raise ImageError("samples are signed, of which black and white are unknown")
    if kinds != {_UNSIGNED} or bits > 16:
        raise ImageError(f"samples have {bits} bits, of which black and white are unknown")
    if colours == _CIELAB:
        raise ImageError("colours are CIELAB, expected grey, RGB or CMYK")
    if planes == _SEPARATE and bits > 8 and len(image.getbands()) > 1:
        raise ImageError(f"channels of {bits} bits lie in separate planes, expected them together")
    raw = tags.get(_COMPRESSION, _RAW) == _RAW
    if colours == _YCBCR and raw and tuple(tags.get(_SUBSAMPLING, (2, 2))) != (1, 1):
        raise ImageError("colours are subsampled without compression, expected JPEG in this TIFF")
    further = set(tags.get(_FURTHER, ()))
    lost = "a channel of no known meaning" if _UNKNOWN in further else ""
    if _MULTIPLIED in further:
        lost = "colours that are multiplied with their transparency"
    return Samples(bits, colours == _WHITE_IS_ZERO and image.mode.startswith("I"), lost)


def flat(
    image: Image.Image, samples: Samples, background: str, colours: Any = None,
    factors: Factors = (1, 1), keep: bool = False,
) -> Flat:  # fmt: skip
    """A decoded image in 8 bits, without transparency, its sides divided by the factors.

    Args:
        image: in any mode that `samples_of` passes.
        background: what transparent parts are laid on, `#rrggbb`.
        colours: a transform of Pillow's to sRGB from the image's own profile; see `profiles`.
        factors: cells of so many pixels become their mean.
        keep: transparency stays, as the fourth channel of an image in mode RGBA.
    """
    if keep and (kept := _transparent(image, samples)):
        return Flat(kept, True)
    width, height = image.size
    step = max(1, _STRIP // width // factors[1]) * factors[1]
    if step >= height:
        part = _flat(image, samples, background, colours)
        return Flat(_reduced(part.image, factors), part.transparent)
    whole, transparent = None, False
    for top in range(0, height, step):
        strip = image.crop((0, top, width, min(height, top + step)))
        part = _flat(strip, samples, background, colours)
        small, transparent = _reduced(part.image, factors), transparent or part.transparent
        if whole is None:
            sides = -(-width // factors[0]), -(-height // factors[1])
            whole = Image.new(small.mode, sides)
        elif whole.mode != small.mode:  # a grey picture on a colour that shows in few strips
            whole = whole.convert("RGB")
        whole.paste(small, (0, top // factors[1]))
    assert whole is not None
    return Flat(whole, transparent)


def _reduced(image: Image.Image, factors: Factors) -> Image.Image:
    return image if factors == (1, 1) else image.reduce(factors)


def _flat(image: Image.Image, samples: Samples, background: str, colours: Any) -> Flat:
    opaque, alpha = _eight_bits(image, samples)
    if opaque.mode not in ("L", "RGB", "CMYK") or (opaque.mode == "CMYK" and colours is None):
        opaque = opaque.convert("RGB")
    if colours is not None:
        grey = opaque.mode == "L"
        opaque = colours.apply(opaque)
        opaque = opaque.getchannel("G") if grey else opaque
    if alpha is None or alpha.getextrema() == (255, 255):
        return Flat(opaque, False)
    red, green, blue = ImageColor.getrgb(background)[:3]
    if opaque.mode == "L" and red == green == blue:
        ground = Image.new("L", opaque.size, red)
    else:
        opaque, ground = opaque.convert("RGB"), Image.new("RGB", opaque.size, background)
    return Flat(Image.composite(opaque, ground, alpha), True)


def _transparent(image: Image.Image, samples: Samples) -> Image.Image | None:
    """The image in mode RGBA; None where nothing of it is transparent."""
    opaque, alpha = _eight_bits(image, samples)
    if alpha is None or alpha.getextrema() == (255, 255):
        return None
    found = opaque.convert("RGB")
    found.putalpha(alpha)
    return found


def _eight_bits(image: Image.Image, samples: Samples) -> tuple[Image.Image, Image.Image | None]:
    """The image in mode L, RGB, CMYK or YCbCr, and what is transparent, in mode L, where the file says."""
    mode, key = image.mode, image.info.get("transparency")
    if mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() >> samples.bits:
            raise ImageError(f"expected samples of {samples.bits} bits, found others")
        grey = (values >> (samples.bits - 8)).astype(np.uint8)
        opaque = Image.fromarray(255 - grey if samples.white_is_zero else grey)
        return opaque, None if key is None else _mask(values != key)
    if mode == "1":
        opaque = image.convert("L")
    elif mode in ("P", "PA") or (mode not in ("L", "RGB") and image.has_transparency_data):
        if not image.has_transparency_data:
            return image.convert("RGB"), None
        image = image.convert("LA" if mode in ("LA", "La") else "RGBA")
        opaque = image.getchannel("L") if image.mode == "LA" else image.convert("RGB")
        return opaque, image.getchannel("A")
    else:
        opaque = image
    if isinstance(key, int) and opaque.mode == "L":
        # Pillow scales samples of 2 and 4 bits, but not the grey that is transparent.
        return opaque, _mask(np.asarray(opaque) != key * {2: 85, 4: 17}.get(samples.bits, 1))
    if isinstance(key, tuple) and opaque.mode == "RGB":
        # Of 16 bits, the upper eight are left.
        colour = [value >> (samples.bits - 8) for value in key]
        return opaque, _mask((np.asarray(opaque) != colour).any(axis=-1))
    return opaque, None


def _mask(opaque: NDArray[np.bool_]) -> Image.Image:
    return Image.fromarray(np.where(opaque, np.uint8(255), np.uint8(0)))
