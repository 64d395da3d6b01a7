"""The manifest of a folder of packs, the shards, and what may be written there. docs/format.md."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from cvae import records
from cvae.bitstream.container import MAX_QUALITY, MIN_QUALITY
from cvae.data import places
from cvae.data.contents import FIRST_PACK, MANIFEST, PACKS_KIND, UNFINISHED
from cvae.data.places import Place
from cvae.errors import FormatError, OutputError, StorageError, translated
from cvae.options import Tally

FORMAT = 0
# Shards, the notes beside them, and either while it is written.
_OURS = re.compile(
    r"part-[0-9]{5,9}\.(bin|json)(\.cvae-[0-9a-f]{16})?|\.cvae-[0-9a-f]{16}\.(bin|json)"
)
# What a worker that was killed had begun to write.
_BEGUN = re.compile(r"(part-[0-9]{5,9}\.(bin|json))?\.cvae-[0-9a-f]{16}(\.(bin|json))?")
_MAX_COUNT = 1 << 48  # of a shard, and of images in all of them
_LIMIT = 1 << 28  # bytes of a manifest: of a million shards
_NOTE_LIMIT = 1 << 24


# How a note and a manifest list what is known of a shard.
_FIELDS = (
    "file", "request", "images", "file_bytes", "sha256", "left_out", "messages", "first",
    "verified", "psnr_sum", "poor", "poor_sampled", "poor_inverted",
)  # fmt: skip


def _counts(tally: Tally) -> bool:
    return all(0 <= value < _MAX_COUNT for value in vars(tally).values())


@dataclass(frozen=True)
class Part:
    """What is known of a shard: a note beside it first, then a line of the manifest."""

    # No manifest makes a reader open a file elsewhere.
    file: Annotated[str, records.matching(r"part-[0-9]{5,9}\.bin")]
    request: str  # a digest of what was asked for, and of what the images are
    sha256: Annotated[str, records.matching("[0-9a-f]{64}")]
    tally: Annotated[Tally, records.FLAT, records.Check("counts from 0", _counts)]
    messages: tuple[str, ...] = ()  # why the first of the skipped images were skipped
    first: Annotated[int, records.within(0, _MAX_COUNT)] = 0  # its first image; for the manifest

    @property
    def images(self) -> int:
        tally: Tally = self.tally
        return tally.images

    @property
    def file_bytes(self) -> int:
        return self.tally.file_bytes

    def values(self) -> dict[str, Any]:
        """As JSON has it."""
        known = {**vars(self), **vars(self.tally)}
        return {name: known[name] for name in _FIELDS}

    def to_json(self) -> bytes:
        return records.dump(self.values())


@dataclass(frozen=True)
class Manifest:
    """What a folder of shards holds."""

    model: Annotated[str, records.PRINTABLE]
    model_id: Annotated[int, records.within(0, 0xFFFF)]
    quality: Annotated[int, records.within(MIN_QUALITY, MAX_QUALITY)]
    inverted: bool
    fitted: bool  # packs have a column of original sizes
    shards: tuple[Part, ...]
    request: dict[str, Any] = field(default_factory=dict)  # what was asked for

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
        return records.dump({**values, "shards": [part.values() for part in self.shards]})

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """The inverse of `to_json`. Raises ValueError when it is damaged, or of a later version."""
        values = records.parse(data)
        records.check_format(values, FORMAT)
        manifest = records.read(cls, values, complete=True)
        if manifest.shards != numbered(manifest.shards):
            raise ValueError("expected shards that follow each other")
        if manifest.tally.images >= _MAX_COUNT:
            raise ValueError(f"expected fewer than {_MAX_COUNT:,} images in all shards")
        return manifest


def note_name(part: str) -> str:
    """The name of the note beside a shard."""
    return part.removesuffix(".bin") + ".json"


def read_note(folder: Place, part: str) -> Part | None:
    """The note beside a shard; None where there is none, or a damaged one. Raises StorageError."""
    try:
        values = records.parse(places.read(folder / note_name(part), _NOTE_LIMIT))
        return records.read(Part, values, complete=True)
    except (OSError, ValueError):
        return None


def digest_of(folder: Place, part: str) -> str | None:
    """The sha256 of a shard's file; None where there is none. Raises StorageError."""
    try:
        with (folder / part).open("rb") as file, places.reaching(folder / part):
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"cannot be read: {error}", where=folder / part) from error


