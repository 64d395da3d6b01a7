"""Images from folders, arrays and archives, as a stream."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvae.data import files, places, sources
from cvae.data.batches import Batch
from cvae.data.contents import What, what_is
from cvae.data.lists import ListSource
from cvae.data.reading import Reading
from cvae.data.sources import Refuse, Source, Which, cut, open_images, sources_at
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


def idx(pixels: np.ndarray, kind: int = 8) -> bytes:
    """An array in the format of MNIST."""
    shape = b"".join(side.to_bytes(4, "big") for side in pixels.shape)
    return bytes([0, 0, kind, pixels.ndim]) + shape + pixels.tobytes()


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_a_tar_is_read_from_a_pipe(mode: str) -> None:
    buffer, pixels = io.BytesIO(), blobs(3)
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        add(archive, "./deep/a.png", png(pixels[0]))
        add(archive, "notes.txt", b"no image")
        add(archive, "/../../etc/b.png", png(pixels[1]))
        add(archive, ".hidden/x.png", b"")
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
    stream = open_images(items, READING, which=Which("train"), threads=2)
    assert stream.named
    found, names = stream.all()
    assert np.array_equal(found, pixels)
    assert names == ["a.png", "b.png", "c.png", "e.png"]
    numbered = open_images([tmp_path / "d.npz"], READING, which=Which("train"))
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


def test_one_of_several_inputs_that_cannot_be_read_costs_itself_alone(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(blobs(1)[0]))
    (tmp_path / "b.npy").write_bytes(b"text")
    (tmp_path / "c.tar").write_bytes(b"text" * 200)
    np.save(tmp_path / "d.npy", np.zeros((1, 9, 9), np.uint8))
    names = ["b.npy", "a.png", "c.tar", "missing.npz", "d.npy"]
    refused: list[CvaeError] = []
    items = [tmp_path / name for name in names]
    assert open_images(items, READING, refuse=refused.append).all()[1] == ["a.png"]
    assert sorted(Path(error.where).name for error in refused) == [
        "b.npy", "c.tar", "d.npy", "missing.npz",
    ]  # fmt: skip
    for item in items[2:]:
        with pytest.raises(CvaeError):
            open_images([item], READING, refuse=refused.append).all()


@pytest.mark.parametrize("error", [ValueError("no such conversion"), MemoryError()])
def test_whatever_a_reader_raises_is_an_error_of_that_image(
    tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(png(blobs(1)[0]))
    before = Reading.pixels

    def pixels(self: Reading, picture: Image.Image) -> object:
        if not refused and read:
            read.clear()
            raise error
        read.append(picture)
        return before(self, picture)

    read: list[Image.Image] = []
    refused: list[CvaeError] = []
    monkeypatch.setattr(Reading, "pixels", pixels)
    batches = sources_at(tmp_path)[0].batches(READING, refuse=refused.append)
    assert [name for batch in batches for name in batch.names or []] == ["a.png", "c.png"]
    assert "b.png" in refused[0].where
    assert "no such conversion" in refused[0].text or "more memory" in refused[0].text


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
    for name in ["a.png", "b.png", "c.png", "e.tar", "f.jpg", "g.zip"]:
        (tmp_path / name).write_bytes(b"")
    np.save(tmp_path / "d.npy", blobs(5))
    found = list(places.locate(tmp_path).below())
    cuts = [(source, [file.name for file in of]) for source, of in cut(found, 2)]
    assert [of for _, of in cuts] == [
        ["a.png", "b.png"], ["c.png"], ["d.npy"], ["d.npy"], ["d.npy"], ["e.tar"], ["f.jpg"], ["g.zip"],
    ]  # fmt: skip
    rows = [source.rows for source, _ in cuts]
    assert rows == [(), (), (None, 0, 2), (None, 2, 4), (None, 4, 5), (), (), ()]
    assert len(list(cut(found))) == 5


@pytest.mark.parametrize(("shape", "kind"), [((10**15, 0, 8), "|u1"), ((10**15, 8, 8), "|V0")])
def test_rows_without_bytes_are_refused_however_many_are_claimed(
    tmp_path: Path, shape: tuple[int, ...], kind: str
) -> None:
    (tmp_path / "x.npy").write_bytes(npy_claiming(shape, kind))
    with pytest.raises(CvaeError, match=r"x\.npy: .*rows of no bytes"):
        list(cut(places.locate(tmp_path).below(), 4))


def test_listed_files_without_a_known_ending_are_known_by_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(idx(blobs(3)[..., 0]))
    with tarfile.open(tmp_path / "b.dat", "w") as archive:
        add(archive, "x.png", png(blobs(1)[0]))
    with zipfile.ZipFile(tmp_path / "c.cbz", "w") as pictures:
        pictures.writestr("y.png", png(blobs(1)[0]))
    (tmp_path / "d.PNG").write_bytes(png(blobs(1)[0]))
    found = [type(source).__name__ for source, _ in cut(places.locate(tmp_path).below())]
    assert found == ["ArraySource", "TarSource", "ZipSource", "ListSource"]
    assert len(open_images([f"{tmp_path}/*"], READING).all()[0]) == 6
