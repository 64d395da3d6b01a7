"""Files appear whole or not at all: written beside their final name, then renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from cvae.errors import OutputError

_NUMBERS = count()  # so that threads of one process do not meet


def check_writable(path: Path, force: bool) -> None:
    """Raises OutputError when `path` exists and `force` is off, or when its folder is missing."""
    if path.is_dir():
        raise OutputError(f"{path}: is a folder, expected the name of a file")
    if path.exists() and not force:
        raise OutputError(f"{path}: exists already; use --force to overwrite it")
    if not path.parent.is_dir():
        raise OutputError(f"{path}: there is no folder {path.parent}")


@contextmanager
def atomic_path(path: Path, force: bool = False) -> Iterator[Path]:
    """A temporary path in the folder of `path`, renamed to it when the block ends without an error.

    Raises OutputError when the file exists and `force` is off, or cannot be written.
    """
    check_writable(path, force)
    temporary: Path | None = None
    try:
        # The suffix stays last: libraries choose a file format by it.
        temporary = path.with_name(f".cvae-{os.getpid()}-{next(_NUMBERS)}{path.suffix}")
        yield temporary
        check_writable(path, force)
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes, force: bool = False) -> None:
    """Writes `data` to `path` in one step; raises OutputError as `atomic_path` does."""
    with atomic_path(path, force) as temporary:
        temporary.write_bytes(data)
