"""ZIP archives of images, hostile ones too."""

from __future__ import annotations

import stat
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from cvae.data.sources import ZipSource, first_image, sources_at
from cvae.errors import CvaeError, DataError, ImageError

from ..conftest import blobs
from .test_sources import all_of, png

Members = list[tuple[str | zipfile.ZipInfo, bytes]]


def a_zip(path: Path, members: Members, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def a_link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return info


def an_encrypted(path: Path, name: bytes) -> None:
    """Sets the flag of encryption of a member, in its header and in the directory."""
    data = bytearray(path.read_bytes())
    for signature, flags, at in ((b"PK\3\4", 6, 30), (b"PK\1\2", 8, 46)):
        start = next(
            i
            for i in range(len(data))
            if data.startswith(signature, i) and data.startswith(name, i + at)
        )
        data[start + flags] |= 1
    path.write_bytes(data)


def read(path: Path) -> tuple[list[str], list[str]]:
    """The names of the images, and the errors."""
    refused: list[CvaeError] = []
    (source,) = sources_at(path)
    found = all_of(source, refuse=refused.append)
    return found.names or [], [str(error) for error in refused]


@pytest.mark.parametrize(
    "compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA]
)
def test_the_images_of_a_zip_are_read_with_their_names(tmp_path: Path, compression: int) -> None:
    pixels = blobs(3)
    members: Members = [("b.png", png(pixels[0])), ("deep/", b""), ("deep/a.png", png(pixels[1]))]
    members += [("notes.txt", b"text"), (".hidden/x.png", b""), ("__MACOSX/._b.png", b"")]
    path = a_zip(tmp_path / "x.zip", [*members, ("C.PNG", png(pixels[2]))], compression)
    (source,) = sources_at(path)
    assert isinstance(source, ZipSource)
    found = all_of(source)
    assert found.names == ["b.png", "deep/a.png", "C.PNG"]
    assert np.array_equal(found.pixels, pixels)
    assert first_image([path]).size == (8, 8)


def test_hostile_members_are_named_and_the_others_read(tmp_path: Path) -> None:
    data = png(blobs(1)[0])
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = a_zip(
            tmp_path / "x.zip",
            [
                ("a.png", data), ("../b.png", data), ("/etc/c.png", data), ("d/../../d.png", data),
                ("..\\e.png", data), ("a.png", data), (a_link("f.png"), b"/etc/passwd"),
                ("locked.png", data), ("inner.zip", b"PK"), ("inner.tar.gz", b""), ("x.npz", b""),
                ("text.png", b"text"), ("z.png", data),
            ],
        )  # fmt: skip
    an_encrypted(path, b"locked.png")
    found, errors = read(path)
    assert found == ["a.png", "z.png"]
    reasons = {
        "../b.png": "leads out of the archive", "/etc/c.png": "leads out of the archive",
        "d/../../d.png": "leads out of the archive", "..\\e.png": "leads out of the archive",
        "a.png": "second member of this name", "f.png": "is a link", "locked.png": "is encrypted",
        "inner.zip": "archive in an archive", "inner.tar.gz": "archive in an archive",
        "x.npz": "archive in an archive", "text.png": "expected an image",
    }  # fmt: skip
    assert len(errors) == len(reasons)
    for error, (name, reason) in zip(errors, reasons.items(), strict=True):
        assert error.startswith(f"{path}: {name}: "), error
        assert reason in error
    assert sorted(item.name for item in tmp_path.iterdir()) == ["x.zip"]


def test_a_damaged_member_costs_itself_alone(tmp_path: Path) -> None:
    data = [png(image) for image in blobs(3)]
    path = a_zip(
        tmp_path / "x.zip",
        [(f"{i}.png", item) for i, item in enumerate(data)],
        zipfile.ZIP_STORED,
    )
    whole = bytearray(path.read_bytes())
    whole[whole.index(data[1]) + 20] ^= 1
    path.write_bytes(whole)
    found, errors = read(path)
    assert found == ["0.png", "2.png"]
    assert "x.zip: 1.png: the member is damaged: Bad CRC-32" in errors[0]
    with pytest.raises(ImageError, match=r"1\.png"):
        read_all = sources_at(path)[0]
        all_of(read_all)


@pytest.mark.parametrize("cut", [10, 100, 150])
def test_an_archive_that_breaks_off_is_a_data_error(tmp_path: Path, cut: int) -> None:
    path = a_zip(tmp_path / "x.zip", [("a.png", png(blobs(1)[0]))])
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match=r"x\.zip: expected a ZIP archive"):
        read(path)


def test_memory_follows_the_largest_member_and_a_bomb_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("archives", "batches"):
        monkeypatch.setattr(f"cvae.data.{module}.MAX_FILE", 1 << 20)
    members: Members = [("bomb.png", bytes(1 << 26))]
    members += [(f"{i}.png", png(blobs(1)[0]) + bytes(1 << 19)) for i in range(40)]
    path = a_zip(tmp_path / "x.zip", members)
    tracemalloc.start()
    found, errors = read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) == 40
    assert len(errors) == 1
    assert "bomb.png: expected at most 1,048,576 bytes" in errors[0]
    assert peak < 12 << 20
