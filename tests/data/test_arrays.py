"""`.npz` and `.npy` files as hostile input."""

from __future__ import annotations

import contextlib
import io
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from cvae.data import arrays, places, sources
from cvae.errors import DataError, FormatError


def npy_claiming(shape: tuple[int, ...], dtype: str = "|u1") -> bytes:
    buffer = io.BytesIO()
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue() + b"\x00" * 16


def npz(path: Path, member: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x_test.npy", member)
    return path


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
def test_what_numpy_writes_is_read(tmp_path: Path, save: object, order: str) -> None:
    array = np.array(np.arange(24).reshape(2, 3, 4), order=order)  # type: ignore[call-overload]
    save(tmp_path / "a.npz", x=array, y=array[0])  # type: ignore[operator]
    x, y = arrays.read_npz(tmp_path / "a.npz", ["x", "y"], "a.npz")
    assert np.array_equal(x, array)
    assert np.array_equal(y, array[0])


def test_a_header_that_claims_a_terabyte_allocates_nothing(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz", npy_claiming((10**6, 10**6)))
    tracemalloc.start()
    with pytest.raises(DataError, match="claims"):
        arrays.read_npz(path, ["x_test"], "a.npz")
    assert tracemalloc.get_traced_memory()[1] < 10**7
    tracemalloc.stop()


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(FormatError, match="objects"):
        arrays.read_npy(tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((10**13, 0, 28), "|u1"), ((10**15, 28, 28, 0), "|u1"), ((10**13, 28), "|V0")],
)
def test_rows_of_no_bytes_are_refused_for_there_may_be_any_number_of_them(
    tmp_path: Path, shape: tuple[int, ...], dtype: str
) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(npy_claiming(shape, dtype))
    with pytest.raises(FormatError, match="rows of no bytes"):
        arrays.read_npy(path)
    with pytest.raises(DataError, match="rows of no bytes"), arrays.open_rows(path):
        pass
    with pytest.raises(DataError, match="rows of no bytes"):
        list(sources.cut(places.find(path, ()), 1 << 16))


def test_no_rows_at_all_are_an_array(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((0, 0, 28), np.uint8))
    assert arrays.read_npy(tmp_path / "a.npy").shape == (0, 0, 28)


@pytest.mark.parametrize("version", [2, 3])
def test_a_header_that_claims_gigabytes_of_itself_allocates_nothing(
    tmp_path: Path, version: int
) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(b"\x93NUMPY" + bytes([version, 0]) + b"\xff" * 4 + b"{}")
    tracemalloc.start()
    with pytest.raises(FormatError, match="a header of at most 65,536 bytes"):
        arrays.read_npy(path)
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()


def test_symbols_take_no_more_memory_than_symbols_do(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    with path.open("wb") as file:
        file.write(npy_claiming((1 << 40,)))
        file.truncate(1 << 41)  # of which the disk holds next to nothing
    with pytest.raises(FormatError, match="claims"):
        arrays.read_npy(path)


@pytest.mark.parametrize("shape", [(-1,), (2, -5)])
def test_negative_shapes_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    (tmp_path / "a.npy").write_bytes(npy_claiming(shape))
    with pytest.raises(FormatError, match=r"expected an \.npy file"):
        arrays.read_npy(tmp_path / "a.npy")


@pytest.mark.parametrize("data", [b"", b"text", b"PK\x03\x04garbage", b"\x93NUMPY\x01\x00"])
def test_other_files_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a\.npz"):
        arrays.read_npz(path, ["x"], str(path))
    with pytest.raises(FormatError, match=r"a\.npz"):
        arrays.read_npy(path)


def test_a_missing_array_is_named_with_those_there_are(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x_train=np.zeros(3))
    with pytest.raises(DataError, match=r"'x_test'.*x_train"):
        arrays.read_npz(tmp_path / "a.npz", ["x_test"], "a.npz")


def test_an_array_over_the_limit_is_refused_unread(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros(10**6, np.uint8))
    with pytest.raises(DataError, match="claims 1,000,000 bytes"):
        arrays.read_npz(tmp_path / "a.npz", ["x"], "a.npz", limit=10**5)


def test_a_damaged_npy_is_read_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.arange(10))
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    for place, value in zip(rng.integers(0, 128, 500), rng.integers(0, 256, 500), strict=True):
        path.write_bytes(data[:place] + bytes([value]) + data[place + 1 :])
        with contextlib.suppress(FormatError):
            arrays.read_npy(path)


def test_every_truncation_of_an_npz_is_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=np.arange(100))
    data = (tmp_path / "a.npz").read_bytes()
    for cut in range(len(data)):
        with pytest.raises(DataError):
            arrays.read_npz(io.BytesIO(data[:cut]), ["x"], "a.npz")


def test_a_damaged_npz_of_any_compression_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.random.default_rng(0).integers(0, 9, 10**4, np.uint8))
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with zipfile.ZipFile(tmp_path / "a.npz", "w", method) as archive:
            archive.writestr("x.npy", buffer.getvalue())
        data = bytearray((tmp_path / "a.npz").read_bytes())
        data[500:560] = bytes(60)
        with pytest.raises(DataError, match=r"a\.npz"):
            arrays.read_npz(io.BytesIO(data), ["x"], "a.npz")
