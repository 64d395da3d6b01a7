"""Formats of image files by their first bytes, those that are not read included."""

from __future__ import annotations

import re

HEAD = 132  # bytes that tell a format

# By their first bytes; Pillow's names where it has one.
_STARTS = {
    b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG", b"GIF87a": "GIF", b"GIF89a": "GIF",
    b"II*\0": "TIFF", b"MM\0*": "TIFF", b"II+\0": "TIFF", b"MM\0+": "TIFF",
    b"\xff\x0a": "JPEG XL", b"\0\0\0\x0cJXL \r\n\x87\n": "JPEG XL",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG 2000", b"\xff\x4f\xff\x51": "JPEG 2000",
    b"8BPS": "PSD", b"v/1\x01": "OpenEXR", b"#?RADIANCE": "Radiance HDR", b"qoif": "QOI", b"DDS ": "DDS",
    b"gimp xcf ": "XCF", b"SIMPLE  =": "FITS", b"AT&TFORM": "DjVu", b"P7\n": "PAM", b"II\xbc\x01": "JPEG XR",
}  # fmt: skip
# ISO media files by their brand; most of them are films.
_BRANDS = {
    b"avif": "AVIF", b"avis": "AVIF", b"crx ": "CR3", b"mif1": "HEIC", b"msf1": "HEIC",
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"), "HEIC"),
}  # fmt: skip
# Two letters begin many a text, so what has to follow them counts, too.
_PNM = re.compile(rb"P[1-6f]\s\s*(#|-?[0-9])")
_BMP_HEADERS = {12, 16, 40, 52, 56, 64, 108, 124}  # bytes of the second header


def image_format(head: bytes) -> str:
    """The format of an image file whose first `HEAD` bytes these are; empty for other files."""
    for start, name in _STARTS.items():
        if head.startswith(start):
            return name
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if _PNM.match(head):
        return "PPM"
    if head[128:132] == b"DICM":
        return "DICOM"
    return _BRANDS.get(head[8:12], "") if head[4:8] == b"ftyp" else ""
