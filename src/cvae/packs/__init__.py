"""Many images in one file, or in a folder of files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from cvae.data.places import Location
    from cvae.packs.decode import Pack
    from cvae.packs.reader import Reader

    Place = str | Location | BinaryIO  # a path, a URL, or an open file that need not seek


def open(place: Place, model: str | Path | None = None, *, damaged: bool = False) -> Pack:
    """Opens a pack for decoding; close it, or use it in a `with` statement.

    Args:
        place: a pack's file, or a folder of packs with its manifest.
        model: name or path of a model; None for the one that the pack names.
        damaged: open a damaged pack, too; `Pack.reader.damage` reports the damage.

    Raises:
        FormatError: not a pack, or its header, index or manifest is damaged.
        ModelNotFoundError: its model, or the given one, is not here.
        StorageError: it cannot be reached.
    """
    from cvae import codec as codecs
    from cvae.errors import FormatError, at
    from cvae.models import registry
    from cvae.packs.decode import Pack

    name = _name(place)
    reader = open_reader(place)
    try:
        with at(name):
            if reader.damage and not damaged:
                raise FormatError("; ".join(map(str, reader.damage)))
            model_id = reader.header.model_id
            opened = registry.find_by_id(model_id) if model is None else registry.open_model(model)
            return Pack(reader, codecs.Codec(opened), name)
    except BaseException:
        reader.close()
        raise


def open_reader(place: Place) -> Reader:
    """Opens a pack without its model.

    Raises:
        FormatError: not a pack, or its header or manifest is damaged.
        StorageError: it cannot be reached.
    """
    from cvae.data import places
    from cvae.errors import StorageError, at, translated
    from cvae.packs import folder, reader

    if isinstance(place, str | Path | places.Remote):
        location = places.locate(str(place))
        if places.is_folder(location):
            return folder.open_folder(location)
        with translated(StorageError, "cannot be read", place):
            file = location.open("rb")
    else:
        file = place if place.seekable() else _spooled(place)
    try:
        with at(_name(place)):
            return reader.open_file(file)
    except BaseException:
        file.close()
        raise


def _spooled(file: BinaryIO) -> BinaryIO:
    """A copy on disk: the index of a pack is at its end."""
    import shutil
    import tempfile

    spool = tempfile.TemporaryFile()  # noqa: SIM115  # the reader closes it
    shutil.copyfileobj(file, spool)
    return spool


def _name(place: Place) -> str:
    return "" if hasattr(place, "read") and hasattr(place, "seekable") else str(place)
