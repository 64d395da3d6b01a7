"""Packs put together: payloads and columns are copied, headers, checks and the index written anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

from cvae.data import labels
from cvae.errors import FormatError, at
from cvae.packs.layout import Header, Writer, unpack_fields
from cvae.packs.reader import Reader, damaged, shortened

_SHOWN = 3  # damages in an error

Named = tuple[str, Reader]  # what messages call a pack, and the pack


def common_header(readers: Sequence[Named]) -> Header:
    """The header that all packs have. Raises FormatError, which names the first that has another."""
    found = ((name, file, header) for name, reader in readers for file, header in reader.headers())
    known = next(found, None)
    if known is None:
        raise FormatError("holds no images", where=readers[0][0])
    first, _, header = known
    for name, file, other in found:
        for expected, is_so in zip(_said(header), _said(other), strict=True):
            if expected != is_so:
                where = f"{name}: {file}" if file else name
                text = f"expected {expected} as in {first}, found {is_so}"
                raise FormatError(text, where=where)
    return header


def _said(header: Header) -> Iterator[str]:
    """All that a header says, in words."""
    yield f"model {header.model_id:#06x}"
    yield f"quality {header.quality}"
    yield "inverted images" if header.inverted else "images as they are"
    yield "names" if header.names else "no names"
    yield "original sizes" if header.sizes else "no original sizes"
    yield "labels" if header.labels else "no labels"


def merge(readers: Iterable[Named], header: Header, file: BinaryIO) -> tuple[int, int]:
    """Writes one pack of all blocks to an open file; how many images and bytes it has.

    Raises FormatError at a damaged pack, or one whose labels have other fields than those of the first.
    """
    writer, first, known = Writer(file, header), "", set[str]()
    for name, reader in readers:
        for part, fields in copy(name, reader, writer).items():
            first, known = (first, known) if first else (name, fields)
            if fields != known:
                text = f"expected {labels.said(known)} as in {first}, found {labels.said(fields)}"
                raise FormatError(text, where=f"{name}: {part}" if part else name)
    writer.close()
    return writer.images, writer.size


def copy(name: str, reader: Reader, writer: Writer) -> dict[str, set[str]]:
    """Appends the blocks of a pack, which has the writer's header. Raises FormatError at damage.

    Returns the fields of the labels in each of its files.
    """
    found: dict[str, set[str]] = {}
    with at(name):
        if reader.damage:
            raise FormatError("; ".join(shortened(reader.damage, _SHOWN)))
        images = 0
        for place in reader.blocks():
            with damaged(place):
                payload, *columns = reader.read_packed(place)
                if writer.header.labels:
                    found.setdefault(place.file, set()).update(unpack_fields(columns[-1]))
            writer.write_packed(place.images, payload, columns)
            images += place.images
        if images != reader.images:
            raise FormatError(f"damaged: {reader.images - images:,} images are lost")
    return found
