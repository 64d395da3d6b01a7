"""Files and folders appear atomically: they are written beside their name, then renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from cvae.checks import shown
from cvae.errors import CvaeError, OutputError, first_line, translated

_SUFFIX = 8  # characters of a name's ending, at most


class Closing:
    """What holds files open, for a `with` statement that closes them."""

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def as_path(value: object, error: type[CvaeError] = OutputError) -> Path:
    """A path of the file system. Raises `error` when it is none, or no file can have it."""
    try:
        path = Path(value)  # type: ignore[arg-type]
        if b"\0" in os.fsencode(path):
            raise ValueError("it has a null character")
    except Exception as reason:  # of any kind: objects say in their own ways that they are no path
        raise error(f"expected a path, found {shown(value)}: {first_line(reason)}") from reason
    return path


def check_writable(path: Path, force: bool) -> None:
    """Raises OutputError when `path` exists and `force` is off, or is no regular file."""
    with translated(OutputError, "cannot be written", path):
        if path.is_dir():
            raise OutputError("is a folder, expected the name of a file", where=path)
        if not os.path.lexists(path):
            return
        if not force:
            raise OutputError("exists already", where=path, advice="use --force to overwrite it")
        if path.exists() and not path.is_file():
            wrong = "is a device or a pipe, expected a file"
            raise OutputError(wrong, where=path, advice="`-o -` is stdout")


@contextmanager
def atomic_path(path: Path, force: bool = False) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it when the block ends without an error.

    A missing folder is made. Raises OutputError when the file exists and `force` is off, or cannot be
    written.
    """
    check_writable(path, force)
    # Libraries choose a file format by the suffixes, so they stay, unless one makes the name too long.
    # The rest is random: no other process has it, on whatever machine.
    suffixes = "".join(suffix for suffix in path.suffixes[-2:] if len(suffix) <= _SUFFIX)
    temporary = path.with_name(f".cvae-{os.urandom(8).hex()}{suffixes}")
    with translated(OutputError, "cannot be written", path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            _rename(temporary, path, force)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path`, renamed to it when the block ends without an error.

    Raises OutputError when `path` exists, or cannot be written.
    """
    import shutil

    temporary = path.with_name(f".cvae-{os.urandom(8).hex()}")
    with translated(OutputError, "cannot be written", path):
        try:
            if os.path.lexists(path):
                raise OutputError("exists already", where=path)
            temporary.mkdir(parents=True)
            yield temporary
            temporary.rename(path)
        except OutputError as error:
            error.where = error.where.replace(str(temporary), str(path))
            raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def write_bytes(path: Path, data: bytes, force: bool = False) -> None:
    """Writes `data` to `path` atomically; raises OutputError as `atomic_path` does."""
    with atomic_path(path, force) as temporary:
        temporary.write_bytes(data)


def _rename(temporary: Path, path: Path, force: bool) -> None:
    if not force:
        try:
            # Unlike a rename, a link fails where another process has made the file meanwhile.
            os.link(temporary, path)
            return
        except FileExistsError as error:
            advice = "use --force to overwrite it"
            raise OutputError("exists already", where=path, advice=advice) from error
        except OSError:
            check_writable(path, force)  # a file system without links
    temporary.replace(path)
