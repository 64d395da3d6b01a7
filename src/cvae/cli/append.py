"""`cvae pack --append`: what holds for images that are added to a pack."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from cvae import CvaeError, FormatError
from cvae.cli import asked
from cvae.cli.files import STDIO
from cvae.errors import at

if TYPE_CHECKING:
    from cvae.codec import Codec
    from cvae.data.places import Location
    from cvae.options import EncodeOptions
    from cvae.packs.layout import Header
    from cvae.packs.reader import Reader


def target(output: str | None) -> Location:
    """The pack that is added to. Raises UsageError where none is named, FormatError where it is none."""
    from cvae.data import places
    from cvae.data.contents import What, what_lies_at

    if output is None or output == STDIO:
        raise click.UsageError("--append adds to a pack: -o NAME.bin")
    asked.check_pack(output)
    found = places.locate(output)
    if what_lies_at(output) is not What.PACK:
        what = "another file or folder" if found.exists() else "none"
        raise FormatError(f"expected a pack to add to, found {what}", where=output)
    return found


@contextmanager
def opened(place: Location) -> Iterator[Reader]:
    """The pack that is added to, undamaged as far as opening shows it."""
    from cvae import packs

    with packs.open_reader(place) as reader:
        if reader.damage:
            raise FormatError(str(reader.damage[0]), where=place)
        yield reader


def codec_of(model: str | None, header: Header, place: Location) -> Codec:
    """The codec of a pack, or that of -m. Raises ModelNotFoundError where it is another's, or not here."""
    from cvae.codec import find_codec, open_model

    with at(place):
        codec = find_codec(header.model_id) if model is None else open_model(model)
        codec.check_id(header.model_id)
    return codec


def options_of(
    header: Header, options: EncodeOptions, codec: Codec, place: Location
) -> EncodeOptions:
    """The options with which a pack was written. Raises CvaeError where others are asked for."""

    def refuse(expected: str, found: str) -> None:
        raise CvaeError(f"expected {expected} of all images, found {found}", where=place)

    if options.quality not in (None, header.quality):
        refuse(f"quality {header.quality}", f"quality {options.quality}")
    if options.lossless and not codec.lossless:
        refuse(f"quality {header.quality}", "--lossless")
    if options.invert and not header.inverted:
        refuse("no inversion", "--invert")
    if codec.reading(options).scales and not header.sizes:
        refuse("the size of the model", "--fit" if options.fit else "--crop or --resize")
    fit = options.fit or header.sizes
    return replace(
        options, quality=header.quality, invert=header.inverted, names=header.names, fit=fit
    )
