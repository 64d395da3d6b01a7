"""The manifest of a folder of packs, the shards, and what may be written there. docs/format.md."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from cvae import records
from cvae.bitstream.container import LOSSLESS, MAX_QUALITY, unsupported
from cvae.data import places
from cvae.data.contents import FIRST_PACK, MANIFEST, PACKS_KIND, UNFINISHED
from cvae.data.files import NotAFileError
from cvae.data.places import Place
from cvae.errors import CvaeError, FormatError, OutputError, StorageError, at, translated
from cvae.models.file import Name as ModelName
from cvae.options import Tally

FORMAT = 0
# What a killed worker had begun to write.
_BEGUN = re.compile(r"(part-[0-9]{5,9}\.(bin|json))?\.cvae-[0-9a-f]{16}(\.(bin|json))?")
# That, shards, and the notes beside them.
_OURS = re.compile(rf"part-[0-9]{{5,9}}\.(bin|json)|{_BEGUN.pattern}")
_MAX_COUNT = (1 << 48) - 1  # of a shard, and of images in all of them
_LIMIT, _NOTE_LIMIT = 1 << 28, 1 << 24  # bytes; a million shards have so long a manifest
_SAID = {"changes", "notices", "errors"}  # fields of a part that are not written
_Count = Annotated[int, Meta(ge=0, le=_MAX_COUNT)]


@dataclass(frozen=True)
class Part:
    """What is known of a shard: a note beside it first, then a line of the manifest.

    The fields that `Tally` has, too, are explained there.
    """

    # No manifest makes a reader open a file elsewhere.
    file: Annotated[str, Meta(pattern=r"^part-[0-9]{5,9}\.bin\Z")]
    request: str  # a digest of what was asked for, and of what the images are
    images: _Count
    file_bytes: _Count
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    left_out: _Count
    messages: tuple[str, ...]  # why the first of the skipped images were skipped
    first: _Count  # its first image; 0 in a note
    verified: _Count
    psnr_sum: Annotated[float, Meta(ge=0, le=_MAX_COUNT)]
    poor: _Count
    poor_sampled: _Count
    poor_inverted: _Count
    labelled: _Count = 0  # not written where it is none
    # What a worker has to say, which is not written: what images lost or had converted when they were
    # read, in words, and how many of them; notices; and all that was skipped or passed over.
    changes: dict[str, _Count] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    errors: tuple[CvaeError, ...] = ()

    @property
    def tally(self) -> Tally:
        return Tally(**{field.name: getattr(self, field.name) for field in fields(Tally)})

    @property
    def values(self) -> dict[str, Any]:
        """What is written of it."""
        left_out = _SAID if self.labelled else {*_SAID, "labelled"}
        return {name: value for name, value in vars(self).items() if name not in left_out}

    def to_json(self) -> bytes:
        return records.dump(self.values)


@dataclass(frozen=True)
class Manifest:
    """What a folder of shards holds."""

    model: ModelName
    model_id: Annotated[int, Meta(ge=0, le=0xFFFF)]
    quality: Annotated[int, Meta(ge=LOSSLESS, le=MAX_QUALITY)]
    inverted: bool
    fitted: bool  # packs have a column of original sizes
    shards: tuple[Part, ...]
    request: dict[str, Any]  # what was asked for

    @property
    def tally(self) -> Tally:
        """That of all shards; computed each time."""
        return sum((part.tally for part in self.shards), Tally())

    def to_json(self) -> bytes:
        tally = self.tally
        values = {
            "kind": PACKS_KIND, "format": FORMAT, **vars(self), "images": tally.images,
            "file_bytes": tally.file_bytes, "left_out": tally.left_out, "psnr_mean": tally.psnr_mean,
        }  # fmt: skip
        del values["shards"]  # it is long, so it comes last
        return records.dump({**values, "shards": [part.values for part in self.shards]})

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """The inverse of `to_json`. Raises ValueError when it is damaged, or of a later version."""
        values = records.parse(data)
        records.check_format(values, FORMAT)
        manifest = msgspec.convert(values, cls)
        if manifest.shards != numbered(manifest.shards):
            raise ValueError("expected shards that follow each other")
        if manifest.tally.images > _MAX_COUNT:
            raise ValueError(f"expected at most {_MAX_COUNT:,} images in all shards")
        return manifest


def is_ours(name: str) -> bool:
    """Whether a file of a folder of packs is one that a run writes and replaces, beside the manifest."""
    return _OURS.fullmatch(name) is not None


def note_name(part: str) -> str:
    """The name of the note beside a shard."""
    return part.removesuffix(".bin") + ".json"


def read_note(folder: Place, part: str) -> Part | None:
    """The note beside a shard; None where there is none, or a damaged one. Raises StorageError."""
    try:
        values = records.parse(places.read(folder / note_name(part), _NOTE_LIMIT))
        return msgspec.convert(values, Part)
    except (OSError, ValueError):
        return None


def digest_of(folder: Place, part: str) -> str | None:
    """The sha256 of a shard's file; None where there is none. Raises StorageError."""
    try:
        with (folder / part).open("rb") as file, places.reaching(folder / part):
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, NotAFileError):
        return None
    except OSError as error:
        raise StorageError(f"cannot be read: {error}", where=folder / part) from error