def read_manifest(folder: Place) -> Manifest:
    """The manifest of a folder of packs.

    Raises:
        FormatError: the folder is not finished, or the manifest is missing, damaged or of a later version.
        StorageError: the folder cannot be reached.
    """
    place = folder / MANIFEST
    if not place.exists():
        raise _missing(folder)
    with translated(FormatError, "cannot be read", place):
        data = places.read(place, _LIMIT)
    damaged = "damaged: expected a manifest of shards"
    with translated(FormatError, damaged, place, ValueError):
        return Manifest.from_json(data)


def _missing(folder: Place) -> FormatError:
    advice = ""
    if (folder / UNFINISHED).exists():
        text = "is not finished: it is still being written, or was interrupted"
        advice = "the command that wrote it goes on with --resume"
    elif (folder / FIRST_PACK).exists():
        text, advice = f"holds packs but no {MANIFEST}", "its packs decode one by one"
    else:
        text = f"expected a pack, or a folder of packs with its {MANIFEST}, found another folder"
    return FormatError(text, where=folder, advice=advice)


def check(folder: Place, request: dict[str, Any], *, resume: bool, force: bool) -> Manifest | None:
    """Whether shards may be written to a folder; the manifest of a finished run that is resumed.

    Args:
        folder: where the shards go.
        request: what is asked for; whatever changes it changes the shards.
        resume: go on with an interrupted run of the same request.
        force: overwrite the shards of another run.

    Raises:
        OutputError: the folder is not empty, and neither is asked for; or the run was of another request.
        FormatError: the folder holds packs and has lost its manifest.
        StorageError: the folder cannot be reached.
    """
    names = folder.sizes()
    if force or not names:
        return None
    if not resume:
        raise OutputError(
            "is not empty",
            where=folder,
            advice="--resume goes on with a run that was interrupted, --force overwrites its shards",
        )
    if FIRST_PACK in names and not {MANIFEST, UNFINISHED} & names.keys():
        raise _missing(folder)
    found, manifest = _request_of(folder, names)
    if found != records.parse(records.dump(request)):
        raise OutputError(
            "expected an interrupted run of the same command, found "
            f"{'other files' if found is None else 'one of another'}",
            where=folder,
            advice="--force overwrites its shards",
        )
    return manifest


def begin(folder: Place, request: dict[str, Any], *, force: bool) -> None:
    """Makes a folder ready for shards. Raises StorageError when it cannot be reached.

    Args:
        folder: where the shards go.
        request: what is asked for.
        force: delete the shards of another run. Other files stay.
    """
    folder.make_folder()
    places.write(folder / UNFINISHED, records.dump(request), force=True)
    if force:
        # The manifest first: from now on the folder is not whole.
        for name in [MANIFEST, *filter(_OURS.fullmatch, folder.sizes())]:
            (folder / name).remove()


def _request_of(folder: Place, names: dict[str, int]) -> tuple[Any, Manifest | None]:
    """What the run in a folder was asked for, and its manifest, if it came that far."""
    manifest = read_manifest(folder) if MANIFEST in names else None
    if UNFINISHED in names:
        try:
            return records.parse(places.read(folder / UNFINISHED, _LIMIT)), manifest
        except (OSError, ValueError):
            return None, None
    return (manifest.request, manifest) if manifest else (None, None)


def finish(folder: Place, manifest: Manifest) -> None:
    """Writes the manifest, when every shard is there; then the notes are not needed any more.

    Raises:
        StorageError: a shard is not where it was written to, or the folder cannot be reached.
    """
    sizes = folder.sizes()
    for part in manifest.shards:
        if sizes.get(part.file) != part.file_bytes:
            raise StorageError(
                f"expected {part.file_bytes:,} bytes, found {sizes.get(part.file, 'no such file')}",
                where=folder / part.file,
                advice="do all workers see this folder?",
            )
    places.write(folder / MANIFEST, manifest.to_json(), force=True)
    known = {part.file for part in manifest.shards}
    # Also what a killed worker had begun, and shards of an earlier attempt that had more images.
    for name in sizes:
        if name == UNFINISHED or (_OURS.fullmatch(name) and name not in known):
            (folder / name).remove()


def numbered(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Shards in order, each with the number of its first image."""
    first, found = 0, []
    for part in parts:
        found.append(replace(part, first=first))
        first += part.images
    return tuple(found)


def tidy(folder: Place) -> None:
    """Deletes what workers had begun, once they are gone. Raises StorageError."""
    for name in folder.sizes():
        if _BEGUN.fullmatch(name):
            (folder / name).remove()
