"""Many images in one file, or in a folder of files."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cvae.codec import Codec
    from cvae.packs.decode import Pack
    from cvae.packs.reader import Reader

# What a file raises that is closed, written to, or of text; and a path with a null character.
_UNREADABLE = (OSError, ValueError, TypeError, AttributeError)

_SHOWN = 3  # damages in an error


def open(
    place: Any,
    model: str | Path | Codec | None = None,
    *,
    damaged: bool = False,
    max_pixels: int | None = None,
) -> Pack:
    """Opens a pack for decoding; close it, or use it in a `with` statement.

    Args:
        place: a pack, or a folder of packs with its manifest, by its path or URL; or an open file.
        model: name or path of a model, or its codec; None for the one that the pack names.
        damaged: open a damaged pack, too; `Pack.reader.damage` reports the damage.
        max_pixels: of an image that was fitted, and is restored; see `Codec.restoring`.

    Raises:
        FormatError: not a pack, or its header, index or manifest is damaged.
        ModelNotFoundError: its model, or the given one, is not here.
        StorageError: it cannot be reached, or is no path and no file that is open for reading.
    """
    from cvae import codec as codecs
    from cvae.checks import truth
    from cvae.data import places
    from cvae.errors import FormatError, at
    from cvae.packs.decode import Pack
    from cvae.packs.reader import shortened

    damaged = truth(damaged, "damaged")
    reader, name = open_reader(place), _name(place)
    try:
        with at(name):
            if reader.damage and not damaged:
                raise FormatError("; ".join(shortened(reader.damage, _SHOWN)))
            model_id = reader.header.model_id
            codec = codecs.find_codec(model_id) if model is None else codecs.open_model(model)
            where = None if hasattr(place, "read") else places.locate(place).absolute()
            return Pack(reader, codec.restoring(max_pixels), name, where)
    except BaseException:
        reader.close()
        raise


def open_reader(place: Any) -> Reader:
    """Opens a pack without its model; raises as `open` does."""
    from cvae.checks import expect
    from cvae.data import places
    from cvae.errors import StorageError, at, translated
    from cvae.packs import folder, reader

    is_file = hasattr(place, "read")
    if not is_file:
        expect(place, (str, Path, places.Remote), "a path, a URL or an open file", StorageError)
        if (location := places.locate(place)).is_folder():
            return folder.FolderReader(location)
    name = _name(place)
    with at(name), translated(StorageError, "cannot be read", name, _UNREADABLE):
        file = place if is_file else location.open("rb")
        try:
            return reader.open_file(file if file.seekable() else _spooled(file))
        except BaseException:
            with suppress(Exception):  # which would hide what is wrong
                file.close()
            raise


def _name(place: Any) -> str:
    """What errors call a place; nothing for an open file."""
    return "" if hasattr(place, "read") else str(place)


def _spooled(file: Any) -> Any:
    """A copy on disk of a file that cannot seek: the index of a pack is at its end.

    Raises FormatError when it does not begin as a pack: it may have no end.
    """
    import shutil
    import tempfile

    from cvae.data.contents import HEAD
    from cvae.errors import OutputError, translated
    from cvae.packs.layout import Header

    start = file.read(HEAD)
    Header.from_bytes(start)
    spool = tempfile.TemporaryFile()  # noqa: SIM115  # the reader closes it
    with translated(OutputError, "cannot be written", tempfile.gettempdir()):
        spool.write(start)
        shutil.copyfileobj(file, spool)
        spool.flush()
    return spool
