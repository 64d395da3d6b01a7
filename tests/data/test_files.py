"""Files appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cvae.data import files
from cvae.errors import OutputError


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), files.atomic_path(path, force=True) as temporary:
        temporary.write_bytes(b"half")
        assert path.read_bytes() == b"old"
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_until_the_block_ends_there_is_no_file_under_the_final_name(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "x.weights.h5"
    with files.atomic_path(path) as temporary:
        assert temporary.name.endswith(".weights.h5")
        temporary.write_bytes(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_a_file_made_meanwhile_is_not_overwritten_without_force(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    with pytest.raises(OutputError, match="exists already"), files.atomic_path(path) as temporary:
        temporary.write_bytes(b"ours")
        path.write_bytes(b"theirs")
    assert path.read_bytes() == b"theirs"
    files.write_bytes(path, b"ours", force=True)
    assert path.read_bytes() == b"ours"


@pytest.mark.parametrize("force", [False, True])
def test_folders_and_pipes_are_no_targets(tmp_path: Path, force: bool) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(OutputError):
            files.write_bytes(path, b"x", force)
    assert (tmp_path / "pipe").is_fifo()


def test_a_dangling_link_is_not_replaced_without_force(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError, match="exists already"):
        files.write_bytes(tmp_path / "link", b"x")


def test_names_that_are_too_long_are_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        files.write_bytes(tmp_path / ("x" * 300), b"x")


def test_a_name_may_be_as_long_as_the_system_allows(tmp_path: Path) -> None:
    path = tmp_path / f"a.{'b' * 230}.bin"
    files.write_bytes(path, b"x")
    assert path.read_bytes() == b"x"
