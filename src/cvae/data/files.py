"""Files and folders on this machine. They appear atomically: written beside their name, then renamed."""

from __future__ import annotations

import glob as globs
import os
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from cvae.data.place import Found, reaching, relative
from cvae.errors import DataError, OutputError, translated

if TYPE_CHECKING:
    _Path = Path
else:
    _Path = type(Path())  # the class for this system, which can be derived from

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
    with translated(OutputError, "cannot be written", path):
        if path.is_dir():
            raise OutputError("is a folder, expected the name of a file", where=path)
        if not os.path.lexists(path):
            return
        if not force:
            raise OutputError("exists already", where=path, advice="use --force to overwrite it")
        if path.exists() and not path.is_file():
            raise OutputError(
                "is a device or a pipe, expected a file", advice="`-o -` is stdout", where=path
            )


@contextmanager
def atomic_path(path: Path, force: bool = False) -> Iterator[Path]:
    """A temporary path in the folder of `path`, renamed to it when the block ends without an error.

    The folder is made if it is missing. Raises OutputError when the file exists and `force` is off,
    or cannot be written.
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
            raise OutputError(
                "exists already", where=path, advice="use --force to overwrite it"
            ) from error
        except OSError:
            check_writable(path, force)  # a file system without links
    temporary.replace(path)


class Local(_Path):
    """A place on this machine."""

    far = False

    # Unlike those of a Path, these never raise.
    def is_folder(self) -> bool:
        return os.path.isdir(self)  # noqa: PTH112

    def is_file(self) -> bool:  # type: ignore[override, unused-ignore]
        return os.path.isfile(self)  # noqa: PTH113

    def exists(self) -> bool:  # type: ignore[override, unused-ignore]
        return os.path.exists(self)  # noqa: PTH110

    def stamp(self) -> str:
        found = self.stat()
        return f"{found.st_size} {found.st_mtime_ns}"

    def sizes(self) -> dict[str, int]:
        with reaching(self):
            try:
                with os.scandir(self) as entries:
                    return {entry.name: entry.stat().st_size for entry in entries}
            except FileNotFoundError:
                return {}

    def below(self, suffixes: Collection[str] = (), skip: str = "") -> Iterator[Found]:
        # Only the names in one folder and those above it are held at once.
        above = [("", iter(self._names_in("", "")))]
        while above:
            folder, names = above[-1]
            name, is_folder = next(names, ("", False))
            if not name:
                above.pop()
            elif is_folder:
                above.append((f"{folder}{name}/", iter(self._names_in(f"{folder}{name}", skip))))
            elif not suffixes or os.path.splitext(name)[1].lower() in suffixes:  # noqa: PTH122
                yield Found(self / f"{folder}{name}", f"{folder}{name}")

    def _names_in(self, folder: str, skip: str) -> list[tuple[str, bool]]:
        """Files and folders in a folder, sorted, with whether each is a folder; no hidden ones."""
        with (
            translated(DataError, "cannot be read", self / folder),
            os.scandir(self / folder) as entries,
        ):
            found = [e for e in entries if not e.name.startswith(".")]
            if skip and any(entry.name == skip and entry.is_file() for entry in found):
                return []
            kinds = [(e.name, e.is_dir(follow_symlinks=False), e.is_file()) for e in found]
            return sorted((name, folder) for name, folder, file in kinds if folder or file)

    def matching(self, base: str) -> Iterator[tuple[Found, bool]]:
        base = str(Path(base)) if base else ""
        for text in sorted(globs.glob(str(self), recursive=True)):  # noqa: PTH207
            path = Local(text)
            yield Found(path, relative(text, base)), path.is_dir()

    def remove(self) -> None:
        with reaching(self):
            self.unlink(missing_ok=True)

    def make_folder(self) -> None:
        with reaching(self):
            self.mkdir(parents=True, exist_ok=True)

    def writing(self, force: bool = False) -> AbstractContextManager[Path]:
        return atomic_path(self, force)