def read_manifest(folder: Place) -> Manifest:
    """The manifest of a folder of packs.

    Raises:
        FormatError: the folder is not finished, or the manifest is missing, damaged or of a later cvae.
        StorageError: the folder cannot be reached.
    """
    place = folder / MANIFEST
    if not place.exists():
        raise _missing(folder)
    with (
        at(place),
        translated(FormatError, "cannot be read", place),
        translated(FormatError, "damaged: expected a manifest of shards", place, ValueError),
    ):
        try:
            return Manifest.from_json(places.read(place, _LIMIT))
        except records.LaterError as error:
            raise unsupported(f"format {error.format}") from error


def _missing(folder: Place) -> FormatError:
    advice = ""
    if (folder / UNFINISHED).exists():
        text = "is not finished: it is still being written, or was interrupted"
        advice = "the command that wrote it goes on with resume=True"
    elif (folder / FIRST_PACK).exists():
        text, advice = f"holds packs but no {MANIFEST}", "its packs decode one by one"
    else:
        text = f"expected a pack, or a folder of packs with its {MANIFEST}, found another folder"
    return FormatError(text, where=folder, advice=advice)


def check(folder: Place, request: dict[str, Any], *, resume: bool, force: bool) -> Manifest | None:
    """Checks that shards may be written to a folder; the manifest of a finished run that is resumed.

    The shards are a function of the request; `resume` goes on with a run of the same, `force`
    overwrites the shards of any.

    Raises:
        OutputError: the folder is not empty without `resume` or `force`, or holds another request's run.
        FormatError: the folder holds packs and has lost its manifest.
        StorageError: the folder cannot be reached.
    """
    names = folder.sizes()
    if force or not names:
        return None
    if not resume:
        advice = "resume=True goes on with an interrupted run, force=True overwrites its shards"
        raise OutputError("is not empty", where=folder, advice=advice)
    if FIRST_PACK in names and not {MANIFEST, UNFINISHED} & names.keys():
        raise _missing(folder)
    manifest = None
    # One that was cut off while the notes were still there is written again; without them, all is lost.
    with suppress(FormatError) if UNFINISHED in names else nullcontext():
        manifest = read_manifest(folder) if MANIFEST in names else None
    found = manifest.request if manifest else None
    if UNFINISHED in names:
        try:
            found = records.parse(places.read(folder / UNFINISHED, _LIMIT))
        except (OSError, ValueError):
            found = None
    if found != records.parse(records.dump(request)):
        other = "other files" if found is None else "one of another"
        text = f"expected an interrupted run of the same command, found {other}"
        raise OutputError(text, where=folder, advice="force=True overwrites its shards")
    return manifest


def begin(folder: Place, request: dict[str, Any], *, force: bool) -> None:
    """Makes a folder ready for shards; `force` deletes those of another run, and no other files.

    Raises StorageError when the folder cannot be reached.
    """
    folder.make_folder()
    places.write(folder / UNFINISHED, records.dump(request), force=True)
    if force:
        # The manifest first: the folder is no longer whole.
        for name in [MANIFEST, *filter(is_ours, folder.sizes())]:
            (folder / name).remove()


def finish(folder: Place, manifest: Manifest) -> None:
    """Writes the manifest and deletes the notes.

    Raises:
        StorageError: a shard is missing or of another size, or the folder cannot be reached.
    """
    sizes = folder.sizes()
    for part in manifest.shards:
        found = sizes.get(part.file, "no such file")
        if found != part.file_bytes:
            text = f"expected {part.file_bytes:,} bytes, found {found}"
            advice = "do all workers see this folder?"
            raise StorageError(text, where=folder / part.file, advice=advice)
    places.write(folder / MANIFEST, manifest.to_json(), force=True)
    known = {part.file for part in manifest.shards}
    # And what killed workers had begun, and shards of an earlier attempt that had more images.
    for name in sizes:
        if name == UNFINISHED or (is_ours(name) and name not in known):
            (folder / name).remove()


def numbered(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Shards in order, each with the number of its first image."""
    first, found = 0, []
    for part in parts:
        found.append(replace(part, first=first))
        first += part.images
    return tuple(found)


def tidy(folder: Place) -> None:
    """Deletes what killed workers had begun. Raises StorageError."""
    for name in folder.sizes():
        if _BEGUN.fullmatch(name):
            (folder / name).remove()
