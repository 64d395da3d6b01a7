"""Packs on the command line: what `decode` and `info` do with many images in one file, or a folder."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from cvae import CvaeError, FormatError, ModelError, StorageError
from cvae.cli import common
from cvae.cli.common import STDIO, Talk, Task
from cvae.errors import at

if TYPE_CHECKING:
    from cvae.packs.decode import Pack, Range
    from cvae.packs.folder import ShardReader
    from cvae.packs.reader import Reader

_SHOWN = 5  # names that `cvae info` lists
_NO_NAMES = " (this pack has no names; use numbers, as 17)"
_NUMBERS = re.compile(r"[0-9]{1,15}(-[0-9]{1,15})?(,[0-9]{1,15}(-[0-9]{1,15})?)*")


@dataclass(frozen=True)
class DecodeSettings:
    """The options of `cvae decode` for packs."""

    model: str | None
    only: tuple[str, ...]
    keep_going: bool
    jobs: int | None
    threads: int | None
    force: bool


def is_pack(inputs: tuple[str, ...]) -> bool:
    """Whether the one input of `cvae decode` is a pack, or a folder of them with a manifest."""
    from cvae.packs import layout as pack

    if len(inputs) != 1:
        return False
    if inputs[0] == STDIO:
        return pack.is_pack(common.peek(1))
    if common.is_url(inputs[0]):
        return True  # nothing else is read from there
    if Path(inputs[0]).is_dir():
        return is_folder(inputs[0])
    try:
        # Not of a pipe: what is read of it is gone.
        if not Path(inputs[0]).is_file():
            return False
        with Path(inputs[0]).open("rb") as file:
            return pack.is_pack_file(file)
    except OSError:
        return False  # whoever reads it says what is wrong


def by_itself(source: str, what: str = "a pack") -> str:
    """What an error says of a pack among other inputs."""
    return f"it is {what}; packs are decoded one at a time: cvae decode {source}"


def is_folder(source: str) -> bool:
    """Whether a path or URL is a folder of packs, finished or not."""
    from cvae.packs import decode as packed

    return packed.is_folder(source)


def decode(source: str, output: str | None, settings: DecodeSettings, talk: Talk) -> None:
    """Writes the images of one pack to a folder, an archive or an array."""
    from cvae.data import pipeline, sinks

    with ExitStack() as stack:
        name = "stdin" if source == STDIO else source
        stack.enter_context(at(name))
        packed = stack.enter_context(opened(source, settings.model))
        if not packed.reader.images and not packed.reader.damage:
            raise CvaeError("holds no images")
        ranges = _chosen(packed, settings.only)
        ranges = _sound(packed, ranges, settings, talk, name)
        total = sum(stop - start for start, stop in ranges)
        if not total:
            raise CvaeError("no image is left to decode")
        target = _decode_target(source, output)
        if isinstance(target, Path) and sinks.is_array(target) and packed.reader.header.sizes:
            talk.warning(f"{target}: images stay as they were fitted; files get their own sizes")
        jobs = settings.jobs or pipeline.processors()
        shape = packed.codec.image_shape
        sink = stack.enter_context(
            sinks.open_sink(target, shape, ranges, force=settings.force, jobs=jobs)
        )
        sys.setswitchinterval(common.SWITCH)
        with talk.bar(total) as bar:
            for decoded in packed.decode(ranges, settings.threads):
                sink.write(decoded)
                bar.update(len(decoded.numbers))
    where = target if isinstance(target, Path) else "stdout"
    talk.say(f"{name} -> {where}: {total:,} of {common.counted(len(packed), 'image')} decoded")
    if talk.errors:
        raise click.exceptions.Exit(1)


def describe(source: str) -> dict[str, Any]:
    """What `cvae info` says of a pack, or of a folder of packs."""
    from cvae.packs import decode as packed
    from cvae.packs import reader as unpack

    with ExitStack() as stack:
        reader: Reader | ShardReader
        if packed.is_folder(source):
            reader = stack.enter_context(packed.open_folder(source))
            facts = _folder_facts(reader)
        else:
            reader = unpack.open_pack(stack.enter_context(_seekable(source)))
            facts = _pack_facts(reader)
    try:
        return {**facts, "model": packed.open_codec(reader).name}
    except ModelError as error:
        return {**facts, "model": f"not here: {error}"}


def _pack_facts(reader: Reader) -> dict[str, Any]:
    from cvae.bitstream import container

    header = reader.header
    damage = reader.damage_in([(0, reader.images)])
    return {
        "kind": "pack of images",
        "version": container.VERSION,
        "model_id": f"{header.model_id:#06x}",
        "quality": header.quality,
        "images": reader.images,
        "blocks": len(reader.places),
        "file_bytes": reader.size,
        "bytes_per_image": _each(reader),
        "inverted": header.inverted,
        "original_sizes": header.sizes,
        "names": _first_names(reader) if header.names else None,
        "damage": [str(item) for item in damage] or None,
    }


def _folder_facts(reader: ShardReader) -> dict[str, Any]:
    from cvae.packs import manifest as shards

    manifest = reader.manifest
    damage = reader.damage_in([(0, reader.images)])
    return {
        "kind": "folder of packs",
        "version": shards.FORMAT,
        "model_id": f"{manifest.model_id:#06x}",
        "quality": manifest.quality,
        "images": manifest.images,
        "left_out": manifest.left_out,
        "packs": len(manifest.shards),
        "file_bytes": manifest.file_bytes,
        "bytes_per_image": _each(reader),
        "psnr_mean": None if manifest.psnr_mean is None else round(manifest.psnr_mean, 2),
        "inverted": manifest.inverted,
        "original_sizes": manifest.fitted,
        "names": _first_names(reader) or None,
        "damage": [str(item) for item in damage] or None,
    }


def _each(reader: Reader | ShardReader) -> float | None:
    return round(reader.size / reader.images, 2) if reader.images else None


@contextmanager
def _seekable(source: str) -> Iterator[BinaryIO]:
    """A pack's file; what comes from stdin is put on disk first, because the index is at its end."""
    if source != STDIO:
        from cvae.data import places as storage

        place = storage.locate(source)
        if storage.is_folder(place):
            raise FormatError(
                "expected a pack, or a folder of packs with its manifest.json, found another",
                where=source,
            )
        try:
            file = place.open("rb")
        except OSError as error:
            raise StorageError(
                f"cannot be read: {error.strerror or error}",
                where=source,
            ) from error
        with file:
            yield file
        return
    import shutil
    import tempfile

    with tempfile.TemporaryFile() as spool:
        shutil.copyfileobj(sys.stdin.buffer, spool)
        yield spool


