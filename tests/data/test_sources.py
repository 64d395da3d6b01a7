"""Images from folders, arrays and archives, as a stream."""

from __future__ import annotations

import io
import os
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvae.data import files, places, sources
from cvae.data.contents import What, what_is
from cvae.data.reading import Reading
from cvae.data.sources import Batch, ListSource, Refuse, Source, cut, open_images, sources_at
from cvae.errors import CvaeError, DataError, ImageError, ImageShapeError

from ..conftest import blobs
from ..data.test_arrays import npy_claiming

SHAPE = (8, 8, 1)
READING = Reading(SHAPE, "exact")
FITTING = Reading(SHAPE, "stretch")


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels.reshape(pixels.shape[:2])).save(buffer, "PNG")
    return buffer.getvalue()


def all_of(source: Source, reading: Reading = READING, refuse: Refuse = None) -> Batch:
    parts = list(source.batches(reading, 2, refuse))
    names = [name for part in parts for name in part.names or []]
    sizes = [size for part in parts for size in part.sizes or []]
    return Batch(np.concatenate([part.pixels for part in parts]), names, sizes)


def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def test_a_folder_keeps_relative_names_and_their_order(tmp_path: Path) -> None:
    pixels = blobs(4)
    names = ["b.png", "deep/a.png", "deep/er/c.png", "z.png"]
    for name, image in zip(names, pixels, strict=True):
        files.write_bytes(tmp_path / name, png(image))
    (tmp_path / ".hidden.png").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("no image")
    found = all_of(sources_at(tmp_path)[0])
    assert found.names == names
    assert np.array_equal(found.pixels, pixels)


def test_a_folder_that_holds_itself_by_a_link_ends(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "x.png").write_bytes(png(blobs(1)[0]))
    assert all_of(sources_at(tmp_path)[0]).names == ["x.png"]


