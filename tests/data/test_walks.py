"""Folders are read once, whatever links lead to them; what cannot be read is named, and the rest is found."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from cvae.data.walks import names_below
from cvae.errors import CvaeError, DataError, Notice

pytestmark = pytest.mark.skipif(os.name == "nt", reason="links need rights")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder beside another one."""
    for name in ("in/a.png", "in/deep/b.png", "in/deep/.hidden/c.png", "beside/d.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return tmp_path / "in"


def found(root: Path) -> tuple[list[str], dict[str, str]]:
    """The names below a folder, and what was said of others."""
    said: list[CvaeError] = []
    names = list(names_below(str(root), refuse=said.append))
    return names, {os.path.relpath(error.where, root): error.text for error in said}


def test_links_to_files_and_folders_are_followed(root: Path) -> None:
    (root / "file.png").symlink_to("../beside/d.png")
    (root / "folder").symlink_to("../beside")
    assert found(root) == (["a.png", "deep/b.png", "file.png", "folder/d.png"], {})


@pytest.mark.parametrize("target", [".", "..", "../in", "../..", "/"])
def test_a_link_to_a_folder_that_holds_it_is_left_out_and_said(root: Path, target: str) -> None:
    (root / "deep/loop").symlink_to(target if target == "/" else f"../{target}")
    names, said = found(root)
    assert names == ["a.png", "deep/b.png"]
    assert list(said) == ["deep/loop"]


def test_a_folder_is_read_under_its_own_name_and_not_again_under_that_of_a_link(root: Path) -> None:
    (root / "0").symlink_to("deep")
    names, said = found(root)
    assert names == ["a.png", "deep/b.png"]
    assert "left out" in said["0"]


def test_a_folder_elsewhere_that_two_links_lead_to_is_read_once(root: Path) -> None:
    (root / "x").symlink_to("../beside")
    (root / "y").symlink_to("../beside")
    names, said = found(root)
    assert names == ["a.png", "deep/b.png", "x/d.png"]
    assert list(said) == ["y"]


def test_links_between_folders_that_lead_round_in_circles_end(root: Path) -> None:
    (root / "out").symlink_to("../beside")
    (root.parent / "beside/back").symlink_to("../in")
    (root.parent / "beside/self").symlink_to(".")
    names, said = found(root)
    assert names == ["a.png", "deep/b.png", "out/d.png"]
    assert sorted(said) == ["out/back", "out/self"]


def test_a_link_into_a_hidden_folder_is_followed(root: Path) -> None:
    (root / "shown").symlink_to("deep/.hidden")
    assert found(root) == (["a.png", "deep/b.png", "shown/c.png"], {})


def test_broken_links_and_pipes_are_named_and_the_rest_is_found(root: Path) -> None:
    (root / "gone.png").symlink_to("nowhere")
    (root / "self").symlink_to("self")
    os.mkfifo(root / "pipe")
    names, said = found(root)
    assert names == ["a.png", "deep/b.png"]
    assert "a link to nothing" in said["gone.png"]
    assert "pipe or a device" in said["pipe"]
    assert "cannot be read" in said["self"]
    with pytest.raises(DataError, match=r"gone\.png|pipe|self"):
        list(names_below(str(root)))


def test_a_closed_folder_is_named_and_the_rest_is_found(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "closed").mkdir()
    scan = os.scandir

    def closed(path: Any) -> Any:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", closed)
    names, said = found(root)
    assert names == ["a.png", "deep/b.png"]
    assert said == {"closed": "cannot be read: Permission denied"}
    with pytest.raises(DataError, match="closed: cannot be read: Permission denied"):
        list(names_below(str(root)))
    said_of_itself: list[CvaeError] = []
    with pytest.raises(DataError, match="closed: cannot be read"):
        list(names_below(str(root / "closed"), refuse=said_of_itself.append))


def test_what_is_left_out_is_no_error(root: Path) -> None:
    (root / "loop").symlink_to(".")
    said: list[CvaeError] = []
    list(names_below(str(root), refuse=said.append))
    assert isinstance(said[0], Notice)
    assert list(names_below(str(root))) == ["a.png", "deep/b.png"]
