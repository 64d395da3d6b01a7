"""Arguments that name inputs: the files that each stands for."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cvae.cli.talk import Talk
from cvae.cli.targets import Source
from cvae.errors import CvaeError, ImageError, Notice

if TYPE_CHECKING:
    from cvae.data.listing import Choose

STDIN = "-"


def several(inputs: Sequence[str]) -> bool:
    """Whether arguments may stand for several files."""
    return len(inputs) > 1 or any(_is_many(item) for item in inputs)


def _is_many(item: str) -> bool:
    """Whether an argument is a folder or a pattern of names."""
    from cvae.data import places

    return item != STDIN and (is_folder(item) or places.is_pattern(item))


def is_folder(item: str) -> bool:
    """Whether an argument is a folder; unlike that of a Path, this never raises."""
    return os.path.isdir(item)  # noqa: PTH112


def sources_of(
    inputs: Sequence[str], choose: Choose, talk: Talk
) -> tuple[list[Source], list[CvaeError]]:
    """Input files, each once, and the errors of those that cannot be had.

    `choose` takes files from a folder; all that a pattern matches are taken. Raises the error of the
    one argument.
    """
    sources: dict[str, Source] = {}
    wrong: list[CvaeError] = []
    for item in inputs:
        if item == STDIN:
            sources[item] = Source(None)
        elif not _is_many(item):
            sources.setdefault(os.path.abspath(item), Source(Path(item), Path(item).parent))  # noqa: PTH100
        else:
            found, refused = (_below if is_folder(item) else _matching)(item, choose, talk)
            if not found and len(inputs) == len(refused) == 1 and refused[0].where == item:
                raise refused[0]
            for source in found:
                sources.setdefault(os.path.abspath(str(source.path)), source)  # noqa: PTH100
            wrong += refused
    return list(sources.values()), wrong


def _below(item: str, choose: Choose, talk: Talk) -> tuple[list[Source], list[CvaeError]]:
    """The files of a folder that are chosen, and the errors of those that cannot be had."""
    from cvae.data import places

    wrong: list[CvaeError] = []
    refuse, folder = _refusing(wrong, talk), Path(item)
    names = [Path(file.name) for file in choose(places.locate(item).below(refuse=refuse), refuse)]
    if not names and not wrong:
        wrong = [ImageError("expected files to read, found none in this folder", where=item)]
    return [Source(folder / name, folder, name.parent) for name in names], wrong


def _matching(item: str, _: Choose, talk: Talk) -> tuple[list[Source], list[CvaeError]]:
    """The files that a pattern matches, and the errors of those that cannot be had."""
    from cvae.data import places

    wrong: list[CvaeError] = []
    try:
        paths = [Path(str(file.place)) for file in places.find(item, _refusing(wrong, talk))]
    except CvaeError as error:  # it matches none
        return [], [error]
    return [Source(path, path.parent) for path in paths], wrong


def _refusing(wrong: list[CvaeError], talk: Talk) -> Callable[[CvaeError], None]:
    """Keeps errors in a list, and says notices."""

    def refuse(error: CvaeError) -> None:
        if isinstance(error, Notice):
            talk.error(error)
        else:
            wrong.append(error)

    return refuse
