"""The ZIP file of a model, and the arrays in it, as strangers may write them."""

from __future__ import annotations

import io
import os
import struct
import sys
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cvae import kinds
from cvae.errors import ModelError
from cvae.models import registry
from cvae.models.file import Model, read_manifest

from ..conftest import ROOT
from .test_file import edited

MNIST = ROOT / "weights" / "mnist.cvae"


@pytest.fixture
def little_memory() -> Iterator[None]:
    """What is refused takes no memory to speak of."""
    tracemalloc.start()
    yield
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2e7


def with_tables(folder: Path, tables: bytes) -> Model:
    def edit(members: dict[str, bytes]) -> None:
        members["tables.npz"] = tables

    return Model(edited(MNIST, folder, edit))


def npz(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return buffer.getvalue()


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("member", ["bank", "others"])
def test_tables_that_unpack_to_many_times_their_bytes_are_refused_unread(
    tmp_path: Path, member: str
) -> None:
    bomb = npz(**{"bank": b"", member: bytes(9 << 20)})
    with pytest.raises(ModelError, match="at most 8,388,608 bytes, found 9,437,184"):
        assert with_tables(tmp_path, bomb).qualities


def test_an_array_whose_header_claims_gigabytes_is_refused_unread(tmp_path: Path) -> None:
    header = b"\x93NUMPY\x02\x00" + struct.pack("<I", 1 << 31) + b" " * (1 << 20)
    with pytest.raises(ModelError, match=r"edited\.cvae: tables\.npz"):
        assert with_tables(tmp_path, npz(bank=header)).qualities


def listing(count: int) -> bytes:
    """An archive that lists so many members, all at one place."""
    name = b"manifest.json"
    numbers = 20, 20, 0, 0, 0, 33, 0, 0, 0, len(name), 0, 0, 0, 0, 0, 0
    entry = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", *numbers)
    listed = (entry + name) * count
    end = struct.pack(
        "<4s4H2LH", b"PK\x05\x06", 0, 0, count & 0xFFFF, count & 0xFFFF, len(listed), 0, 0
    )
    return listed + end


@pytest.mark.usefixtures("little_memory")
def test_a_list_of_thousands_of_members_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "long.cvae"
    path.write_bytes(listing(200_000))
    tracemalloc.reset_peak()
    with pytest.raises(ModelError, match=r"long\.cvae: expected a cvae model"):
        read_manifest(path)


def test_a_list_within_the_tables_is_bounded_as_well(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="a list of members of at most 65,536 bytes"):
        assert with_tables(tmp_path, listing(20_000)).qualities


def test_an_end_of_64_bits_which_may_name_another_list_is_refused(tmp_path: Path) -> None:
    data = MNIST.read_bytes()
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, 0, 1)
    path = tmp_path / "long.cvae"
    path.write_bytes(data[:-22] + locator + data[-22:])
    with pytest.raises(ModelError, match="expected the end of a ZIP file"):
        read_manifest(path)


@pytest.mark.usefixtures("little_memory")
def test_a_member_that_claims_more_than_the_file_is_refused_unread(tmp_path: Path) -> None:
    data = bytearray(MNIST.read_bytes())
    place = data.rindex(b"synthesis.onnx") - 46
    struct.pack_into("<LL", data, place + 20, 1 << 25, 1 << 25)
    path = tmp_path / "lie.cvae"
    path.write_bytes(data)
    with pytest.raises(ModelError, match="found 33,554,432 bytes"):
        Model(path).graph("synthesis.onnx")


def test_a_file_beyond_the_limit_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "large.cvae"
    with path.open("wb") as file:
        file.seek(1 << 30)
        file.write(MNIST.read_bytes()[-22:])
    with pytest.raises(ModelError, match="expected at most 67,108,864 bytes"):
        read_manifest(path)


@pytest.mark.skipif(sys.platform == "win32", reason="needs named pipes")
def test_a_pipe_or_a_device_is_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.cvae")
    monkeypatch.setenv("CVAE_MODELS", str(tmp_path))
    entries, errors = registry.known_models()
    assert "mnist" in [entry.manifest.name for entry in entries]
    assert [
        "pipe.cvae: expected a cvae model, found no regular file" in str(e) for e in errors
    ] == [True]
    for place in (tmp_path / "pipe.cvae", Path("/dev/zero")):
        with pytest.raises(ModelError, match="no regular file"):
            kinds.verify(registry.open_model(place))
