"""Inputs that were skipped: their errors, said once where many fail alike, and a list of them all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from cvae.errors import CvaeError, ImageError, OutputError

_EACH = 3  # so many of one kind have a line each; of more, so many are named
_HEADING = "name\treason\n"  # the first line of a list


class _Kind:
    """Errors of one text."""

    def __init__(self) -> None:
        self.first: list[CvaeError] = []
        self.count = 0
        self.alike = True  # whether all texts are the same to the letter


class Failures:
    """Errors of inputs, by what is wrong."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str], _Kind] = {}

    def add(self, error: CvaeError, *, alike: bool = False) -> None:
        """Keeps an error that says where it happened; `alike` ones may differ in numbers."""
        text = re.sub(r"\d+", "N", error.text) if alike else error.text
        kind = self._kinds.setdefault((text, error.advice), _Kind())
        kind.count += 1
        if len(kind.first) < _EACH:
            kind.first.append(error)
        kind.alike &= error.text == kind.first[0].text

    def lines(self) -> Iterator[str]:
        """`2,103 files: exists already: a.bin, b.bin, c.bin and 2,100 more; ADVICE`; empties it.

        A few errors of one kind are a line each.
        """
        kinds, self._kinds = self._kinds, {}
        for kind in kinds.values():
            if kind.count <= _EACH:
                yield from map(str, kind.first)
                continue
            error = kind.first[0]
            noun = "images" if isinstance(error, ImageError) else "files"
            text = error.text if kind.alike else f"{error.text} or alike"
            names = ", ".join(item.where for item in kind.first)
            advice = f"; {error.advice}" if error.advice else ""
            more = f" and {kind.count - _EACH:,} more"
            yield f"{kind.count:,} {noun}: {text}: {names}{more}{advice}"


class Listing:
    """A file of all names that were skipped, a line each: the name, a tab, and the reason."""

    def __init__(self, path: Path) -> None:
        """Raises OutputError when the path cannot be written, or is a file and no such list."""
        from cvae.data.files import check_writable, open_file
        from cvae.errors import translated

        self._path, self._lines = path, [_HEADING]
        check_writable(path, force=True)
        with translated(OutputError, "cannot be read", path):
            if path.exists():
                with open_file(path) as file:
                    is_list = file.read(len(_HEADING)) == _HEADING.encode()
                if not is_list:
                    text = "exists already, and is no list of what was skipped"
                    raise OutputError(text, where=path, advice="name another file")

    def add(self, name: str, reason: str) -> None:
        from cvae.data.names import printable

        self._lines.append(f"{printable(name)}\t{printable(reason)}\n")

    def write(self) -> None:
        """Writes the file anew, whole. Raises OutputError."""
        from cvae.data.files import write_bytes

        write_bytes(self._path, "".join(self._lines).encode(), force=True)
