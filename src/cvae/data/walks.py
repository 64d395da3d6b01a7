"""The files below a folder of this machine: each folder once, whatever links lead to it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from cvae.errors import CvaeError, DataError, Notice, Refuse, told, translated


def names_below(root: str, skip: str = "", refuse: Refuse = None) -> Iterator[str]:
    """Names of all files below a folder, relative to it with / between their parts, in order.

    Hidden files and folders are ignored, and subfolders with a file named `skip`. Links are followed;
    a link to a folder that is read elsewhere, or holds this one, is left out.

    `refuse` is called with what cannot be read, and with what is left out; without it the first that
    cannot be read is raised. Raises DataError when the folder itself cannot be read.
    """
    return _Walk(root, skip, told(refuse)).names()


def no_file(path: str) -> str:
    """What messages say of something that is neither a file nor a folder."""
    is_link = os.path.islink(path)  # noqa: PTH114
    return "is a link to nothing" if is_link else "is a pipe or a device, expected a file"


class _Walk:
    def __init__(self, root: str, skip: str, refuse: Callable[[CvaeError], None]) -> None:
        self._root, self._skip, self._refuse = root, skip, refuse
        self._real = os.path.realpath(root)
        self._seen: set[tuple[int, int]] = set()  # folders, by the numbers of the file system

    def names(self) -> Iterator[str]:
        with translated(DataError, "cannot be read", self._root):
            self._is_new(self._root)
            first = self._scan(self._root)
        # Only the names in one folder and those above it are held at once.
        above = [("", iter(first))]
        while above:
            folder, names = above[-1]
            name, is_folder = next(names, ("", False))
            if not name:
                above.pop()
            elif is_folder:
                above.append((f"{folder}{name}/", iter(self._names_in(f"{folder}{name}"))))
            else:
                yield f"{folder}{name}"

    def _names_in(self, folder: str) -> list[tuple[str, bool]]:
        """Files and folders in a subfolder, as `_scan` has them; none where it cannot be read."""
        path = os.path.join(self._root, folder)  # noqa: PTH118
        try:
            if self._is_new(path):
                return self._scan(path, self._skip)
            self._leave_out(path)
        except OSError as error:
            self._refuse(DataError(f"cannot be read: {error.strerror or error}", where=path))
        return []

    def _is_new(self, path: str) -> bool:
        found = os.stat(path)  # noqa: PTH116
        key = found.st_dev, found.st_ino
        new = key not in self._seen
        self._seen.add(key)
        return new

    def _scan(self, path: str, skip: str = "") -> list[tuple[str, bool]]:
        """Files and folders in a folder, sorted, with whether each is a folder; no hidden ones."""
        with os.scandir(path) as entries:
            found = [entry for entry in entries if not entry.name.startswith(".")]
            kinds = [(entry.name, self._is_folder(entry)) for entry in found]
        if (skip, False) in kinds:
            return []
        return sorted((name, is_folder) for name, is_folder in kinds if is_folder is not None)

    def _is_folder(self, entry: os.DirEntry[str]) -> bool | None:
        """Whether an entry is a folder or a file; None, and said, where it is neither."""
        try:
            if entry.is_dir():
                if not entry.is_symlink() or not self._is_met_elsewhere(entry.path):
                    return True
                self._leave_out(entry.path)
                return None
            if entry.is_file():
                return False
            wrong = no_file(entry.path)
        except OSError as error:  # a link to itself, or one into a closed folder
            wrong = f"cannot be read: {error.strerror or error}"
        self._refuse(DataError(wrong, where=entry.path))
        return None

    def _is_met_elsewhere(self, link: str) -> bool:
        """Whether a link to a folder leads to where this walk comes anyway, or came from."""
        real = os.path.realpath(link)
        inside = os.path.join(self._real, "")  # noqa: PTH118
        if real.startswith(inside):
            return f"{os.sep}." not in real.removeprefix(self._real)  # in no hidden folder
        return inside.startswith(os.path.join(real, ""))  # noqa: PTH118

    def _leave_out(self, path: str) -> None:
        self._refuse(
            Notice("leads to a folder that is read elsewhere, and was left out", where=path)
        )
