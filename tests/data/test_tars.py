"""Tar archives as hostile or damaged input: nothing is lost without a word, nothing takes much memory."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cvae.data import sources, tars
from cvae.data.batches import Batch
from cvae.data.reading import Reading
from cvae.data.sources import TarSource
from cvae.errors import CvaeError, DataError, ImageError, Notice, PassedOver

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


def linked(archive: tarfile.TarFile, name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    archive.addfile(info)


def archive_of_links() -> bytes:
    """Two images, with links of all kinds to the first and to the second."""
    buffer, pixels = io.BytesIO(), blobs(2)
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        linked(archive, "in/ahead.png", "../in/b.png")
        add(archive, "in/a.png", png(pixels[0]))
        linked(archive, "in/hard.png", "in/a.png", tarfile.LNKTYPE)
        linked(archive, "soft.png", "in/a.png")
        linked(archive, "in/again", "hard.png")
        add(archive, "in/b.png", png(pixels[1]))
    return buffer.getvalue()


LINKED = {
    "in/ahead.png": 1,
    "in/a.png": 0,
    "in/hard.png": 0,
    "soft.png": 0,
    "in/again": 0,
    "in/b.png": 1,
}


@pytest.mark.parametrize("place", ["file", "stream"])
def test_links_give_the_images_that_they_lead_to(tmp_path: Path, place: str) -> None:
    data = archive_of_links()
    (tmp_path / "x.tar").write_bytes(data)
    file: Any = tmp_path / "x.tar" if place == "file" else io.BytesIO(data)
    found = all_of(TarSource(file, "x.tar"))
    assert sorted(found.names or []) == sorted(LINKED)
    for name, pixels in zip(found.names or [], found.pixels, strict=True):
        assert np.array_equal(pixels, blobs(2)[LINKED[name]]), name


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
@pytest.mark.parametrize("target", ["gone.png", "/etc/passwd", "../a.png", "loop.png", "link.png"])
def test_links_that_lead_nowhere_are_named_and_the_images_come(
    tmp_path: Path, kind: bytes, target: str
) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        linked(archive, "loop.png", "link.png", kind)
        linked(archive, "link.png", target, kind)
        add(archive, "ok.png", png(blobs(1)[0]))
    refused: list[CvaeError] = []
    found = all_of(TarSource(tmp_path / "x.tar", "x.tar"), refuse=refused.append)
    assert found.names == ["ok.png"]
    assert {error.where for error in refused} == {"x.tar: loop.png", "x.tar: link.png"}
    assert all("which the archive does not hold" in error.text for error in refused)


def test_a_link_to_a_folder_is_left_out_and_said(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        add(archive, "in/a.png", png(blobs(1)[0]))
        linked(archive, "again", "in")
    said: list[CvaeError] = []
    assert all_of(TarSource(tmp_path / "x.tar", "x.tar"), refuse=said.append).names == ["in/a.png"]
    assert isinstance(said[0], Notice)
    assert said[0].where == "x.tar: again"


def test_what_a_stream_does_not_keep_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tars.members, "__defaults__", (None, None, 100))
    refused: list[CvaeError] = []
    found = all_of(TarSource(io.BytesIO(archive_of_links()), "stdin"), refuse=refused.append)
    assert found.names == ["in/a.png", "in/b.png"]
    assert len(refused) == 4
    assert all("not kept of a stream" in error.text for error in refused)


@pytest.mark.parametrize("mode", MODES)
def test_archives_behind_each_other_are_read(mode: str) -> None:
    parts = [archive_of(5, mode), archive_of(3, mode), archive_of(1, mode)]
    found = read(b"".join(parts))
    assert np.array_equal(found.pixels, np.concatenate([blobs(5), blobs(3), blobs(1)]))


def test_what_follows_an_archive_and_is_none_is_said() -> None:
    said: list[CvaeError] = []
    source = TarSource(io.BytesIO(archive_of(2) + b"text" * 200), "x.tar")
    assert np.array_equal(all_of(source, refuse=said.append).pixels, blobs(2))
    assert isinstance(said[0], Notice)
    assert "what follows the end" in said[0].text


@pytest.mark.parametrize("kind", [tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE])
def test_devices_and_pipes_are_named(kind: bytes) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        linked(archive, "odd.png", "", kind)
        add(archive, "ok.png", png(blobs(1)[0]))
    refused: list[CvaeError] = []
    source = TarSource(io.BytesIO(buffer.getvalue()), "x.tar")
    assert all_of(source, refuse=refused.append).names == ["ok.png"]
    assert "x.tar: odd.png: is a device or a pipe" in str(refused[0])


def test_members_are_images_by_what_they_are_and_the_others_are_counted() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        add(archive, "notes.txt", b"no image")
        add(archive, "a.dat", png(blobs(1)[0]))
        add(archive, "b.heic", b"\0\0\0\x18ftypheic" + bytes(40))
        add(archive, ".hidden", png(blobs(1)[0]))
    said: list[CvaeError] = []
    source = TarSource(io.BytesIO(buffer.getvalue()), "x.tar")
    assert all_of(source, refuse=said.append).names == ["a.dat"]
    assert [(type(error), error.where) for error in said] == [
        (PassedOver, "x.tar: notes.txt"),
        (ImageError, "x.tar: b.heic"),
    ]
    assert "found HEIC, a format that is not read" in said[1].text


def test_an_archive_that_unpacks_to_far_more_than_its_size_is_refused() -> None:
    info = tarfile.TarInfo("x.png")
    info.size = 1 << 33
    packer, data = bz2.BZ2Compressor(1), bytearray()
    data += packer.compress(info.tobuf())
    for _ in range(70):
        data += packer.compress(bytes(1 << 22))
    data += packer.flush()
    with peak_below(1 << 24), pytest.raises(DataError, match="times its size"):
        list(TarSource(io.BytesIO(bytes(data)), "x.tar").batches(READING, refuse=lambda _: None))


def test_a_dictionary_of_a_gigabyte_is_refused() -> None:
    large = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 29}]
    data = bytearray(lzma.compress(archive_of(1), filters=large))
    with peak_below(1 << 24), pytest.raises(DataError, match=r"[Mm]emory"):
        read(bytes(data))


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
