"""Images from arrays: which of a file, their layout, and files that claim what they do not hold."""

from __future__ import annotations

import gzip
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvae.data import places, sources
from cvae.data.sources import Which, cut, open_images, sources_at
from cvae.errors import DataError, ImageShapeError

from ..conftest import blobs
from ..data.test_arrays import npy_claiming
from ..data.test_sources import FITTING, READING, SHAPE, all_of, idx


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
    assert len(all_of(sources.array_source(path, Which("train"))).pixels) == 3
    with pytest.raises(DataError, match=r"x_test.*x_train, y_train; --split train .*, --key NAME"):
        sources.array_source(path)


@pytest.mark.parametrize(
    ("arrays", "which", "found"),
    [
        ({"images": 3, "numbers": None}, Which(), "images"),
        ({"images": 3, "x_test": 3}, Which(), "x_test"),
        ({"images": 3, "x_train": 3}, Which(default="train"), "x_train"),
        ({"images": 3, "x_test": 3}, Which(default="train"), "images"),
        ({"pictures": 4, "labels": None}, Which(), "pictures"),
        ({"train_images": 3, "test_images": 3}, Which(key="test_images"), "test_images"),
        ({"x_test": 3, "other": 3}, Which("test", "other"), "other"),
    ],
)
def test_the_array_of_an_npz_is_found_by_key_split_or_shape(
    tmp_path: Path, arrays: dict[str, int | None], which: Which, found: str
) -> None:
    path = tmp_path / "x.npz"
    of_axes = {None: np.arange(5), 3: np.zeros((2, 8, 8), np.uint8), 4: blobs(2)}
    np.savez(path, **{name: of_axes[axes] for name, axes in arrays.items()})
    assert sources.array_source(path, which).member == found


@pytest.mark.parametrize(
    ("arrays", "which"),
    [
        (["a", "b"], Which()),
        (["x_test"], Which(default="train")),
        (["images"], Which("test")),
        (["images"], Which(key="image")),
        (["y"], Which()),
    ],
)
def test_where_no_array_is_meant_all_keys_are_named(
    tmp_path: Path, arrays: list[str], which: Which
) -> None:
    path = tmp_path / "x.npz"
    of_name = {name: np.arange(3) if name == "y" else blobs(2) for name in arrays}
    np.savez(path, **of_name)
    with pytest.raises(DataError, match=f"found {', '.join(arrays)}; --key NAME chooses one"):
        sources.array_source(path, which)


def test_a_key_that_no_input_has_is_an_error(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", blobs(2))
    np.savez(tmp_path / "x.npz", mine=blobs(2))
    with pytest.raises(DataError, match="--key mine"):
        open_images([tmp_path / "x.npy"], READING, which=Which(key="mine"))
    both = [tmp_path / "x.npy", tmp_path / "x.npz"]
    assert len(open_images(both, READING, which=Which(key="mine")).all()[0]) == 4


def test_an_array_beside_others_that_cannot_be_read_is_found(tmp_path: Path) -> None:
    names = np.array(["a", None], object)
    np.savez(tmp_path / "x.npz", pictures=blobs(2), names=names)
    assert sources.array_source(tmp_path / "x.npz").member == "pictures"


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-images-idx3-ubyte.gz", "any"])
def test_idx_files_are_read_gzipped_or_not(tmp_path: Path, name: str) -> None:
    path, pixels = tmp_path / name, blobs(2000)
    data = idx(pixels[..., 0])
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    (source,) = sources_at(path)
    assert np.array_equal(all_of(source).pixels, pixels)
    part = sources.ArraySource(path, None, 1030, 1040)
    assert np.array_equal(all_of(part).pixels, pixels[1030:1040])
    found = [cut_source for cut_source, _ in cut([places.Found(places.locate(path), name)], 900)]
    assert [source.rows for source in found] == [
        (None, 0, 900),
        (None, 900, 1800),
        (None, 1800, 2000),
    ]


@pytest.mark.parametrize(
    "data",
    [
        idx(np.arange(9, dtype=np.uint8)),
        idx(blobs(2)[..., 0].astype(">f4"), 0x0D),
        idx(blobs(2)[..., 0].astype("i1"), 0x09),
        idx(blobs(2)[..., 0])[:-1],
        gzip.compress(idx(blobs(2)[..., 0]))[:-12],
        gzip.compress(idx(blobs(2)[..., 0]))[:-8] + bytes(8),
        idx(np.zeros((2, 8, 8), np.uint8))[:8],
    ],
)
def test_labels_floats_and_damage_in_idx_files_are_a_data_error(
    tmp_path: Path, data: bytes
) -> None:
    (tmp_path / "x-idx3-ubyte").write_bytes(data)
    with pytest.raises(DataError, match="x-idx3-ubyte"):
        all_of(sources.array_source(tmp_path / "x-idx3-ubyte"))


def test_floats_are_refused_with_what_makes_pixels_of_them(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", blobs(2).astype(np.float32) / 255)
    with pytest.raises(DataError, match=r"found float32 .*np\.rint\(255 \* x\)"):
        all_of(sources.array_source(tmp_path / "x.npy"))


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


def test_an_array_is_fitted_as_the_file_of_the_same_picture(tmp_path: Path) -> None:
    pixels = np.zeros((1, 203, 301), np.uint8)
    pixels[:, -9:] = pixels[:, :, -9:] = 255  # sides that no factor divides, bright where they end
    np.save(tmp_path / "x.npy", pixels)
    Image.fromarray(pixels[0]).save(tmp_path / "x.png")
    array, file = (
        next(open_images([tmp_path / name], FITTING).batches()).pixels
        for name in ("x.npy", "x.png")
    )
    assert np.array_equal(array, file)


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
