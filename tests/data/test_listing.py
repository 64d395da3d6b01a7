"""Images of a folder are found by what they are, and the others are counted."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from cvae.data import listing, places
from cvae.errors import CvaeError, PassedOver


def image(form: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (4, 4)).save(buffer, form)
    return buffer.getvalue()


def found(folder: str | Path) -> tuple[list[str], list[str]]:
    """The images of a folder, and what is passed over."""
    said: list[CvaeError] = []
    names = [item.name for item in listing.find_images(folder, said.append)]
    assert all(isinstance(error, PassedOver) for error in said)
    return names, [error.where.removeprefix(f"{folder}/") for error in said]


def test_images_are_found_whatever_they_are_called(tmp_path: Path) -> None:
    names = ["a", "b.jfif", "c.dat", "d.npz", "e.txt", "f.PNM"]
    for name, form in zip(names, ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "PPM"], strict=True):
        (tmp_path / name).write_bytes(image(form))
    assert found(tmp_path) == (names, [])


def test_files_with_an_images_ending_or_of_a_format_that_is_not_read_are_taken(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.jpg").write_text("text")
    (tmp_path / "b.heic").write_text("text")
    (tmp_path / "c.xyz").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0")
    (tmp_path / "d.xyz").write_bytes(b"8BPS")
    assert found(tmp_path) == (["a.jpg", "b.heic", "c.xyz", "d.xyz"], [])


def test_other_files_are_passed_over_and_hidden_ones_ignored(tmp_path: Path) -> None:
    for name in ("notes.txt", "labels.json", "empty", ".hidden"):
        (tmp_path / name).write_text("" if name == "empty" else "text")
    assert found(tmp_path) == ([], ["empty", "labels.json", "notes.txt"])


def test_files_with_an_images_ending_are_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.png", "b.jpg", "c.txt"):
        (tmp_path / name).write_bytes(b"text")
    looked: list[bytes] = []
    monkeypatch.setattr(listing, "image_format", lambda head: looked.append(head) or "")
    found(tmp_path)
    assert looked == [b"text"]


def test_no_file_of_a_folder_at_a_url_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = pytest.importorskip("fsspec").filesystem("memory")
    for name in ("a.png", "b.jfif", "c.json", "d"):
        memory.pipe(f"/listing/{name}", b"")
    try:
        monkeypatch.setattr(places.Remote, "open", None)
        others = ["memory:///listing/c.json", "memory:///listing/d"]
        assert found("memory://listing") == (["a.png", "b.jfif"], others)
    finally:
        memory.rm("/listing", recursive=True)


def test_a_file_that_is_named_is_taken_whatever_it_is(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("text")
    assert found(tmp_path / "notes.txt") == (["notes.txt"], [])
