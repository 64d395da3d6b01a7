"""Files appear whole or not at all: written beside their final name, then renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from cvae.errors import DataError, OutputError

_SUFFIX = 8  # characters of a name's ending, at most


class Closing:
    """What holds files open, for a `with` statement that closes them."""

    def close(self) -> None:
        """Closes the files."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def check_writable(path: Path, force: bool) -> None:
    """Raises OutputError when `path` exists and `force` is off, or is no regular file."""
    try:
        if path.is_dir():
            raise OutputError("is a folder, expected the name of a file", where=path)
        if not os.path.lexists(path):
            return
        if not force:
            raise OutputError("exists already", where=path, advice="use --force to overwrite it")
        if path.exists() and not path.is_file():
            raise OutputError(
                "is a device or a pipe, expected a file", where=path, advice="`-o -` is stdout"
            )
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror or error}", where=path) from error


@contextmanager
def atomic_path(path: Path, force: bool = False) -> Iterator[Path]:
    """A temporary path in the folder of `path`, renamed to it when the block ends without an error.

    The folder is made if it is missing. Raises OutputError when the file exists and `force` is off,
    or cannot be written.
    """
    check_writable(path, force)
    # The suffixes stay: libraries choose a file format by them. Not what only looks like one, and
    # would make the name too long. The rest is nobody else's, on whatever machine.
    suffixes = "".join(suffix for suffix in path.suffixes[-2:] if len(suffix) <= _SUFFIX)
    temporary = path.with_name(f".cvae-{os.urandom(8).hex()}{suffixes}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _rename(temporary, path, force)
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror or error}", where=path) from error
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
    try:
        if os.path.lexists(path):
            raise OutputError("exists already", where=path)
        temporary.mkdir(parents=True)
        yield temporary
        temporary.rename(path)
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror or error}", where=path) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_bytes(path: Path, data: bytes, force: bool = False) -> None:
    """Writes `data` to `path` in one step; raises OutputError as `atomic_path` does."""
    with atomic_path(path, force) as temporary:
        temporary.write_bytes(data)


def walk(folder: Path, suffixes: set[str]) -> Iterator[Path]:
    """What `find` gives, but only the names in one folder and those above it are held at once.

    Raises DataError when a folder cannot be read.
    """
    above = [(folder, iter(_names_in(folder)))]
    while above:
        place, names = above[-1]
        name, is_folder = next(names, ("", False))
        if not name:
            above.pop()
        elif is_folder:
            above.append((place / name, iter(_names_in(place / name))))
        elif Path(name).suffix.lower() in suffixes and (place / name).is_file():
            yield place / name


def _names_in(folder: Path) -> list[tuple[str, bool]]:
    """What is in a folder and not hidden, sorted; and whether it is a folder itself, and no link to one."""
    try:
        with os.scandir(folder) as entries:
            found = [(e.name, e.is_dir(follow_symlinks=False)) for e in entries]
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", where=folder) from error
    return sorted(pair for pair in found if not pair[0].startswith("."))


def find(folder: Path, suffixes: set[str]) -> list[Path]:
    """All files below a folder with one of these (lower-case) endings, hidden ones left out, sorted."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in suffixes
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def _rename(temporary: Path, path: Path, force: bool) -> None:
    if not force:
        try:
            # Unlike a rename, a link fails where another process has made the file meanwhile.
            os.link(temporary, path)
            return
        except FileExistsError as error:
            raise OutputError(
                "exists already", where=path, advice="use --force to overwrite it"
            ) from error
        except OSError:
            check_writable(path, force)  # a file system without links
    temporary.replace(path)
