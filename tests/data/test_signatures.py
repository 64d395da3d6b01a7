"""Formats of image files are known by their first bytes, texts and others are not taken for them."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from cvae.data.images import FORMATS
from cvae.data.signatures import HEAD, image_format


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
def test_what_pillow_writes_of_the_formats_that_are_read_is_known(name: str, mode: str) -> None:
    buffer = io.BytesIO()
    Image.new(mode, (3, 2)).save(buffer, name)
    assert image_format(buffer.getvalue()[:HEAD]) == name


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "AVIF"),
        (b"\xff\x0a\xfa\x7f", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"8BPS\0\x01", "PSD"),
        (b"v/1\x01\x02", "OpenEXR"),
        (bytes(128) + b"DICM", "DICOM"),
        (b"P5\n# made by hand\n28 28 255\n", "PPM"),
        (b"Pf 28 28 -1.0\n", "PPM"),
        (b"II+\0\x08\0", "TIFF"),
    ],
)
def test_formats_are_known_by_their_first_bytes(head: bytes, name: str) -> None:
    assert image_format(head) == name


@pytest.mark.parametrize(
    "head",
    [
        b"", b"P", b"P1", b"BM", b"BMW and others: prices", b"P1 is first, P2 comes after it",
        b"P5js sketches", b"GIF is a format", b"MM. Smith", b"{}", b"PK\x03\x04", b"\x93NUMPY\x01\0",
        b"\0\0\0\x20ftypisom\0\0\0\0", b"RIFF\x24\0\0\0WAVEfmt ",
    ],
)  # fmt: skip
def test_texts_films_and_archives_are_no_images(head: bytes) -> None:
    assert image_format(head) == ""
