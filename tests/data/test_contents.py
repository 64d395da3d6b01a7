"""What lies at a place, by content where it can be."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvae.bitstream import container
from cvae.bitstream.container import Container
from cvae.data import contents
from cvae.data.contents import What, what_is, what_lies_at
from cvae.packs import layout

from ..conftest import ROOT, SAMPLES
from ..data.test_arrays import npy_claiming


def a_pack() -> bytes:
    buffer = io.BytesIO()
    layout.Writer(buffer, layout.Header(1, 50)).close()
    return buffer.getvalue()


def a_tar(name: str, mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        archive.addfile(tarfile.TarInfo(name))
    return buffer.getvalue()


def a_zip(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    return buffer.getvalue()


AN_IDX = b"\0\0\x08\x03" + bytes([0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 2]) + bytes(4)
CONTAINER = container.pack(Container(7, 50, b"\x01" * 9))
FILES = {
    "a.bin": (a_pack(), What.PACK),
    "image.png": (a_pack(), What.PACK),
    "first_byte_damaged.bin": (b"x" + a_pack()[1:], What.PACK),
    "kind_damaged.bin": (b"\xc0" + a_pack()[1:], What.PACK),
    "b.bin": (CONTAINER, What.CONTAINER),
    "c.tar": (a_tar("x.png"), What.TAR),
    "unnamed": (a_tar("x.png"), What.TAR),
    "letters": (a_tar("яблоко.png"), What.TAR),  # its first byte is that of a pack
    "d.tar.gz": (a_tar("x.png", "w:gz"), What.TAR),
    "xz": (a_tar("x.png", "w:xz"), What.TAR),
    "e.TGZ": (b"no archive", What.TAR),
    "f.npy": (b"no array", What.ARRAY),
    "g.npz": (b"", What.ARRAY),
    "h.cvae": (b"", What.MODEL),
    "train-images-idx3-ubyte": (b"", What.ARRAY),
    "train-images.idx3-ubyte": (AN_IDX, What.ARRAY),
    "idx_of_any_name": (AN_IDX, What.ARRAY),
    "labels": (b"\0\0\x08\x01\0\0\0\x01\x05", What.ARRAY),
    "t10k-images-idx3-ubyte.gz": (gzip.compress(AN_IDX), What.ARRAY),
    "idx.gz": (gzip.compress(AN_IDX), What.ARRAY),
    "npy_of_any_name": (npy_claiming((2, 8, 8)), What.ARRAY),
    "text.gz": (gzip.compress(b"a text"), What.TAR),
    "npz_of_any_name": (a_zip("images.npy"), What.ARRAY),
    "pictures.zip": (b"", What.ZIP),
    "zip_of_any_name": (a_zip("deep/a.png"), What.ZIP),
    "empty_zip": (a_zip(), What.ZIP),
    "renamed.zip": (a_zip("manifest.json"), What.MODEL),
    "icon.ico": (b"\0\0\x01\0\x01\0", What.FILE),
    "picture.avif": (b"\0\0\0\x20ftypavif", What.FILE),
    "i.txt": (b"a text", What.FILE),
    "empty": (b"", What.FILE),
}


@pytest.mark.parametrize("name", FILES)
def test_files_are_known_by_content_or_else_by_ending(tmp_path: Path, name: str) -> None:
    data, expected = FILES[name]
    (tmp_path / name).write_bytes(data)
    assert what_lies_at(tmp_path / name) is expected
    assert what_lies_at(str(tmp_path / name)) is expected
    assert what_lies_at((tmp_path / name).as_uri()) is expected


def test_models_arrays_and_images_are_told_apart(tmp_path: Path) -> None:
    renamed = tmp_path / "model.zip"
    renamed.write_bytes((ROOT / "weights" / "mnist.cvae").read_bytes())
    np.savez(tmp_path / "x.npz", images=np.zeros((1, 8, 8), np.uint8))
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a.txt", "")
    assert what_lies_at(renamed) is What.MODEL
    assert what_lies_at(tmp_path / "x.npz") is What.ARRAY
    assert what_lies_at(tmp_path / "other.zip") is What.ZIP
    assert what_lies_at(SAMPLES / "digit_3.png") is What.FILE


def test_folders_are_known_by_what_marks_them(tmp_path: Path) -> None:
    def folder(name: str, **files: bytes) -> What:
        (tmp_path / name).mkdir()
        for file, data in files.items():
            (tmp_path / name / file).write_bytes(data)
        return what_lies_at(tmp_path / name)

    manifest = json.dumps({"kind": contents.PACKS_KIND}).encode()
    assert folder("empty") is What.FOLDER
    assert folder("finished", **{contents.MANIFEST: manifest}) is What.PACKS
    assert folder("damaged", **{contents.MANIFEST: manifest[:-1]}) is What.PACKS
    assert folder("unfinished", **{contents.UNFINISHED: b"{}"}) is What.PACKS
    assert folder("without", **{contents.FIRST_PACK: a_pack()}) is What.PACKS
    assert folder("another", **{contents.MANIFEST: b"{}", "part-00000.bin": b"x"}) is What.FOLDER
    assert folder("run", **{contents.RUN: b"{}"}) is What.RUN


def test_what_is_not_there_is_nothing(tmp_path: Path) -> None:
    Image.new("L", (1, 1)).save(tmp_path / "x.png")
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    assert what_lies_at(tmp_path / "y.npz") is What.NOTHING
    assert what_lies_at(tmp_path / "x.png" / "y") is What.NOTHING
    assert what_lies_at(tmp_path / "dangling") is What.NOTHING


def test_nothing_is_read_from_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # to open it would wait for a writer
    assert what_lies_at(tmp_path / "pipe") is What.FILE


def test_the_beginning_of_stdin_tells_too() -> None:
    assert what_is("", a_pack()[: contents.HEAD]) is What.PACK
    assert what_is("", CONTAINER) is What.CONTAINER
    assert what_is("", a_tar("x.png")[: contents.HEAD]) is What.TAR
    assert what_is("", b"\x89PNG") is What.FILE


def test_places_at_a_url_are_known_too() -> None:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    for name, data in {
        "a.bin": a_pack(),
        "b.bin": CONTAINER,
        "packs/unfinished.json": b"{}",
    }.items():
        memory.pipe(f"/contents/{name}", data)
    found = {
        name: what_lies_at(f"memory://contents/{name}") for name in ("a.bin", "b.bin", "packs", "c")
    }
    assert found == {
        "a.bin": What.PACK, "b.bin": What.CONTAINER, "packs": What.PACKS, "c": What.NOTHING,
    }  # fmt: skip
