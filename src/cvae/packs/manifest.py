"""A folder of shards: packs that belong together, and the manifest that says so. docs/format.md."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from cvae.bitstream.container import MAX_QUALITY, MIN_QUALITY
from cvae.data import places
from cvae.data.places import Location
from cvae.errors import FormatError, OutputError, StorageError, at, translated

FORMAT = 0
MANIFEST = "manifest.json"
UNFINISHED = "unfinished.json"  # what was asked for, while it is worked on
_KIND = "cvae shards"
_FIRST = "part-00000.bin"
_PART = re.compile(r"part-[0-9]{5,9}\.bin")
# Shards, the notes beside them, and either while it is written.
_OURS = re.compile(
    r"part-[0-9]{5,9}\.(bin|json)(\.cvae-[0-9a-f]{16})?|\.cvae-[0-9a-f]{16}\.(bin|json)"
)
# What a worker that was killed had begun to write.
_BEGUN = re.compile(r"(part-[0-9]{5,9}\.(bin|json))?\.cvae-[0-9a-f]{16}(\.(bin|json))?")
_MAX_COUNT = 1 << 48  # of a shard, and of images in all of them
_LIMIT = 1 << 28  # bytes of a manifest: of a million shards
_NOTE_LIMIT = 1 << 24
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Part:
    """What is known of a shard: a note beside it first, then a line of the manifest."""

    file: str
    request: str  # a digest of what was asked for, and of what the images are
    images: int
    file_bytes: int
    sha256: str
    left_out: int = 0  # images that could not be coded
    messages: tuple[str, ...] = ()  # of the first of them
    first: int = 0  # number of its first image; only the manifest knows
    verified: int = 0  # images that were decoded again
    psnr_sum: float = 0.0  # dB, of those
    poor: int = 0  # of those, images worse than 99 % of the model's validation images
    poor_sampled: int = 0
    poor_inverted: int = 0

    def to_json(self) -> bytes:
        return (json.dumps(asdict(self), indent=1) + "\n").encode()

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> Part:
        """Raises ValueError, KeyError or TypeError when something is missing or impossible."""
        known = {f.name: values[f.name] for f in fields(cls)}
        if not isinstance(known["messages"], list):
            raise ValueError(f"expected a list of messages, found {known['messages']!r}")
        part = cls(**{**known, "messages": tuple(map(str, known["messages"]))})
        counts = (
            part.first, part.images, part.file_bytes, part.left_out,
            part.verified, part.poor, part.poor_sampled, part.poor_inverted,
        )  # fmt: skip
        if not all(type(value) is int and 0 <= value < _MAX_COUNT for value in counts):
            raise ValueError(f"expected counts from 0, found {counts}")
        # What compares false with everything, as JSON's NaN does, is none either.
        if type(part.psnr_sum) not in (int, float) or not 0 <= part.psnr_sum < 1e18:
            raise ValueError(f"expected a sum of PSNR, found {part.psnr_sum!r:.80}")
        # So that no manifest makes a reader open what lies elsewhere.
        if not _PART.fullmatch(part.file) or not _SHA256.fullmatch(part.sha256):
            raise ValueError(f"expected part-NNNNN.bin and its sha256, found {part.file!r}")
        return part


@dataclass(frozen=True)
class Manifest:
    """What a folder of shards holds."""

    model: str
    model_id: int
    quality: int
    inverted: bool
    fitted: bool  # packs have a column of original sizes
    shards: tuple[Part, ...]
    request: dict[str, Any] = field(default_factory=dict)  # what was asked for

    @property
    def images(self) -> int:
        return sum(part.images for part in self.shards)

    @property
    def file_bytes(self) -> int:
        return sum(part.file_bytes for part in self.shards)

    @property
    def left_out(self) -> int:
        return sum(part.left_out for part in self.shards)

    @property
    def psnr_mean(self) -> float | None:
        """In dB, of the images that were decoded again; None where none was."""
        verified = sum(part.verified for part in self.shards)
        return sum(part.psnr_sum for part in self.shards) / verified if verified else None

    def to_json(self) -> bytes:
        values = {
            "kind": _KIND, "format": FORMAT, **asdict(self), "images": self.images,
            "file_bytes": self.file_bytes, "left_out": self.left_out, "psnr_mean": self.psnr_mean,
        }  # fmt: skip
        values["shards"] = values.pop("shards")  # last: it is long
        return (json.dumps(values, indent=1) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """The inverse of `to_json`. Raises FormatError when it is damaged, or of a later version."""
        try:
            values = json.loads(data)
            if values["format"] != FORMAT:
                raise FormatError(
                    f"expected a manifest of format {FORMAT}, found {values['format']!r}: "
                    "damaged, or written by a later cvae"
                )
            known = {f.name: values[f.name] for f in fields(cls)}
            known["shards"] = tuple(map(Part.from_values, values["shards"]))
            manifest = cls(**known)
            _check(manifest)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise FormatError(f"damaged: expected a manifest of shards: {error!r}") from error
        return manifest


def _check(manifest: Manifest) -> None:
    first = 0
    for part in manifest.shards:
        if part.first != first:
            raise ValueError(f"expected {part.file} to begin with image {first}")
        first += part.images
    if first >= _MAX_COUNT:
        raise ValueError(f"expected fewer than {_MAX_COUNT:,} images, found {first:,}")
    if not isinstance(manifest.model, str) or not manifest.model.isprintable():
        raise ValueError("expected a name as model")
    if type(manifest.quality) is not int or not MIN_QUALITY <= manifest.quality <= MAX_QUALITY:
        raise ValueError(f"expected a quality from {MIN_QUALITY} to {MAX_QUALITY}")
    if type(manifest.model_id) is not int or not 0 <= manifest.model_id < 1 << 16:
        raise ValueError("expected a model_id from 0 to 65535")
    if type(manifest.inverted) is not bool or type(manifest.fitted) is not bool:
        raise ValueError("expected true or false as inverted and fitted")
    if not isinstance(manifest.request, dict):
        raise ValueError("expected what was asked for as request")


def note_name(part: str) -> str:
    """The name of the note beside a shard."""
    return part.removesuffix(".bin") + ".json"


def read_note(folder: Location, part: str) -> Part | None:
    """The note beside a shard; None where there is none, or a damaged one. Raises StorageError."""
    try:
        return Part.from_values(json.loads(places.read(folder / note_name(part), _NOTE_LIMIT)))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def digest_of(folder: Location, part: str) -> str | None:
    """The sha256 of a shard's file; None where there is none. Raises StorageError."""
    try:
        with (folder / part).open("rb") as file, places.reaching(folder / part):
            return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"cannot be read: {error}", where=folder / part) from error


