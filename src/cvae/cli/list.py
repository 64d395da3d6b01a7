"""`cvae list`: what images a pack holds, one a line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import repeat
from typing import TYPE_CHECKING, Any

import click

from cvae import FormatError
from cvae.cli import asked, files, options
from cvae.cli.talk import echo, echo_cells

if TYPE_CHECKING:
    from cvae.packs.reader import Reader


@click.command("list")
@click.argument("source", metavar="PACK")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each image.")
def command(source: str, as_json: bool) -> None:
    """List the images of a pack: number, name, label and original size, with tabs between.

    \b
      cvae list scans.bin
      cvae list scans.bin | grep dogs/
      cvae list coded/ --json

    PACK is a pack or a folder of packs, here or at a URL, or `-` for stdin. What an image lacks is left
    empty. The exit code is 1 where a pack is damaged, behind what is left of it.
    """
    from cvae import packs

    talk = options.make_talk()
    with talk.trying("stdin" if source == files.STDIO else source):
        asked.check_pack(source)
        with packs.open_reader(files.place(source)) as reader:
            for image in _images(reader):
                echo(json.dumps(image)) if as_json else echo_cells(_cells(image))
            if reader.damage_in([(0, reader.images)]):
                raise FormatError("is damaged: images are missing")
    sys.stdout.flush()
    talk.end()


def _images(reader: Reader) -> Iterator[dict[str, Any]]:
    """What is known of each image in undamaged blocks."""
    from contextlib import suppress

    for place in reader.blocks():
        with suppress(FormatError):
            block = reader.read(place)
            numbers = range(place.first, place.first + place.images)
            columns = (block.names, block.labels, block.sizes)
            known = (repeat(None) if column is None else column for column in columns)
            for number, name, label, size in zip(numbers, *known, strict=False):
                yield {"number": number, "name": name or None, "label": label or None, "size": size}


def _cells(image: dict[str, Any]) -> list[str]:
    from cvae.data.labels import as_shown

    size = "x".join(map(str, image["size"] or ()))
    return [str(image["number"]), image["name"] or "", as_shown(image["label"] or {}), size]
