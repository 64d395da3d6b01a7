"""What libraries print of odd pictures does not reach stderr: what matters is said by our own messages."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest
from PIL import Image

from ..conftest import photo, run_cvae

pytestmark = pytest.mark.usefixtures("workdir")

PICTURE = Image.fromarray(photo(28, 28, 1)[..., 0])


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def damaged(data: bytes, start: int = 8, length: int = 60) -> bytes:
    """With other bytes in place of some."""
    return (
        data[:start]
        + bytes(255 - value for value in data[start : start + length])
        + data[start + length :]
    )


def tiff(compression: str, image: Image.Image = PICTURE) -> bytes:
    return saved(image, "TIFF", compression=compression)


def many_samples() -> bytes:
    """A TIFF of grey pixels that claims twelve samples each."""
    data = bytearray(saved(PICTURE, "TIFF"))
    (start,) = struct.unpack_from("<I", data, 4)
    for entry in range(struct.unpack_from("<H", data, start)[0]):
        at = start + 2 + 12 * entry
        if struct.unpack_from("<H", data, at)[0] == 277:
            struct.pack_into("<HHIHH", data, at, 277, 3, 1, 12, 0)
    return bytes(data)


def transparent_palette() -> bytes:
    return saved(PICTURE.convert("P"), "PNG", transparency=bytes(range(200)))


def broken_exif() -> bytes:
    return saved(PICTURE, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x01\x02" * 20)


ODD = {
    "lzw.tif": damaged(tiff("tiff_lzw"), 10),
    "deflate.tif": damaged(tiff("tiff_adobe_deflate"), 10),
    "jpeg.tif": damaged(tiff("jpeg"), 200, 300),
    "fax.tif": damaged(tiff("group4", PICTURE.convert("1")), 8, 20),
    "packbits.tif": damaged(tiff("packbits"), 8, 200),
    "short.tif": tiff("tiff_lzw")[:300],
    "samples.tif": many_samples(),
    "damaged.jpg": damaged(saved(PICTURE, "JPEG"), 300, 40),
    "exif.jpg": broken_exif(),
    "palette.png": transparent_palette(),
    "half.webp": saved(PICTURE, "WEBP")[:60],
    "cut.gif": saved(PICTURE, "GIF")[:700],
}


@pytest.mark.parametrize("command", ["encode", "pack", "denoise"])
def test_odd_pictures_are_spoken_of_by_our_messages_alone(command: str) -> None:
    folder = Path("in")
    folder.mkdir()
    for name, data in ODD.items():
        (folder / name).write_bytes(data)
    PICTURE.save(folder / "good.png")
    output = "x.bin" if command == "pack" else "out/"
    model = "fashion-dae" if command == "denoise" else "mnist"
    found = run_cvae(command, folder, "-o", output, "-m", model, "--quiet", code=1)
    for line in found.stderr.decode().splitlines():
        assert line.startswith("cvae: error: "), line


def test_workers_are_as_quiet() -> None:
    folder = Path("in")
    folder.mkdir()
    for name, data in ODD.items():
        (folder / name).write_bytes(data)
    PICTURE.save(folder / "good.png")
    found = run_cvae(
        "pack", folder, "-o", "out/", "-m", "mnist", "--workers", "1", "--quiet", code=1
    )
    for line in found.stderr.decode().splitlines():
        assert line.startswith("cvae: error: "), line
