"""Tar archives as hostile or damaged input: nothing is lost without a word, nothing takes much memory."""

from __future__ import annotations

import gzip
import io
import tarfile
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cvae.data import sources
from cvae.data.reading import Reading
from cvae.data.sources import Batch, TarSource
from cvae.errors import CvaeError, DataError

from ..conftest import blobs
from ..data.test_sources import READING, add, all_of, png

MODES = ["w:", "w:gz", "w:bz2", "w:xz"]


def archive_of(count: int, mode: str = "w:") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for number, pixels in enumerate(blobs(count)):
            add(archive, f"{number}.png", png(pixels))
    return buffer.getvalue()


def read(data: bytes, reading: Reading = READING) -> Batch:
    return all_of(TarSource(io.BytesIO(data), "x.tar"), reading)


def header(kind: bytes, data: bytes) -> bytes:
    """A tar header of a kind, with what belongs to it."""
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, len(data)
    return info.tobuf() + data + bytes(-len(data) % tarfile.BLOCKSIZE)


@contextmanager
def peak_below(limit: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < limit


@pytest.mark.parametrize("mode", MODES)
def test_an_archive_is_read_whatever_it_is_compressed_with(mode: str) -> None:
    assert np.array_equal(read(archive_of(5, mode)).pixels, blobs(5))


@pytest.mark.parametrize("mode", MODES)
def test_every_cut_is_noticed(mode: str) -> None:
    data = archive_of(5, mode)
    # Of a plain archive the last zeros only fill it up.
    needed = len(data.rstrip(b"\0")) + tarfile.BLOCKSIZE if mode == "w:" else len(data) - 1
    for cut in {*range(0, needed, 97), *range(0, needed, tarfile.BLOCKSIZE), needed - 1}:
        with pytest.raises(DataError, match=r"x\.tar"):
            read(data[:cut])


@pytest.mark.parametrize("mode", MODES[1:])
def test_the_check_of_a_compressed_archive_is_looked_at(mode: str) -> None:
    data = bytearray(archive_of(5, mode))
    data[-6] ^= 1
    with pytest.raises(DataError, match=r"x\.tar: (the archive is damaged|expected a tar archive)"):
        read(bytes(data))


@pytest.mark.parametrize("change", ["byte", "zeros"])
def test_a_damaged_header_in_the_middle_is_not_the_end(change: str) -> None:
    data = bytearray(archive_of(5))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        at = archive.getmember("3.png").offset
    if change == "byte":
        data[at] ^= 1
    else:
        data[at : at + tarfile.BLOCKSIZE] = bytes(tarfile.BLOCKSIZE)
    with pytest.raises(DataError, match="the archive is damaged behind 3 members"):
        read(bytes(data))


def test_other_files_are_no_archives(tmp_path: Path) -> None:
    for bad in (b"", b"text" * 300, b"\x1f\x8b\x08\x04" + bytes(6), b"\x1f\x8b", b"BZh" * 200):
        with pytest.raises(DataError, match=r"x\.tar: expected a tar archive"):
            read(bad)
    with pytest.raises(DataError, match="cannot be read: No such file"):
        all_of(TarSource(tmp_path / "no.tar", "no.tar"))


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_that_unpacks_to_much_is_refused(kind: bytes) -> None:
    bomb = gzip.compress(header(kind, bytes(1 << 26)), 1)
    with peak_below(1 << 23), pytest.raises(DataError, match="a header of"):
        read(bomb)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_many_headers_in_a_row_are_refused(kind: bytes) -> None:
    with pytest.raises(DataError, match="more than 8 headers"):
        read(header(kind, b"5 a=\n" if kind == tarfile.XHDTYPE else b"name") * 1000)


def test_headers_for_all_members_do_not_pile_up() -> None:
    data = archive_of(1).rstrip(b"\0")
    member = data + bytes(-len(data) % tarfile.BLOCKSIZE)
    many = b"".join(
        header(tarfile.XGLTYPE, f"500000 k{i}=".encode().ljust(499_999, b"v") + b"\n") + member
        for i in range(40)
    )
    with peak_below(1 << 23), pytest.raises(DataError, match="a header of"):
        read(gzip.compress(many, 1))


@pytest.mark.parametrize(
    "pax",
    [
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "x.png"},
        {"GNU.sparse.size": "1048576", "GNU.sparse.map": "0,512"},
        {"GNU.sparse.size": "1048576", "GNU.sparse.offset": "0", "GNU.sparse.numbytes": "512"},
        {},
    ],
)
def test_sparse_members_are_refused(pax: dict[str, str]) -> None:
    info = tarfile.TarInfo("x.png")
    info.pax_headers, info.size = pax, 1024
    info.type = info.type if pax else tarfile.GNUTYPE_SPARSE
    start = info.tobuf(tarfile.PAX_FORMAT) if pax else info.tobuf()
    with pytest.raises(DataError, match="sparse"):
        read(start + b"9\n" * 512 + bytes(10240))


def test_images_that_are_left_out_hold_no_memory() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        for number in range(12):
            add(archive, f"{number}.png", bytes(1 << 23))
    refused: list[CvaeError] = []
    source: Any = sources.TarSource(io.BytesIO(buffer.getvalue()), "x.tar")
    with peak_below(6 << 23):
        assert not list(source.batches(READING, 2, refused.append))
    assert len(refused) == 12
