"""Many images in one file, or in a folder of files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from cvae.packs.decode import Pack
    from cvae.packs.reader import Reader


def open(place: Any, model: str | Path | None = None, *, damaged: bool = False) -> Pack:
    """Opens a pack for decoding; close it, or use it in a `with` statement.

    Args:
        place: a pack, or a folder of packs with its manifest, by its path or URL; or an open file.
        model: name or path of a model; None for the one that the pack names.
        damaged: open a damaged pack, too; `Pack.reader.damage` reports the damage.

    Raises:
        FormatError: not a pack, or its header, index or manifest is damaged.
        ModelNotFoundError: its model, or the given one, is not here.
        StorageError: it cannot be reached.
    """
    from cvae import codec as codecs
    from cvae.errors import FormatError, at
    from cvae.packs.decode import Pack

    reader, name = open_reader(place), _name(place)
    try:
        with at(name):
            if reader.damage and not damaged:
                raise FormatError("; ".join(map(str, reader.damage)))
            model_id = reader.header.model_id
            codec = codecs.open_model(model) if model else codecs.find_codec(model_id)
            return Pack(reader, codec, name)
    except BaseException:
        reader.close()
        raise


def open_reader(place: Any) -> Reader:
    """Opens a pack without its model; raises as `open` does."""
    from cvae.data import places
    from cvae.errors import StorageError, at, translated
    from cvae.packs import folder, reader

    name = _name(place)
    if not name:
        file = place if place.seekable() else _spooled(place)
    elif (location := places.locate(place)).is_folder():
        return folder.FolderReader(location)
    else:
        with translated(StorageError, "cannot be read", name):
            file = location.open("rb")
    try:
        with at(name):
            return reader.open_file(file)
    except BaseException:
        file.close()
        raise


def _name(place: Any) -> str:
    """What errors call a place; nothing for an open file."""
    return "" if hasattr(place, "read") else str(place)


def _spooled(file: Any) -> Any:
    """A copy on disk of a file that cannot seek: the index of a pack is at its end."""
    import shutil
    import tempfile

    from cvae.errors import OutputError, translated

    spool = tempfile.TemporaryFile()  # noqa: SIM115  # the reader closes it
    with translated(OutputError, "cannot be written", tempfile.gettempdir()):
        shutil.copyfileobj(file, spool)
        spool.flush()
    return spool
