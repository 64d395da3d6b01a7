"""A picture in every kind of file that docs/reading.md lists, with what it should be read as."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageCms

Array = NDArray[Any]

GROUND = (64, 96, 128)  # behind what is transparent
WIDTH, HEIGHT = 12, 8
_Y, _X = np.mgrid[:HEIGHT, :WIDTH]
RAMP = (_X * 21 + _Y).astype(np.uint8)  # 0 to 238, in no symmetry
RGB = np.stack([RAMP, 255 - RAMP, (_Y * 30).astype(np.uint8)], -1)
ALPHA = np.where(_X < 4, 0, np.where(_X < 8, 128, 255)).astype(np.uint8)
CLEAR = RAMP[3, 5] == RAMP  # where a transparent grey or colour is


class Case(NamedTuple):
    data: bytes
    expected: Array | None  # uint8 (h, w) or (h, w, 3); None where it is refused
    tolerance: int = 0  # levels, of lossy formats and of rounding
    independent: bool = True  # the other reader knows such files, too
    refused: str = ""  # a part of the message


def as_rgb(pixels: Array) -> Array:
    return np.stack([pixels] * 3, -1) if pixels.ndim == 2 else pixels


def laid(pixels: Array, alpha: Array) -> Array:
    """Pixels on the ground."""
    share = alpha[..., np.newaxis] / 255
    return np.rint(as_rgb(pixels) * share + np.array(GROUND) * (1 - share)).astype(np.uint8)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(rows: list[bytes], bits: int, colours: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG file of packed rows; `chunks` come before the pixels."""
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, bits, colours, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = [(b"IHDR", header), *chunks, (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def packed(values: Array, bits: int) -> list[bytes]:
    """Rows of samples of 1 to 16 bits, the first in the upper bits."""
    rows = values.reshape(len(values), -1).astype(np.uint16)
    shifts = np.arange(bits - 1, -1, -1)
    return [np.packbits((row[:, np.newaxis] >> shifts & 1).ravel()).tobytes() for row in rows]


def _grey_png(bits: int, key: bool) -> Case:
    top = (1 << bits) - 1
    values = np.rint(RAMP / 255 * top).astype(np.uint16)
    # Pillow and others take the upper byte of 16 bits.
    eight = values >> 8 if bits == 16 else values * (255 // top)
    chunks = []
    expected = eight.astype(np.uint8)
    if key:
        grey = int(values[3, 5])
        chunks = [(b"tRNS", struct.pack(">H", grey))]
        expected = laid(expected, np.where(values == grey, 0, 255))
    return Case(png(packed(values, bits), bits, 0, *chunks), expected)


def _rgb_png(bits: int, key: bool = False) -> Case:
    values = RGB.astype(np.uint16) * (257 if bits == 16 else 1)
    chunks, expected = [], RGB
    if key:
        chunks = [(b"tRNS", struct.pack(">HHH", *values[3, 5].tolist()))]
        expected = laid(RGB, np.where((RGB[3, 5] == RGB).all(-1), 0, 255))
    return Case(png(packed(values, bits), bits, 2, *chunks), expected)


def _palette_png(bits: int, key: bool = False) -> Case:
    colours = np.random.default_rng(bits).integers(0, 256, (1 << bits, 3), np.uint8)
    values = (_X + 3 * _Y) % (1 << bits)
    chunks, expected = [(b"PLTE", colours.tobytes())], colours[values]
    if key:
        alphas = np.linspace(0, 255, 1 << bits).astype(np.uint8)
        chunks.append((b"tRNS", alphas.tobytes()))
        expected = laid(expected, alphas[values])
    return Case(png(packed(values, bits), bits, 3, *chunks), expected, int(key))


def _alpha_png(bits: int, colours: Array) -> Case:
    scale = 257 if bits == 16 else 1
    bands = as_rgb(colours)[..., : 1 if colours.ndim == 2 else 3]
    values = np.concatenate([bands, ALPHA[..., np.newaxis]], -1).astype(np.uint16) * scale
    kind = 4 if colours.ndim == 2 else 6
    return Case(png(packed(values, bits), bits, kind), laid(colours, ALPHA), 1)


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def _tiff(values: Array, **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, metadata=None, **options)
    return buffer.getvalue()


def raw_tiff(
    rows: bytes, bits: tuple[int, ...], photometric: int, *more: tuple[int, int, tuple[int, ...]],
    order: str = "<",
) -> bytes:  # fmt: skip
    """An uncompressed TIFF file; further tags are (number, type, values)."""
    tags = {256: (3, (WIDTH,)), 257: (3, (HEIGHT,)), 258: (3, bits), 259: (3, (1,)), 262: (3, (photometric,)),
            277: (3, (len(bits),)), 278: (3, (HEIGHT,)), 279: (4, (len(rows),))}  # fmt: skip
    tags |= {number: (kind, values) for number, kind, values in more}
    tags[273] = 4, (0,)
    sizes = {3: "H", 4: "I"}
    start = 8 + 2 + 12 * len(tags) + 4
    long = {n: struct.pack(f"{order}{len(v)}{sizes[k]}", *v) for n, (k, v) in tags.items()}
    place, places = start, {}
    for number, data in long.items():
        if len(data) > 4:
            places[number], place = place, place + len(data) + len(data) % 2
    tags[273] = 4, (place,)
    long[273] = struct.pack(f"{order}I", place)
    head = b"II*\0" if order == "<" else b"MM\0*"
    out = head + struct.pack(f"{order}IH", 8, len(tags))
    for number, (kind, values) in sorted(tags.items()):
        field = (
            struct.pack(f"{order}I", places[number])
            if number in places
            else long[number].ljust(4, b"\0")
        )
        out += struct.pack(f"{order}HHI", number, kind, len(values)) + field
    out += b"\0\0\0\0"
    for number in places:
        out += long[number] + b"\0" * (len(long[number]) % 2)
    return out + rows


def _bits_tiff(bits: int, photometric: int, order: str = "<") -> Case:
    top = (1 << bits) - 1
    values = np.rint(RAMP / 255 * top).astype(np.uint16)
    shown = top - values if photometric == 0 else values
    eight = (shown >> (bits - 8) if bits > 8 else shown * (255 // top)).astype(np.uint8)
    rows = values.astype(f"{order}u2").tobytes() if bits == 16 else b"".join(packed(values, bits))
    # The other reader knows no 12 bits.
    return Case(raw_tiff(rows, (bits,), photometric, order=order), eight, 0, bits != 12)


def swapped_profile() -> bytes:
    """sRGB in which red's colour is named green and the other way round: a profile that shows."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack_from(">I", data, 128)[0]
    entries = {bytes(data[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(count)}
    red, green = entries[b"rXYZ"], entries[b"gXYZ"]
    size = slice(4, 12)
    first, second = (data[at:][size] for at in (red, green))
    data[red + 4 : red + 12], data[green + 4 : green + 12] = second, first
    return bytes(data)


def _ppm(magic: str, top: int, values: Array) -> bytes:
    head = f"{magic}\n{WIDTH} {HEIGHT}\n{top}\n".encode()
    return head + values.astype(">u2" if top > 255 else np.uint8).tobytes()


def _lossy(kind: str, pixels: Array, tolerance: int, **options: Any) -> Case:
    return Case(_saved(Image.fromarray(pixels), kind, **options), pixels, tolerance)


def _rotated() -> Case:
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = Image.fromarray(SMOOTH).transpose(Image.Transpose.ROTATE_90)
    return Case(_saved(lying, "JPEG", quality=95, subsampling=0, exif=exif), SMOOTH, 6)


SMOOTH = np.stack([(_X * 9 + 60), (_Y * 9 + 60), np.full_like(_X, 128)], -1).astype(np.uint8)
_RGBA = np.dstack([RGB, ALPHA])
_CMYK = np.dstack([255 - RGB, np.zeros_like(RAMP)])
_SECOND = Image.fromarray(255 - RGB)


def _animated(kind: str, **options: Any) -> Case:
    image = Image.fromarray(RGB)
    return Case(
        _saved(image, kind, save_all=True, append_images=[_SECOND], **options),
        np.asarray(image.quantize(256).convert("RGB")) if kind == "GIF" else RGB,
        24 if kind == "GIF" else 0,
    )


def _transparent_gif() -> Case:
    image = Image.fromarray(((_X + _Y) % 4).astype(np.uint8), "P")
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]], np.uint8)
    image.putpalette(colours.tobytes())
    values = (_X + _Y) % 4
    return Case(
        _saved(image, "GIF", transparency=2), laid(colours[values], np.where(values == 2, 0, 255))
    )


def _bmp(bits: int) -> Case:
    if bits == 1:
        image = Image.fromarray(RAMP > 100)
        return Case(_saved(image, "BMP"), np.where(RAMP > 100, 255, 0).astype(np.uint8), 0, False)
    if bits == 8:
        return Case(_saved(Image.fromarray(RAMP), "BMP"), RAMP, 0, False)
    return Case(_saved(Image.fromarray(RGB), "BMP"), RGB, 0, False)


FLOATS, SIGNED = "samples are floats", "samples are signed"
CASES: dict[str, Callable[[], Case]] = {
    **{f"PNG grey {b}": lambda b=b: _grey_png(b, False) for b in (1, 2, 4, 8, 16)},  # type: ignore[misc]
    **{f"PNG grey {b}, tRNS": lambda b=b: _grey_png(b, True) for b in (1, 2, 4, 8, 16)},  # type: ignore[misc]
    **{f"PNG RGB {b}": lambda b=b: _rgb_png(b) for b in (8, 16)},  # type: ignore[misc]
    **{f"PNG RGB {b}, tRNS": lambda b=b: _rgb_png(b, True) for b in (8, 16)},  # type: ignore[misc]
    **{f"PNG palette {b}": lambda b=b: _palette_png(b) for b in (1, 2, 4, 8)},  # type: ignore[misc]
    **{f"PNG palette {b}, tRNS": lambda b=b: _palette_png(b, True) for b in (1, 2, 4, 8)},  # type: ignore[misc]
    **{f"PNG grey {b}, alpha": lambda b=b: _alpha_png(b, RAMP) for b in (8, 16)},  # type: ignore[misc]
    **{f"PNG RGB {b}, alpha": lambda b=b: _alpha_png(b, RGB) for b in (8, 16)},  # type: ignore[misc]
    "PNG animated": lambda: _animated("PNG"),
    "PNG RGB 8, profile": lambda: Case(
        _saved(Image.fromarray(RGB), "PNG", icc_profile=swapped_profile()),
        RGB[..., [1, 0, 2]], 3,
    ),
    "PNG RGB 8, damaged profile": lambda: Case(
        _saved(Image.fromarray(RGB), "PNG", icc_profile=b"no profile" * 30), RGB, 0, False
    ),
    **{f"TIFF grey {b}": lambda b=b: _bits_tiff(b, 1) for b in (1, 2, 4, 8, 12, 16)},  # type: ignore[misc]
    **{f"TIFF grey {b}, white is 0": lambda b=b: _bits_tiff(b, 0) for b in (1, 2, 4, 8, 16)},  # type: ignore[misc]
    "TIFF grey 16, big-endian": lambda: _bits_tiff(16, 1, ">"),
    "TIFF grey 8 signed": lambda: Case(_tiff(RAMP.view(np.int8)), None, refused=SIGNED),
    "TIFF grey 16 signed": lambda: Case(_tiff(RAMP.astype(np.int16)), None, refused=SIGNED),
    "TIFF grey 32": lambda: Case(_tiff(RAMP.astype(np.uint32)), None, refused="samples have 32 bits"),
    "TIFF grey 32 signed": lambda: Case(_tiff(RAMP.astype(np.int32)), None, refused=SIGNED),
    "TIFF grey float": lambda: Case(_tiff(RAMP / np.float32(255)), None, refused=FLOATS),
    "TIFF RGB 8": lambda: Case(_tiff(RGB, photometric="rgb"), RGB),
    "TIFF RGB 8, planes": lambda: Case(
        _tiff(np.moveaxis(RGB, -1, 0), photometric="rgb", planarconfig="separate"), RGB
    ),
    "TIFF RGB 16": lambda: Case(_tiff(RGB.astype(np.uint16) * 257, photometric="rgb"), RGB),
    "TIFF RGB 16, planes": lambda: Case(
        _tiff(np.moveaxis(RGB, -1, 0).astype(np.uint16) * 257, photometric="rgb", planarconfig="separate"),
        None, refused="lie in separate planes",
    ),
    "TIFF RGB 8, alpha": lambda: Case(
        _tiff(_RGBA, photometric="rgb", extrasamples=["unassalpha"]), laid(RGB, ALPHA), 1
    ),
    "TIFF RGB 16, alpha": lambda: Case(
        _tiff(_RGBA.astype(np.uint16) * 257, photometric="rgb", extrasamples=["unassalpha"]),
        laid(RGB, ALPHA), 1,
    ),
    "TIFF CMYK 8": lambda: Case(_tiff(_CMYK, photometric="separated"), RGB, 0, False),
    "TIFF CIELAB": lambda: Case(
        _tiff(RGB, photometric="cielab"), None, refused="colours are CIELAB"
    ),
    "TIFF YCbCr, JPEG": lambda: _lossy("TIFF", SMOOTH, 6, compression="jpeg", quality=95),
    "TIFF deflated": lambda: _lossy("TIFF", RGB, 0, compression="tiff_adobe_deflate"),
    "TIFF lying": lambda: Case(
        _saved(Image.fromarray(RGB).transpose(Image.Transpose.ROTATE_90), "TIFF", tiffinfo={274: 6}), RGB
    ),
    "TIFF of pages": lambda: _animated("TIFF"),
    "JPEG grey": lambda: _lossy("JPEG", SMOOTH[..., 0], 6, quality=95),
    "JPEG RGB": lambda: _lossy("JPEG", SMOOTH, 6, quality=95, subsampling=0),
    "JPEG RGB, progressive": lambda: _lossy("JPEG", SMOOTH, 6, quality=95, subsampling=0, progressive=True),
    "JPEG CMYK": lambda: Case(
        _saved(Image.fromarray(np.dstack([255 - SMOOTH, 0 * RAMP]), "CMYK"), "JPEG", quality=95),
        SMOOTH, 8, False,
    ),
    "JPEG lying": _rotated,
    "WebP RGB": lambda: _lossy("WEBP", SMOOTH, 12, quality=95),
    "WebP RGB, lossless": lambda: _lossy("WEBP", RGB, 0, lossless=True),
    "WebP RGB, alpha": lambda: Case(
        _saved(Image.fromarray(_RGBA), "WEBP", lossless=True, exact=True), laid(RGB, ALPHA), 1
    ),
    "WebP animated": lambda: _animated("WEBP", lossless=True),
    "AVIF RGB": lambda: _lossy("AVIF", SMOOTH, 12, quality=95),
    "AVIF RGB, alpha": lambda: Case(
        _saved(Image.fromarray(np.dstack([SMOOTH, ALPHA])), "AVIF", quality=100), laid(SMOOTH, ALPHA), 12
    ),
    "GIF": _transparent_gif,
    "GIF animated": lambda: _animated("GIF"),
    **{f"BMP {b}": lambda b=b: _bmp(b) for b in (1, 8, 24)},  # type: ignore[misc]
    "PBM": lambda: Case(
        f"P4\n{WIDTH} {HEIGHT}\n".encode() + b"".join(packed((RAMP <= 100).astype(np.uint16), 1)),
        np.where(RAMP > 100, 255, 0).astype(np.uint8),
    ),
    "PGM 8": lambda: Case(_ppm("P5", 255, RAMP), RAMP),
    "PGM of 100 levels": lambda: Case(
        _ppm("P5", 100, RAMP // 3), np.rint(RAMP // 3 / 100 * 255).astype(np.uint8), 1, False
    ),
    "PGM 16": lambda: Case(_ppm("P5", 65535, RAMP.astype(np.uint16) * 257), RAMP),
    "PPM 8": lambda: Case(_ppm("P6", 255, RGB), RGB),
    "PPM 16": lambda: Case(_ppm("P6", 65535, RGB.astype(np.uint16) * 257), RGB),
    "PFM": lambda: Case(
        f"Pf\n{WIDTH} {HEIGHT}\n-1.0\n".encode() + (RAMP / np.float32(255)).tobytes(),
        None, refused=FLOATS,
    ),
}  # fmt: skip
