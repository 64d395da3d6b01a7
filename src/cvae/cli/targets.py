"""Names of results: short where they can be, and no two alike."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

_LAST = 3  # the longest of the names that are tried


class Source(NamedTuple):
    """An input file."""

    path: Path | None  # None is stdin
    given: Path = Path()  # the folder that was named, or that of a file that was
    below: Path = Path()  # the folder below that one which it is in


def targets(
    sources: Sequence[Source], output: Path, derive: Callable[[str], str]
) -> Sequence[Path | None]:
    """Where each result goes, below a folder; None for what has no name of its own.

    Names are of the input's stem. Where they meet, they keep the input's ending; then they go to a
    folder named as the one that was given.
    """
    tries = [0] * len(sources)
    found = [_name(source, 0, derive) for source in sources]
    while meeting := _meeting(found, tries):
        for row in meeting:
            tries[row] += 1
            found[row] = _name(sources[row], tries[row], derive)
    first = {name: row for row, name in reversed([*enumerate(found)])}
    return [output / name if first[name] == row else None for row, name in enumerate(found)]


def _meeting(found: list[Path], tries: list[int]) -> list[int]:
    """The rows whose names are not theirs alone, and that have others to try; shorter ones give way."""
    rows = defaultdict[Path, list[int]](list)
    for row, name in enumerate(found):
        rows[name].append(row)
    meeting = []
    for group in rows.values():
        least = min(tries[row] for row in group)
        if len(group) > 1 and least < _LAST:
            meeting += [row for row in group if tries[row] == least]
    return meeting


def _name(source: Source, attempt: int, derive: Callable[[str], str]) -> Path:
    """A name to try: of the stem or the whole name, below the output or a folder there."""
    if source.path is None:
        return Path(derive("stdin"))
    name = derive(source.path.name if attempt % 2 else source.path.stem)
    top = "" if attempt < 2 else Path(os.path.abspath(source.given)).name  # noqa: PTH100
    return Path(top, source.below, name)
