"""Decoded images to folders, archives and arrays."""

from __future__ import annotations

import io
import tarfile
import tracemalloc
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvae.data import sinks
from cvae.data.sinks import Decoded
from cvae.errors import OutputError

from ..conftest import blobs

SHAPE = (8, 8, 1)
PIXELS = blobs(4)
ALL = [(0, 4)]


def fill(
    output: Path | io.BytesIO,
    names: list[str] | None = None,
    sizes: list[tuple[int, int]] | None = None,
    force: bool = False,
) -> None:
    with sinks.open_sink(output, SHAPE, ALL, force=force, jobs=2) as sink:
        sink(Decoded(np.arange(4), PIXELS, names, sizes))


def listed(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_images_without_names_get_their_numbers(tmp_path: Path) -> None:
    fill(tmp_path / "out")
    assert listed(tmp_path / "out") == [f"{i:06d}.png" for i in range(4)]
    with Image.open(tmp_path / "out" / "000002.png") as image:
        assert np.array_equal(np.asarray(image), PIXELS[2, ..., 0])


def test_names_and_places_are_kept(tmp_path: Path) -> None:
    fill(tmp_path / "out", ["a.png", "deep/b.JPG", "", "deep/c"])
    assert listed(tmp_path / "out") == ["000002.png", "a.png", "deep/b.png", "deep/c.png"]


def test_no_two_images_go_to_one_file(tmp_path: Path) -> None:
    fill(tmp_path / "out", ["a.png", "a.jpg", "A.png", "a_000001.png"])
    assert len(listed(tmp_path / "out")) == 4


def test_a_file_and_a_folder_of_one_name_both_find_a_place(tmp_path: Path) -> None:
    names = ["a.png", "a.png/b.png", "c.PNG/d.png", "c.jpg"]
    fill(tmp_path / "out", names)
    assert listed(tmp_path / "out") == ["a.png", "a.png_/b.png", "c.PNG_/d.png", "c.png"]
    fill(tmp_path / "x.tar", names)
    with tarfile.open(tmp_path / "x.tar") as archive:
        archive.extractall(tmp_path / "from_tar", filter="data")
    assert listed(tmp_path / "from_tar") == listed(tmp_path / "out")


def test_names_of_one_look_go_to_two_files() -> None:
    buffer = io.BytesIO()
    forms = [unicodedata.normalize(form, "É/ñ.png") for form in ("NFC", "NFD")]
    fill(buffer, [*forms, forms[1].lower(), "b"])
    buffer.seek(0)
    with tarfile.open(fileobj=buffer) as archive:
        found = archive.getnames()
    assert found[0] == forms[0]
    assert len({unicodedata.normalize("NFC", name.lower()) for name in found}) == 4


def test_a_long_path_is_cut_to_its_end_wherever_the_folder_is(tmp_path: Path) -> None:
    folders = [f"{i:0100}" for i in range(40)]
    ends = ["photo.jpeg", "b.png", "b.tiff", "c"]
    fill(tmp_path / "out", ["/".join([*folders, end]) for end in ends])
    expected = ["b.png", "b_000002.png", "c.png", "photo.png"]
    assert listed(tmp_path / "out") == [f"{folders[-1]}/{file}" for file in expected]


ESCAPES = [
    "../../x.png", "/etc/passwd", "a/../../x", "C:\\Windows\\x.png", "..\\..\\x", "\\\\host\\share\\x",
    "con.png", "a/NUL", "COM1.tar.png", "x. . .", "...", "..", ".", "/", "a\0b", "a\nb.png", "~/x",
    "x" * 5000, "/".join("y" * 2000), "c:x.png", "aux .png", "\u202egnp.x", "é" * 200,
]  # fmt: skip


@pytest.mark.parametrize("name", ESCAPES)
def test_names_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    fill(tmp_path / "in" / "out", ["a.png", name, name, "b.png"])
    assert len(listed(tmp_path / "in" / "out")) == 4
    assert listed(tmp_path) == [f"in/out/{file}" for file in listed(tmp_path / "in" / "out")]


@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_arrays_hold_all_images(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    fill(path)
    loaded = np.load(path)
    images = loaded if suffix == ".npy" else loaded["images"]
    assert np.array_equal(images, PIXELS[..., 0])
    assert suffix == ".npy" or loaded.files == ["images"]


def test_an_npz_of_some_images_says_which(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    with sinks.open_sink(path, SHAPE, [(1, 3), (7, 9)]) as sink:
        sink(Decoded(np.array([1, 2, 7, 8]), PIXELS))
    assert np.load(path)["numbers"].tolist() == [1, 2, 7, 8]


def test_the_numbers_in_an_npz_take_no_memory(tmp_path: Path) -> None:
    path, count = tmp_path / "x.npz", 1_000_000
    ranges = [(1, 3), (7, count + 5)]
    pixels = np.zeros((count, 1, 1, 1), np.uint8)
    tracemalloc.start()
    try:
        with sinks.open_sink(path, (1, 1, 1), ranges) as sink:
            sink(Decoded(np.empty(0, np.int64), pixels))
        assert tracemalloc.get_traced_memory()[1] < count
    finally:
        tracemalloc.stop()
    numbers = np.load(path)["numbers"]
    assert numbers.dtype == "<i8"
    assert np.array_equal(numbers, [1, 2, *range(7, count + 5)])


def test_a_tar_needs_no_seeking_and_holds_names(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    names = ["a.png", "../b.png", "/c.png", "deep/d.png"]
    fill(buffer, names)
    fill(tmp_path / "x.tar", names)
    for file in (buffer, io.BytesIO((tmp_path / "x.tar").read_bytes())):
        file.seek(0)
        with tarfile.open(fileobj=file) as archive:
            assert archive.getnames() == ["a.png", "_/b.png", "c.png", "deep/d.png"]


def test_original_sizes_are_restored_in_files(tmp_path: Path) -> None:
    fill(tmp_path / "out", sizes=[(8, 8), (20, 30), (1, 1), (8, 9)])
    sizes = []
    for name in listed(tmp_path / "out"):
        with Image.open(tmp_path / "out" / name) as image:
            sizes.append(image.size)
    assert sizes == [(8, 8), (20, 30), (1, 1), (8, 9)]


@pytest.mark.parametrize("name", ["out", "x.npz", "x.npy", "x.tar"])
def test_an_error_leaves_nothing(tmp_path: Path, name: str) -> None:
    with (
        pytest.raises(RuntimeError),
        sinks.open_sink(tmp_path / name, SHAPE, ALL) as sink,
    ):
        sink(Decoded(np.arange(2), PIXELS[:2]))
        assert not (tmp_path / name).exists()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out", "x.npz", "x.npy", "x.tar"])
def test_nothing_is_overwritten_without_force(tmp_path: Path, name: str) -> None:
    fill(tmp_path / name)
    with pytest.raises(OutputError, match="exists already"):
        fill(tmp_path / name)
    fill(tmp_path / name, force=True)


def test_an_array_that_lacks_images_is_not_written(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match="missing"),
        sinks.open_sink(tmp_path / "x.npz", SHAPE, ALL) as sink,
    ):
        sink(Decoded(np.arange(2), PIXELS[:2]))
    assert list(tmp_path.iterdir()) == []


def test_one_image_may_become_one_file(tmp_path: Path) -> None:
    with sinks.open_sink(tmp_path / "x.bmp", SHAPE, [(3, 4)]) as sink:
        sink(Decoded(np.array([3]), PIXELS[3:]))
    with Image.open(tmp_path / "x.bmp") as image:
        assert image.format == "BMP"
    with (
        pytest.raises(OutputError, match="several"),
        sinks.open_sink(tmp_path / "y.png", SHAPE, ALL),
    ):
        pass
