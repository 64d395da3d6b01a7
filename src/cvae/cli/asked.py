"""Which pack, and which of its images, a command is asked for."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

import click

from cvae import CvaeError, FormatError
from cvae.cli import files

if TYPE_CHECKING:
    from cvae.packs.decode import Pack
    from cvae.packs.reader import Range

_NUMBERS = re.compile(r"[0-9]{1,15}(-[0-9]{1,15})?(,[0-9]{1,15}(-[0-9]{1,15})?)*")


def check_pack(source: str) -> None:
    """Raises FormatError, which names the command that fits, when a file is no pack."""
    from cvae.data.contents import What

    kind, decode = files.what(source), files.typed("decode", [source])
    where = "stdin" if source == files.STDIO else source
    if kind is What.CONTAINER:
        advice = f"{decode} decodes it"
        raise FormatError("holds one image and is no pack", where=where, advice=advice)
    if kind in (What.FOLDER, What.RUN):
        raise FormatError(
            "expected a pack, or a folder of packs with its manifest.json, found another folder",
            where=where, advice=f"{decode} decodes a folder of single files",
        )  # fmt: skip


def chosen(pack: Pack, only: tuple[str, ...], patterns: tuple[str, ...]) -> list[Range]:
    """The images that are asked for, by number, name or pattern; all of them when none are."""
    from cvae.packs.ranges import ranges_of

    if not only and not patterns:
        return [(0, len(pack))]
    ranges: list[Range] = []
    for text in only:
        if _NUMBERS.fullmatch(text):
            ranges += map(_range, text.split(","))
        else:
            ranges += _named(pack, pack.find(text), f"there is no image named {text!r}")
    for text in patterns:
        found, missing = pack.match(text), f"there is no image whose name matches {text!r}"
        ranges += _named(pack, found, missing, "" if found else _meant(pack, text))
    chosen = ranges_of(ranges)
    if chosen[-1][1] > len(pack):
        raise CvaeError(f"there is no image {chosen[-1][1] - 1}, expected 0 to {len(pack) - 1}")
    return chosen


def _range(part: str) -> Range:
    first, _, last = part.partition("-")
    found = int(first), int(last or first) + 1
    if found[0] >= found[1]:
        raise click.UsageError(f"--only {part}: expected the smaller number first")
    return found


def _meant(pack: Pack, text: str) -> str:
    """Advice where no name matches a text: it may be a folder of names, or numbers of images."""
    below = f"{text.rstrip('/')}/*"
    if pack.match(below):
        return f"{shlex.quote(below)} takes those of the folder"
    return f"--only {text} takes images by number" if _NUMBERS.fullmatch(text) else ""


def _named(pack: Pack, numbers: list[int], missing: str, advice: str = "") -> list[Range]:
    """Images that were found by their names. Raises CvaeError when there are none."""
    if not numbers:
        none = "this pack has no names; --only takes numbers, as 17"
        raise CvaeError(missing, advice=advice if pack.reader.named else none)
    return [(number, number + 1) for number in numbers]
