"""What a file or folder can be asked, wherever it lies, and the error when storage does not answer."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path, PurePath
from typing import BinaryIO, Literal, NamedTuple, Protocol

from cvae.errors import CvaeError, MissingExtraError, StorageError, first_line

S3 = ("s3", "s3a")


class Place(Protocol):
    """A file or folder. Methods raise StorageError when it cannot be reached, unless they say otherwise."""

    @property
    def name(self) -> str: ...  # the last part of its path
    @property
    def suffix(self) -> str: ...  # the ending of its name, with the dot
    @property
    def far(self) -> bool: ...  # reading it waits for a network
    def __truediv__(self, name: str, /) -> Place: ...  # in this folder
    def absolute(self) -> Place: ...  # the same, whatever folder a process was started in
    def is_folder(self) -> bool: ...
    def is_file(self) -> bool: ...  # and no pipe or device, of which nothing can be read twice
    def exists(self) -> bool: ...
    def remove(self) -> None: ...  # deletes the file; it may be gone already
    def make_folder(self) -> None: ...  # makes sure that this folder can be written to

    def open(self, mode: Literal["rb"], /) -> BinaryIO:
        """The file for reading, which can seek. Raises OSError when it is missing or may not be read."""

    def stamp(self) -> str:
        """A text that changes when the file does. Raises OSError when there is none."""

    def sizes(self) -> dict[str, int]:
        """The names in this folder, with bytes of the files; empty where there is no such folder."""

    def below(self, suffixes: Collection[str] = (), skip: str = "") -> Iterator[Found]:
        """All files below this folder, except hidden ones, in order. Links to folders are not followed.

        Args:
            suffixes: lower-case endings; empty for any.
            skip: subfolders that hold a file of this name are left out.

        Raises:
            DataError: a folder cannot be read.
        """

    def matching(self, base: str) -> Iterator[tuple[Found, bool]]:
        """What this place matches as a glob pattern, in order, and whether it is a folder.

        Names are relative to `base`: the folders in front of the first part that is a pattern.
        """

    def writing(self, force: bool = False) -> AbstractContextManager[Path]:
        """A temporary path. What is written there is here, whole, when the block ends without an error.

        Raises:
            OutputError: the file exists and `force` is off, or cannot be written.
        """


class Found(NamedTuple):
    """A file that was listed."""

    place: Place
    name: str  # relative to where it was looked for, with / between its parts
    known: str = ""  # its stamp, where listing told it

    @property
    def stamp(self) -> str:
        """A text that changes when the file does. Raises StorageError."""
        with reaching(self.place):
            return self.known or self.place.stamp()


def relative(path: str, base: str) -> str:
    """A path as one relative to a folder in front of it, with / between its parts."""
    return PurePath(path).as_posix().removeprefix(base).lstrip("/")


@contextmanager
def reaching(place: object) -> Iterator[None]:
    """Turns whatever storage of any kind raises in the block into one error.

    Raises:
        StorageError: whatever went wrong; it is the cause.
        MissingExtraError: a package is missing.
    """
    try:
        yield
    except CvaeError:
        raise
    except ImportError as error:
        if getattr(place, "protocol", "") in S3:
            raise MissingExtraError("s3fs", "s3") from error
        raise StorageError(first_line(error), where=place) from error
    except OSError as error:
        why = "no access" if isinstance(error, PermissionError) else "cannot be reached"
        raise StorageError(f"{why}: {error.strerror or first_line(error)}", where=place) from error
    except Exception as error:  # of any kind: every storage has its own
        raise StorageError(f"cannot be reached: {first_line(error)}", where=place) from error