def read_manifest(folder: Location) -> Manifest:
    """The manifest of a folder of packs.

    Raises:
        FormatError: the folder is not finished, or the manifest is missing, damaged or of a later version.
        StorageError: the folder cannot be reached.
    """
    place = folder / MANIFEST
    if not places.exists(place):
        raise FormatError(_why_missing(folder), where=folder)
    with at(place), translated(FormatError, "cannot be read", place):
        return Manifest.from_json(places.read(place, _LIMIT))


def _why_missing(folder: Location) -> str:
    if places.exists(folder / UNFINISHED):
        return (
            "is not finished: it is still being written, or was interrupted; the command that wrote it "
            "goes on with --resume"
        )
    if places.exists(folder / _FIRST):
        return f"holds packs but no {MANIFEST}; its packs decode one by one"
    return f"expected a pack, or a folder of packs with its {MANIFEST}, found another folder"


def check(
    folder: Location, request: dict[str, Any], *, resume: bool, force: bool
) -> Manifest | None:
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
    names = places.sizes(folder)
    if force or not names:
        return None
    if not resume:
        raise OutputError(
            "is not empty; --resume goes on with a run that was interrupted, "
            "--force overwrites its shards",
            where=folder,
        )
    if _FIRST in names and not {MANIFEST, UNFINISHED} & names.keys():
        raise FormatError(_why_missing(folder), where=folder)
    found, manifest = _request_of(folder, names)
    if found != json.loads(json.dumps(request)):
        raise OutputError(
            f"expected an interrupted run of the same command, found "
            f"{'other files' if found is None else 'one of another'}; --force overwrites its shards",
            where=folder,
        )
    return manifest


def begin(folder: Location, request: dict[str, Any], *, force: bool) -> None:
    """Makes a folder ready for shards. Raises StorageError when it cannot be reached.

    Args:
        folder: where the shards go.
        request: what is asked for.
        force: delete the shards of another run. Other files stay.
    """
    places.make_folder(folder)
    places.write(folder / UNFINISHED, json.dumps(request, indent=1).encode(), force=True)
    if force:
        # The manifest first: from now on the folder is not whole.
        for name in [MANIFEST, *filter(_OURS.fullmatch, places.sizes(folder))]:
            places.remove(folder / name)


def _request_of(folder: Location, names: dict[str, int]) -> tuple[Any, Manifest | None]:
    """What the run in a folder was asked for, and its manifest, if it came that far."""
    manifest = read_manifest(folder) if MANIFEST in names else None
    if UNFINISHED in names:
        try:
            return json.loads(places.read(folder / UNFINISHED, _LIMIT)), manifest
        except (OSError, ValueError):
            return None, None
    return (manifest.request, manifest) if manifest else (None, None)


def finish(folder: Location, manifest: Manifest) -> None:
    """Writes the manifest, when every shard is there; then the notes are not needed any more.

    Raises:
        StorageError: a shard is not where it was written to, or the folder cannot be reached.
    """
    sizes = places.sizes(folder)
    for part in manifest.shards:
        if sizes.get(part.file) != part.file_bytes:
            raise StorageError(
                f"expected {part.file_bytes:,} bytes, found "
                f"{sizes.get(part.file, 'no such file')}; do all workers see this folder?",
                where=folder / part.file,
            )
    places.write(folder / MANIFEST, manifest.to_json(), force=True)
    known = {part.file for part in manifest.shards}
    # Also what a killed worker had begun, and shards of an earlier attempt that had more images.
    for name in sizes:
        if name == UNFINISHED or (_OURS.fullmatch(name) and name not in known):
            places.remove(folder / name)


def numbered(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Shards in order, each with the number of its first image."""
    first, found = 0, []
    for part in parts:
        found.append(replace(part, first=first))
        first += part.images
    return tuple(found)


def tidy(folder: Location) -> None:
    """Deletes what workers had begun, once they are gone. Raises StorageError."""
    for name in places.sizes(folder):
        if _BEGUN.fullmatch(name):
            places.remove(folder / name)