def test_bad_images_are_handed_to_whoever_takes_them(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("text")
    (tmp_path / "b.png").write_bytes(png(blobs(1)[0]))
    (tmp_path / "c.png").write_bytes(png(blobs(1, side=9)[0]))
    refused: list[CvaeError] = []
    found = all_of(sources_at(tmp_path)[0], refuse=refused.append)
    assert found.names == ["b.png"]
    assert [Path(str(error).split(":")[0]).name for error in refused] == ["a.png", "c.png"]
    with pytest.raises(ImageError, match=r"a\.png"):
        all_of(sources_at(tmp_path)[0])


def test_fitted_images_keep_their_sizes(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(png(np.zeros((20, 30), np.uint8)))
    found = all_of(ListSource(((tmp_path / "x.png", "x.png"),)), FITTING)
    assert found.sizes == [(30, 20)]
    assert found.pixels.shape == (1, *SHAPE)


@pytest.mark.parametrize("member", ["x_test", "images", "anything"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_the_images_of_an_npz_are_found(tmp_path: Path, member: str, save: object) -> None:
    path, pixels = tmp_path / "x.npz", blobs(3000)
    others = {} if member == "anything" else {"y_test": np.arange(3)}
    save(path, **{member: pixels[..., 0]}, **others)  # type: ignore[operator]
    source = sources.array_source(path)
    assert [len(part.pixels) for part in source.batches(READING)] == [1024, 1024, 952]
    assert np.array_equal(all_of(source).pixels, pixels)


def test_a_split_is_chosen_and_missing_ones_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, x_train=blobs(3), y_train=np.arange(3))
    assert len(all_of(sources.array_source(path, "train")).pixels) == 3
    with pytest.raises(DataError, match=r"x_test.*x_train, y_train"):
        sources.array_source(path)


def test_npy_files_are_streamed(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", blobs(5))
    assert np.array_equal(all_of(sources.array_source(tmp_path / "x.npy")).pixels, blobs(5))


def test_arrays_of_another_shape_are_refused_or_fitted(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((3, 20, 30, 3), np.uint8))
    source = sources.array_source(tmp_path / "x.npy")
    with pytest.raises(ImageShapeError, match="30x20 with 3 channels"):
        all_of(source)
    found = all_of(source, FITTING)
    assert found.pixels.shape == (3, *SHAPE)
    assert found.sizes == [(30, 20)] * 3


@pytest.mark.parametrize("shape", [(2, 70_000, 1), (2, 8, 8, 2), (1, 60_000, 1100)])
def test_arrays_that_cannot_be_fitted_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "x.npy", np.zeros(shape, np.uint8))
    with pytest.raises(ImageShapeError):
        all_of(sources.array_source(tmp_path / "x.npy"), FITTING)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text",
        npy_claiming((10**9, 8, 8)),
        npy_claiming((2, 8, 8)),
        npy_claiming((-1, 8, 8)),
        npy_claiming((1, 2), "<f8"),
        npy_claiming((16,)),
    ],
)
def test_hostile_arrays_are_a_data_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.npy").write_bytes(data)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("images.npy", data)
    for name in ("x.npy", "x.npz"):
        with pytest.raises(DataError, match=name):
            all_of(sources.array_source(tmp_path / name))


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_an_array_in_fortran_order_is_read_whole_or_refused_where_it_is_large(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = np.save if name == "x.npy" else np.savez
    save(tmp_path / name, np.asfortranarray(blobs(2000)))
    source = sources.array_source(tmp_path / name)
    assert np.array_equal(all_of(source).pixels, blobs(2000))
    part = sources.ArraySource(source.path, source.member, 3, 7)
    assert np.array_equal(all_of(part).pixels, blobs(2000)[3:7])
    monkeypatch.setattr("cvae.data.arrays._MAX_FORTRAN", 2000 * 64 - 1)
    with pytest.raises(DataError, match=r"C order, or at most 127,999 bytes"):
        all_of(source)


def test_damage_in_an_npz_is_noticed_by_its_check(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, images=blobs(3))
    data = bytearray(path.read_bytes())
    data[data.index(blobs(3).tobytes()) + 50] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="CRC"):
        all_of(sources.array_source(path))


def test_memory_does_not_grow_with_an_array(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, images=np.zeros((1 << 19, 8, 8), np.uint8))  # 32 MB
    tracemalloc.start()
    count = sum(len(part.pixels) for part in sources.array_source(path).batches(READING))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 1 << 19
    assert peak < 1 << 21


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_a_tar_is_read_from_a_pipe(mode: str) -> None:
    buffer, pixels = io.BytesIO(), blobs(3)
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        add(archive, "./deep/a.png", png(pixels[0]))
        add(archive, "notes.txt", b"no image")
        add(archive, "/../../etc/b.png", png(pixels[1]))
        add(archive, ".hidden/x.png", b"")
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        add(archive, "c" * 150 + ".png", png(pixels[2]))
    assert what_is("", buffer.getvalue()[:512]) is What.TAR
    read, write = os.pipe()
    os.write(write, buffer.getvalue()[:60000])
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        found = all_of(sources.TarSource(pipe, "stdin"))
    assert found.names == ["deep/a.png", "etc/b.png", "c" * 150 + ".png"]
    assert np.array_equal(found.pixels, pixels)


def test_every_place_is_opened_by_what_lies_there(tmp_path: Path) -> None:
    pixels = blobs(6)
    for number, name in enumerate(["a.png", "in/b.png", "in/c.png"]):
        files.write_bytes(tmp_path / name, png(pixels[number]))
    np.savez(tmp_path / "d.npz", x_train=pixels[3:5], x_test=blobs(1))
    with tarfile.open(tmp_path / "unnamed", "w") as archive:
        add(archive, "e.png", png(pixels[5]))
    items = [tmp_path / "a.png", str(tmp_path / "in"), tmp_path / "d.npz", tmp_path / "unnamed"]
    stream = open_images(items, READING, split="train", threads=2)
    assert stream.named
    found, names = stream.all()
    assert np.array_equal(found, pixels)
    assert names == ["a.png", "b.png", "c.png", "e.png"]
    numbered = open_images([tmp_path / "d.npz"], READING, split="train")
    assert not numbered.named
    assert numbered.all()[1] == ["0", "1"]


def test_a_pattern_finds_files_of_all_kinds(tmp_path: Path) -> None:
    pixels = blobs(4)
    for number, name in enumerate(["a.png", "b.png"]):
        files.write_bytes(tmp_path / name, png(pixels[number]))
    np.save(tmp_path / "c.npy", pixels[2:])
    (tmp_path / "d").mkdir()
    stream = open_images([f"{tmp_path}/*"], READING)
    assert np.array_equal(stream.all()[0], pixels)
    assert len(stream.sources) == 2


def test_what_is_missing_is_an_error_and_what_vanishes_is_skipped(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x\.png: there is no such file or folder"):
        open_images([tmp_path / "x.png"], READING)
    (tmp_path / "x.png").write_bytes(b"")
    refused: list[CvaeError] = []
    stream = open_images([tmp_path / "x.png"], READING, refuse=refused.append)
    (tmp_path / "x.png").unlink()
    assert not len(stream.all()[0])
    assert "x.png: cannot be read: No such file" in str(refused[0])


def test_images_of_their_own_sizes_come_in_batches_of_one_size(tmp_path: Path) -> None:
    sides = [8, 8, 9, 8]
    for number, side in enumerate(sides):
        (tmp_path / f"{number}.png").write_bytes(png(blobs(1, side=side)[0]))
    own = Reading((0, 0, 1), "own")
    batches = list(sources_at(tmp_path)[0].batches(own))
    assert [batch.pixels.shape for batch in batches] == [(2, 8, 8, 1), (1, 9, 9, 1), (1, 8, 8, 1)]
    np.save(tmp_path / "x.npy", np.zeros((2, 5, 6, 3), np.uint8))
    with pytest.raises(ImageShapeError, match="any size, grey, found 6x5 with 3 channels"):
        all_of(sources.array_source(tmp_path / "x.npy"), own)
    rgb = all_of(sources.array_source(tmp_path / "x.npy"), Reading((0, 0, 3), "own"))
    assert rgb.pixels.shape == (2, 5, 6, 3)
    np.save(tmp_path / "x.npy", blobs(2))
    grey = all_of(sources.array_source(tmp_path / "x.npy"), Reading((0, 0, 3), "any"))
    assert np.array_equal(grey.pixels, blobs(2))


def test_listed_files_are_cut_into_sources_of_one_kind_and_size(tmp_path: Path) -> None:
    for name in ["a.png", "b.png", "c.png", "e.tar", "f.jpg"]:
        (tmp_path / name).write_bytes(b"")
    np.save(tmp_path / "d.npy", blobs(5))
    found = list(places.locate(tmp_path).below())
    cuts = [(source, [file.name for file in of]) for source, of in cut(found, 2)]
    assert [of for _, of in cuts] == [
        ["a.png", "b.png"], ["c.png"], ["d.npy"], ["d.npy"], ["d.npy"], ["e.tar"], ["f.jpg"],
    ]  # fmt: skip
    rows = [source.rows for source, _ in cuts]
    assert rows == [(), (), (None, 0, 2), (None, 2, 4), (None, 4, 5), (), ()]
    assert len(list(cut(found))) == 4
