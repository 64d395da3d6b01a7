"""Of a file of several pages the first is taken and the others are counted, or all are."""

from __future__ import annotations

import io
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from cvae.data import pages
from cvae.data.lists import ListSource
from cvae.data.reading import Reading
from cvae.errors import CvaeError, Notice

from ..conftest import blobs

FORMS = ["TIFF", "GIF", "PNG", "WEBP", "MPO", *(["AVIF"] if features.check("avif") else [])]
READING = Reading((8, 8, 1), "exact")
FITTING = Reading((8, 8, 3), "stretch")


def stack(count: int, form: str = "TIFF") -> bytes:
    """Different pictures as one file; those of colour formats as RGB."""
    mode = "L" if form in ("TIFF", "GIF") else "RGB"
    frames = [Image.fromarray(pixels[..., 0]).convert(mode) for pixels in blobs(count)]
    buffer = io.BytesIO()
    Image.init()  # else it knows few formats
    frames[0].save(buffer, form, save_all=count > 1, append_images=frames[1:])
    return buffer.getvalue()


@pytest.mark.parametrize("form", FORMS)
def test_pages_are_counted(form: str) -> None:
    assert pages.count(stack(5, form)) == 5
    assert pages.count(stack(1, form)) == 1


def test_what_cannot_be_counted_is_one_page() -> None:
    assert pages.count(b"II*\0 text") == 1
    assert pages.count(b"") == 1
    assert pages.count(stack(3)[:-40]) >= 1


def test_the_first_page_is_taken_and_the_others_are_said(tmp_path: Path) -> None:
    (tmp_path / "x.tif").write_bytes(stack(5))
    said: list[CvaeError] = []
    source = ListSource([(tmp_path / "x.tif", "x.tif")])
    (batch,) = source.batches(READING, refuse=said.append)
    assert batch.names == ["x.tif"]
    assert np.array_equal(batch.pixels, blobs(5)[:1])
    (notice,) = said
    assert isinstance(notice, Notice)
    assert "x.tif: the first of 5 pages; `cvae pack --pages` takes all" in str(notice)


@pytest.mark.parametrize("form", FORMS)
def test_all_pages_come_in_order_below_the_files_name(tmp_path: Path, form: str) -> None:
    count = 2 if form == "MPO" else 12  # Pillow writes no more of such small ones
    (tmp_path / "x").write_bytes(stack(count, form))
    (tmp_path / "y.png").write_bytes(stack(1, "PNG"))
    files = [(tmp_path / name, name) for name in ("x", "y.png")]
    batches = list(ListSource(files).batches(FITTING, 2, paged=True))
    names = [name for batch in batches for name in batch.names or []]
    assert names == [f"x/{number:03}" for number in range(count)] + ["y.png"]
    assert sorted(names) == names
    found = np.concatenate([batch.pixels for batch in batches])[:count, ..., 0].astype(int)
    assert np.abs(found - blobs(count)[..., 0]).mean() < (
        1 if form in ("TIFF", "GIF", "PNG") else 20
    )


def test_pages_of_a_file_that_the_model_does_not_code_are_named_alone(tmp_path: Path) -> None:
    frames = [Image.new("L", size) for size in ((8, 8), (9, 9), (8, 8))]
    frames[0].save(tmp_path / "x.tif", save_all=True, append_images=frames[1:])
    said: list[CvaeError] = []
    source = ListSource([(tmp_path / "x.tif", "x.tif")])
    (batch,) = source.batches(READING, refuse=said.append, paged=True)
    assert batch.names == ["x.tif/000", "x.tif/002"]
    assert [str(error).split(": ")[0][-9:] for error in said] == ["x.tif/001"]


def test_a_damaged_page_is_named_and_those_before_it_are_taken(tmp_path: Path) -> None:
    data = bytearray(stack(3))
    with Image.open(io.BytesIO(data)) as image:
        image.seek(2)
        offset = image.tag_v2[273][0]
    del data[offset:]
    (tmp_path / "x.tif").write_bytes(data)
    said: list[CvaeError] = []
    batches = ListSource([(tmp_path / "x.tif", "x.tif")]).batches(
        READING, refuse=said.append, paged=True
    )
    names = [name for batch in batches for name in batch.names or []]
    assert names == ["x.tif/000", "x.tif/001"]
    assert [str(error).split(": ")[0][-9:] for error in said] == ["x.tif/002"]


def test_pages_that_a_header_only_claims_end(tmp_path: Path) -> None:
    data = bytearray(stack(3, "PNG"))
    at = data.index(b"acTL") + 4
    data[at : at + 4] = (1 << 30).to_bytes(4, "big")
    data[at + 8 : at + 12] = zlib.crc32(data[at - 4 : at + 8]).to_bytes(4, "big")
    (tmp_path / "x.png").write_bytes(data)
    said: list[CvaeError] = []
    source = ListSource([(tmp_path / "x.png", "x.png")])
    batches = source.batches(FITTING, refuse=said.append, paged=True)
    assert sum(len(batch.pixels) for batch in batches) == 3
    list(source.batches(FITTING, refuse=said.append))
    assert "the first of 10,000 pages or more" in said[-1].text


def test_many_pages_are_counted_in_little_time() -> None:
    frame = b"\x2c" + bytes(4) + b"\1\0\1\0\0\2\2\x44\1\0"
    gif = b"GIF89a" + b"\1\0\1\0" + b"\x80\0\0" + bytes(6) + frame * 2_000_000 + b";"
    started = time.process_time()
    assert pages.count(gif) == 10_000
    assert time.process_time() - started < 1


def test_the_file_of_a_page_is_known_by_its_name() -> None:
    assert pages.file_of("in/x.tif/004") == "in/x.tif"
    assert [pages.file_of(name) for name in ("x.tif", "004", "x/04", "x/y04", "x/٠٠٤")] == [""] * 5