@contextmanager
def opened(source: str, model: str | None) -> Iterator[Pack]:
    """A pack or a folder of such, from a path, a URL or stdin, with the codec that it needs."""
    from cvae.packs import decode as packed
    from cvae.packs import reader as unpack
    from cvae.packs.decode import Pack

    with ExitStack() as stack:
        reader: Reader | ShardReader
        if source != STDIO and packed.is_folder(source):
            reader = stack.enter_context(packed.open_folder(source))
        else:
            reader = unpack.open_pack(stack.enter_context(_seekable(source)))
        yield Pack(reader, packed.open_codec(reader, model))


def _chosen(packed: Pack, only: tuple[str, ...]) -> list[Range]:
    """The images that are asked for, by number or by name; all of them when none are."""
    from cvae.packs.decode import ranges_of

    if not only:
        return [(0, len(packed))]
    ranges: list[Range] = []
    for text in only:
        if _NUMBERS.fullmatch(text):
            for part in text.split(","):
                first, _, last = part.partition("-")
                ranges.append((int(first), int(last or first) + 1))
                if ranges[-1][0] >= ranges[-1][1]:
                    raise CvaeError(f"--only {part}: expected the smaller number first")
        else:
            found = packed.find(text)
            if not found:
                advice = "" if _has_names(packed.reader) else _NO_NAMES
                raise CvaeError(f"there is no image named {text!r}{advice}")
            ranges += [(number, number + 1) for number in found]
    chosen = ranges_of(ranges)
    if chosen[-1][1] > len(packed):
        raise CvaeError(f"there is no image {chosen[-1][1] - 1}, expected 0 to {len(packed) - 1}")
    return chosen


def _sound(
    packed: Pack, ranges: list[Range], settings: DecodeSettings, talk: Talk, name: str
) -> list[Range]:
    """The images that are not damaged; before anything is written. Damage is an error, or a message each."""
    from cvae.packs.decode import without

    damage = packed.reader.damage_in(ranges)
    for item in damage:
        error = FormatError(f"{item}", where=name)
        if not settings.keep_going:
            raise FormatError(f"{error}; --keep-going decodes what is whole")
        talk.error(error)
    return without(ranges, [(d.first, d.first + d.images) for d in damage if d.images])


def _decode_target(source: str, output: str | None) -> Path | BinaryIO:
    """Where the images go: a path, or stdout for a tar archive, as other results of stdin do."""
    from cvae.data import sinks

    if output == STDIO:
        common.refuse_terminal([Task(None, None)], force=False)
        return sys.stdout.buffer
    if output is not None:
        if common.is_url(output):
            raise click.UsageError(f"-o {output}: images are written to this machine only")
        if not sinks.is_array(Path(output)) and Path(output).suffix.lower() != ".tar":
            common.refuse_as_folder(output, "a folder, .npz, .npy or .tar")
        return Path(output)
    if source == STDIO and sys.stdout is not None and not sys.stdout.isatty():
        return sys.stdout.buffer
    stem = "stdin" if source == STDIO else Path(source.rstrip("/")).stem
    return Path(f"{stem}_reconstructed")


def _has_names(reader: Reader | ShardReader) -> bool:
    """Whether a block has names: in a folder some may, and others not."""
    for place in reader.places if reader.header.names else ():
        try:
            if reader.read(place).names is not None:
                return True
        except FormatError:
            continue
    return False


def _first_names(reader: Reader | ShardReader) -> list[str]:
    from cvae.data.folders import printable

    for place in reader.places:
        try:
            names = reader.read(place).names or []
        except FormatError:
            continue
        return [printable(name) for name in names[:_SHOWN]]
    return []
