"""Files and folders appear atomically, and last: they are written beside their name, then renamed.

Their bytes reach the disk before their names do, and their names before success is reported: a power
cut leaves the old file, or the whole new one.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, Self

from cvae.checks import shown
from cvae.errors import CvaeError, OutputError, first_line, translated

_SUFFIX = 8  # characters of a name's ending, at most
_STALE = 24 * 3600  # seconds after which a temporary file belongs to no process any more
_TEMPORARY = re.compile(r"\.cvae-[0-9a-f]{16}(\..*)?")
_OPEN = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")
_NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES, errno.EPERM}
_HELD, _HELD_BYTES = 256, 1 << 26  # files and bytes that wait for one `Files.flush`
_SYNCING = 8  # threads: a disk that is asked for many files at once writes them together
# Advice; what commands print, `cli.talk` says in their words.
EXISTS = "another name keeps it, force=True overwrites it"


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


class NotAFileError(OSError):
    """What was to be read is a device or a pipe: it may have no end, and cannot be read twice."""

    def __init__(self) -> None:
        super().__init__(errno.EINVAL, "is a device or a pipe, expected a file")


def open_file(path: str | os.PathLike[str], mode: Literal["rb"] = "rb") -> IO[bytes]:
    """A regular file for reading. Raises NotAFileError for others, which it neither reads nor waits for.

    A pipe that this process has open already, as shells name them for `<(command)`, is as good as stdin.
    """
    return open(path, mode, opener=_regular)  # `Path.open` has no opener


def _regular(path: str, flags: int) -> int:
    # To open a pipe that nobody writes to would wait for ever.
    file = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    found = os.fstat(file).st_mode
    if stat.S_ISFIFO(found) and os.fspath(path).startswith(_OPEN):
        os.set_blocking(file, True)
    elif not stat.S_ISREG(found) and not stat.S_ISDIR(found):  # Python itself refuses folders
        os.close(file)
        raise NotAFileError
    return file


def check_writable(path: Path, force: bool) -> None:
    """Raises OutputError when `path` exists and `force` is off, or is no regular file."""
    with translated(OutputError, "cannot be written", path):
        if path.is_dir():
            raise OutputError("is a folder, expected the name of a file", where=path)
        if not os.path.lexists(path):
            return
        if not force:
            raise OutputError("exists already", where=path, advice=EXISTS)
        if not path.exists():
            raise OutputError("is a link to nothing, expected a file", where=path)
        if not path.is_file():
            raise OutputError("is a device or a pipe, expected a file", where=path)


@contextmanager
def atomic_path(path: Path, force: bool = False) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it when the block ends without an error.

    A missing folder is made. A file that is overwritten keeps its mode; through a link, it is the
    file that the link names. Raises OutputError when the file exists and `force` is off, or cannot be
    written.
    """
    held = _Held.of(path, force)
    with translated(OutputError, "cannot be written", path):
        try:
            held.begin()
            yield held.temporary
            _sync(held.temporary)
            held.rename(force)
            _sync_folders({held.target.parent})
        finally:
            held.discard()


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path`, renamed to it when the block ends without an error.

    Whoever writes files there makes them durable, as `Files` does. Raises OutputError when `path`
    exists, or cannot be written.
    """
    import shutil

    temporary = _beside(path)
    with translated(OutputError, "cannot be written", path):
        try:
            if os.path.lexists(path):
                raise OutputError("exists already", where=path)
            _make_folder(path.parent)
            _tidy(path.parent)
            temporary.mkdir()
            yield temporary
            temporary.rename(path)
            _sync_folders({path.parent})
        except OutputError as error:
            error.where = error.where.replace(str(temporary), str(path))
            raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def write_bytes(path: Path, data: bytes, force: bool = False) -> None:
    """Writes `data` to `path` atomically; raises OutputError as `atomic_path` does."""
    with atomic_path(path, force) as temporary:
        temporary.write_bytes(data)


class Files:
    """Many small files: their bytes go to the disk together, which takes a fraction of the time.

    They appear some hundred at a time, the last ones when the block ends. After an error these do not.
    """

    def __init__(
        self, force: bool = False, refuse: Callable[[CvaeError], None] | None = None
    ) -> None:
        """`refuse` gets the error of each file that cannot appear; None raises the first."""
        self._force, self._refuse = force, refuse
        self._held: list[_Held] = []
        self._bytes = 0

    def write(self, path: Path, data: bytes) -> None:
        """Raises OutputError as `atomic_path` does."""
        held = _Held.of(path, self._force)
        try:
            with translated(OutputError, "cannot be written", path):
                held.begin()
                held.temporary.write_bytes(data)
        except BaseException:
            held.discard()
            raise
        self._held.append(held)
        self._bytes += len(data)
        if len(self._held) >= _HELD or self._bytes >= _HELD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Makes the files appear, and durable. Raises OutputError without `refuse`."""
        held, self._held, self._bytes = self._held, [], 0
        try:
            errors = _each(held, lambda item: _sync(item.temporary))
            named = [item for item, error in zip(held, errors, strict=True) if error is None]
            errors += _each(named, lambda item: item.rename(self._force), threads=1)
            _sync_folders({item.target.parent for item in named})
        finally:
            for item in held:
                item.discard()
        for error in filter(None, errors):
            if self._refuse is None:
                raise error
            self._refuse(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        if kind is None:
            self.flush()
        for item in self._held:
            item.discard()


class _Held(NamedTuple):
    """A file on its way to its name."""

    path: Path  # what messages call it
    target: Path  # where it goes: of a link, the file that it names
    temporary: Path
    mode: int | None  # of the file that is overwritten

    @classmethod
    def of(cls, path: Path, force: bool) -> _Held:
        """Raises OutputError when nothing may be written there."""
        check_writable(path, force)
        with translated(OutputError, "cannot be written", path):
            linked = path.is_symlink()
            target = path.resolve() if linked else path
            mode = stat.S_IMODE(target.stat().st_mode) if force and target.exists() else None
        return cls(path, target, _beside(target), mode)

    def begin(self) -> None:
        """Makes the folder, and the file where it is to have a mode before it has bytes."""
        _make_folder(self.target.parent)
        _tidy(self.target.parent)
        if self.mode is not None:
            os.close(os.open(self.temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            self.temporary.chmod(self.mode | stat.S_IWUSR)

    def rename(self, force: bool) -> None:
        if self.mode is not None:
            self.temporary.chmod(self.mode)
        if not force:
            try:
                # Unlike a rename, a link fails where another process has made the file meanwhile.
                os.link(self.temporary, self.target)
                self.temporary.unlink()
                return
            except FileExistsError as error:
                raise OutputError("exists already", where=self.path, advice=EXISTS) from error
            except OSError:
                check_writable(self.path, force)  # a file system without links
        self.temporary.replace(self.target)

    def discard(self) -> None:
        """Deletes the temporary file, if it is there."""
        with suppress(OSError):
            self.temporary.unlink(missing_ok=True)


def _each(
    items: list[_Held], work: Callable[[_Held], None], threads: int = _SYNCING
) -> list[OutputError | None]:
    """Does the work of every item; the error of each."""

    def tried(item: _Held) -> OutputError | None:
        try:
            with translated(OutputError, "cannot be written", item.path):
                work(item)
        except OutputError as error:
            return error
        return None

    if threads == 1 or len(items) < 2:
        return list(map(tried, items))
    from concurrent.futures import ThreadPoolExecutor  # here because the import loads a lot

    with ThreadPoolExecutor(min(threads, len(items))) as pool:
        return list(pool.map(tried, items))


def _beside(path: Path) -> Path:
    # Libraries choose a file format by the suffixes, so they stay, unless one makes the name too long.
    # The rest is random: no other process has it, on whatever machine.
    suffixes = "".join(suffix for suffix in path.suffixes[-2:] if len(suffix) <= _SUFFIX)
    return path.with_name(f".cvae-{os.urandom(8).hex()}{suffixes}")


def _make_folder(folder: Path) -> None:
    """Makes a folder and those above it; their names are durable."""
    made = []
    missing = folder
    while not missing.exists():
        made.append(missing)
        missing = missing.parent
    folder.mkdir(parents=True, exist_ok=True)
    _sync_folders({path.parent for path in made})


def _sync(path: Path) -> None:
    """Returns when a file's bytes are on the disk."""
    file = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _sync_folders(folders: set[Path]) -> None:
    """Returns when the names in folders are on the disk, where the system can say so."""
    if os.name == "nt":
        return
    for folder in folders:
        try:
            file = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(file)
            finally:
                os.close(file)
        except OSError as error:
            if error.errno not in _NO_SYNC:
                text = f"cannot be written: {error.strerror}"
                raise OutputError(text, where=folder) from error


_tidied: set[Path] = set()


def _tidy(folder: Path) -> None:
    """Deletes what processes that were killed had begun here: our temporaries, once a day old.

    Each folder is looked at once, whatever goes wrong: it is no business of who writes here.
    """
    if folder in _tidied:
        return
    _tidied.add(folder)
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _TEMPORARY.fullmatch(entry.name):
                with suppress(OSError):
                    _remove_stale(entry)


def _remove_stale(entry: os.DirEntry[str]) -> None:
    if entry.is_symlink():
        return
    path, is_folder = Path(entry.path), entry.is_dir(follow_symlinks=False)
    inside: Any = (Path(name) for name, _, _ in os.walk(path)) if is_folder else ()
    # A folder that is being filled is as new as the newest one in it.
    newest = max(item.lstat().st_mtime for item in (path, *inside))
    if time.time() - newest < _STALE:
        return
    if is_folder:
        import shutil

        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink()


def is_same(one: Path, other: Path) -> bool:
    """Whether two paths lead to one file, which may be missing."""
    found = identity(one)
    return one == other or (found is not None and found == identity(other))


def identity(path: Path) -> tuple[int, int] | None:
    """What is equal for all paths that lead to one file; None where there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino
