"""Files appear whole or not at all."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cvae.data import files, places
from cvae.errors import CvaeError, OutputError


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


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What the system is asked to do, in order: sync a file or a folder, or give a file its name."""
    found: list[tuple[str, str]] = []
    fsync, link, replace = os.fsync, os.link, Path.replace

    def synced(file: int) -> None:
        found.append(("sync", str(Path(f"/proc/self/fd/{file}").readlink())))
        fsync(file)

    def linked(source: Path, target: Path) -> None:
        found.append(("name", str(target)))
        link(source, target)

    def replaced(source: Path, target: Path) -> Path:
        found.append(("name", str(target)))
        return replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "link", linked)
    monkeypatch.setattr(Path, "replace", replaced)
    return found


@pytest.mark.parametrize("force", [False, True])
def test_bytes_are_on_the_disk_before_the_name_and_the_name_before_success(
    tmp_path: Path, steps: list[tuple[str, str]], force: bool
) -> None:
    path = tmp_path / "x.bin"
    if force:
        path.write_bytes(b"old")
    files.write_bytes(path, b"new", force)
    (first, temporary), *others = steps
    assert first == "sync" and Path(temporary).name.startswith(".cvae-")
    assert others == [("name", str(path)), ("sync", str(tmp_path))]


def test_new_folders_are_on_the_disk_too(tmp_path: Path, steps: list[tuple[str, str]]) -> None:
    files.write_bytes(tmp_path / "a" / "b" / "x.bin", b"x")
    synced = {name for step, name in steps if step == "sync"}
    assert {str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a" / "b")} <= synced


def test_many_files_are_synced_each_and_their_folder_once_for_hundreds(
    tmp_path: Path, steps: list[tuple[str, str]]
) -> None:
    paths = [tmp_path / f"{number}.bin" for number in range(300)]
    with files.Files() as held:
        for path in paths:
            held.write(path, path.name.encode())
    assert [path.read_bytes() for path in paths] == [path.name.encode() for path in paths]
    assert sum(step == ("sync", str(tmp_path)) for step in steps) == 2
    synced = named = 0
    for step, name in steps:
        named += step == "name"
        synced += step == "sync" and name != str(tmp_path)
        assert named <= synced
    assert synced == 300
    assert len(list(tmp_path.iterdir())) == 300


def test_one_of_many_files_that_cannot_appear_costs_itself_alone(tmp_path: Path) -> None:
    errors: list[CvaeError] = []
    with files.Files(refuse=errors.append) as held:
        for number in range(5):
            held.write(tmp_path / f"{number}.bin", b"ours")
        (tmp_path / "3.bin").write_bytes(b"theirs")
    (error,) = errors
    assert (error.where, error.text) == (str(tmp_path / "3.bin"), "exists already")
    found = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert found == {f"{number}.bin": b"theirs" if number == 3 else b"ours" for number in range(5)}


def test_of_many_files_none_is_left_half_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), files.Files() as held:
        held.write(tmp_path / "x.bin", b"x")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_appears_neither_at_once_nor_with_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        write(path, data[:1])
        raise OSError(28, "No space left on device")

    with files.Files() as held:
        held.write(tmp_path / "a.bin", b"whole")
        monkeypatch.setattr(Path, "write_bytes", full)
        with pytest.raises(OutputError, match="No space left"):
            held.write(tmp_path / "b.bin", b"half")
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


def test_bytes_that_do_not_reach_the_disk_are_an_error_and_the_old_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")

    def failed(file: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", failed)
    with pytest.raises(OutputError, match="Input/output error"):
        files.write_bytes(path, b"new", force=True)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755, 0o444])
def test_a_file_that_is_overwritten_keeps_its_mode(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")
    path.chmod(mode)
    with files.atomic_path(path, force=True) as temporary:
        temporary.write_bytes(b"new")
        assert (
            not temporary.stat().st_mode & 0o777 & ~(mode | 0o200)
        )  # nobody else may look meanwhile
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == mode


def test_through_a_link_the_file_that_it_names_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    target, link, chain = tmp_path / "there" / "x.bin", tmp_path / "link", tmp_path / "chain"
    target.write_bytes(b"old")
    target.chmod(0o600)
    link.symlink_to("there/x.bin")
    chain.symlink_to(link)
    for path, data in ((link, b"new"), (chain, b"newer")):
        files.write_bytes(path, data, force=True)
        assert path.is_symlink()
        assert target.read_bytes() == data
    assert target.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in target.parent.iterdir()] == ["x.bin"]


@pytest.mark.parametrize("force", [False, True])
def test_a_link_to_nothing_or_to_itself_is_no_target(tmp_path: Path, force: bool) -> None:
    (tmp_path / "nothing").symlink_to(tmp_path / "missing")
    (tmp_path / "itself").symlink_to("itself")
    for name in ("nothing", "itself"):
        with pytest.raises(OutputError):
            files.write_bytes(tmp_path / name, b"x", force)
    assert not (tmp_path / "missing").exists()


def test_what_killed_processes_had_begun_is_deleted_by_the_next_that_writes_there(
    tmp_path: Path,
) -> None:
    def made(name: str, hours: float, folder: bool = False) -> Path:
        path = tmp_path / name
        if folder:
            path.mkdir()
            (path / "deep").mkdir()
        else:
            path.write_bytes(b"half")
        for item in (path / "deep", path) if folder else (path,):
            os.utime(item, (time.time() - hours * 3600,) * 2)
        return path

    ours = ".cvae-0123456789abcde"
    stale = [
        made(f"{ours}0.bin", 25), made(f"{ours}1", 25), made(f"{ours}2.weights.h5", 25),
        made(f"{ours}3", 25, folder=True),
    ]  # fmt: skip
    busy = made(f"{ours}4", 25, folder=True)
    os.utime(busy / "deep")  # somebody writes there
    (linked := tmp_path / f"{ours}5").symlink_to(tmp_path / "elsewhere")
    kept = [
        made(f"{ours}6.bin", 23), made(".cvae-notes", 25), made("x.cvae-00.bin", 25),
        made(f"a{ours}7.bin", 25), busy, linked,
    ]  # fmt: skip
    files.write_bytes(tmp_path / "new.bin", b"x")
    assert [path.name for path in stale if os.path.lexists(path)] == []
    assert [path.name for path in kept if not os.path.lexists(path)] == []


def test_a_pipe_that_is_open_already_is_read_as_stdin_is() -> None:
    reading, writing = os.pipe()
    thread = threading.Timer(0.2, lambda: (os.write(writing, b"late"), os.close(writing)))
    thread.start()
    with files.open_file(f"/dev/fd/{reading}") as file:
        assert file.read() == b"late"
    thread.join()
    os.close(reading)


@pytest.mark.parametrize("kind", ["device", "pipe"])
def test_a_device_or_a_pipe_is_neither_read_nor_waited_for(tmp_path: Path, kind: str) -> None:
    path = Path("/dev/zero")
    if kind == "pipe":
        os.mkfifo(path := tmp_path / "pipe")
    found: list[BaseException] = []

    def read(opening: Callable[[], object]) -> None:
        try:
            opening()
        except OSError as error:
            found.append(error)

    for opening in (
        lambda: files.open_file(path), lambda: places.locate(path).open("rb"),
        lambda: places.read(places.locate(path), 9),
    ):  # fmt: skip
        thread = threading.Thread(target=read, args=[opening], daemon=True)
        thread.start()
        thread.join(5)
        assert not thread.is_alive()
        assert isinstance(found.pop(), files.NotAFileError)
