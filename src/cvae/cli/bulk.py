"""Packs on the command line: what `encode`, `decode` and `info` do with many images in one file."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from cvae import (
    CvaeError,
    FormatError,
    ImageError,
    ImageShapeError,
    ModelError,
    OutputError,
    StorageError,
)
from cvae.cli import common
from cvae.cli.common import STDIO, Talk, Task

if TYPE_CHECKING:
    from cvae.bulk import Pack, Range, Report
    from cvae.codec import Codec
    from cvae.pack import Reader
    from cvae.sharded import ShardReader
    from cvae.sources import Batch, Reading, Source
    from cvae.storage import Location

# Seconds after which a thread that waits for the interpreter's lock gets it: batches take less than 5 ms.
_SWITCH = 5e-4
_HEAD = 512  # bytes of stdin that tell a tar archive
_SHOWN = 5  # names that `cvae info` lists
_NUMBERS = re.compile(r"[0-9]{1,15}(-[0-9]{1,15})?(,[0-9]{1,15}(-[0-9]{1,15})?)*")


@dataclass(frozen=True)
class EncodeSettings:
    """The options of `cvae encode` for packs."""

    model: str
    quality: int | None
    effort: int
    fit: bool
    invert: bool
    split: str | None
    names: bool
    verify: bool
    jobs: int | None
    threads: int | None
    force: bool


@dataclass(frozen=True)
class DecodeSettings:
    """The options of `cvae decode` for packs."""

    model: str | None
    only: tuple[str, ...]
    keep_going: bool
    jobs: int | None
    threads: int | None
    force: bool


def makes_pack(inputs: tuple[str, ...], output: str | None) -> bool:
    """Whether `cvae encode` is to write a pack: of an array, an archive, or several inputs in one file."""
    from cvae import sources

    for item in inputs:
        if item == STDIO:
            if sources.begins_tar(_peek(_HEAD)):
                return True
        elif not Path(item).is_dir() and (
            sources.is_array(Path(item)) or sources.is_tar(Path(item))
        ):
            return True
    if any(common.is_url(item) for item in (*inputs, output or "")):
        return True
    several = len(inputs) > 1 or any(Path(item).is_dir() for item in inputs if item != STDIO)
    return several and output is not None and (output == STDIO or common.like_a_file(output))


def is_pack(inputs: tuple[str, ...]) -> bool:
    """Whether the one input of `cvae decode` is a pack, or a folder of them with a manifest."""
    from cvae import pack

    if len(inputs) != 1:
        return False
    if inputs[0] == STDIO:
        return pack.is_pack(_peek(1))
    if common.is_url(inputs[0]):
        return True  # nothing else is read from there
    if Path(inputs[0]).is_dir():
        from cvae import sharded

        return sharded.is_folder(inputs[0])
    try:
        # Not of a pipe: what is read of it is gone.
        if not Path(inputs[0]).is_file():
            return False
        with Path(inputs[0]).open("rb") as file:
            return pack.is_pack_file(file)
    except OSError:
        return False  # whoever reads it says what is wrong


def encode(
    inputs: tuple[str, ...], output: str | None, settings: EncodeSettings, talk: Talk
) -> None:
    """Writes one pack of all images in the inputs."""
    from cvae import bulk, pipeline
    from cvae.sources import Reading

    target = _target(inputs, output)
    if target is None:
        common.refuse_terminal([Task(None, None)], settings.force)
    model = open_model(settings.model)
    sources = [source for item in inputs for source in _sources(item, settings.split)]
    jobs = settings.jobs or pipeline.processors()
    reading = Reading(model.image_shape, settings.fit, jobs, lambda error: _refuse(error, talk))
    options = bulk.Options(
        settings.quality,
        settings.effort,
        settings.invert,
        settings.names and any(source.named for source in sources),
        settings.fit,
        settings.verify,
        threads=settings.threads,
    )
    sys.setswitchinterval(_SWITCH)
    with _output(target, settings.force) as file, talk.counting("images") as count:
        report = bulk.encode(model, _batches(sources, reading), file, options, count)
        if not report.images:
            raise ImageError(f"{' '.join(inputs)}: expected images, found none that can be coded")
    talk.say(f"{_name(target)}: {summary(report, model.image_shape)}")
    if report.poor:
        talk.warning(poor(report, model.name, settings.invert))
    if talk.errors:
        raise click.exceptions.Exit(1)


def decode(source: str, output: str | None, settings: DecodeSettings, talk: Talk) -> None:
    """Writes the images of one pack to a folder, an archive or an array."""
    from cvae import pipeline, sinks

    with ExitStack() as stack:
        name = "stdin" if source == STDIO else source
        stack.enter_context(common.naming(name))
        packed = stack.enter_context(opened(source, settings.model))
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
        sys.setswitchinterval(_SWITCH)
        with talk.bar(total) as bar:
            for decoded in packed.decode(ranges, settings.threads):
                sink.write(decoded)
                bar.update(len(decoded.numbers))
    where = target if isinstance(target, Path) else "stdout"
    talk.say(f"{name} -> {where}: {total:,} of {len(packed):,} images decoded")
    if talk.errors:
        raise click.exceptions.Exit(1)


def describe(source: str) -> dict[str, Any]:
    """What `cvae info` says of a pack, or of a folder of packs."""
    from cvae import bulk, pack, sharded, storage

    with ExitStack() as stack:
        reader: Reader | ShardReader
        place = storage.locate(source)
        if sharded.is_folder(source):
            reader = stack.enter_context(sharded.open_folder(place))
            facts = _folder_facts(reader)
        else:
            reader = pack.open_pack(stack.enter_context(_seekable(source)))
            facts = _pack_facts(reader)
    try:
        return {**facts, "model": bulk.open_codec(reader).name}
    except ModelError as error:
        return {**facts, "model": f"not here: {error}"}


def _pack_facts(reader: Reader) -> dict[str, Any]:
    from cvae import container

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
    from cvae import shards

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


def open_model(name: str) -> Codec:
    """The codec that a name or a path stands for."""
    from cvae import codec

    return codec.open_model(name)


def _peek(count: int) -> bytes:
    """The first bytes of stdin, which stay there."""
    if sys.stdin is None:
        return b""
    stdin: Any = sys.stdin.buffer
    return bytes(stdin.peek(count)[:count])


class _Stdin:
    """Stdin for a thread: past the buffer, of which the lock would be held when the process ends."""

    def __init__(self) -> None:
        stdin: Any = sys.stdin.buffer
        self._head = bytes(stdin.read1(len(stdin.peek())))
        self._raw = stdin.raw

    def read(self, count: int) -> bytes:
        if self._head:
            data, self._head = self._head[:count], self._head[count:]
            return data
        return bytes(self._raw.read(count) or b"")


def _sources(item: str, split: str | None) -> list[Source]:
    """What one input stands for; a URL may be a pattern or a folder, too."""
    if not common.is_url(item):
        return [_source(item, split)]
    from cvae import worklist

    return [shard.source for shard in worklist.cut(worklist.resolve([item]), split=split)]


def _source(item: str, split: str | None) -> Source:
    from cvae import sources

    path = Path(item)
    if item == STDIO:
        if not sources.begins_tar(_peek(_HEAD)):
            raise ImageError("stdin: expected a tar archive, to be one of several inputs")
        return sources.TarSource(_Stdin(), "stdin")  # type: ignore[arg-type]
    if path.is_dir():
        return sources.FolderSource(path)
    if sources.is_array(path):
        return sources.array_source(path, split)
    return sources.TarSource(path, item) if sources.is_tar(path) else sources.FileSource(path)


def _batches(sources: list[Source], reading: Reading) -> Iterator[Batch]:
    for source in sources:
        try:
            yield from source.batches(reading)
        except ImageShapeError as error:  # of a whole array
            raise advised(error) from error


def _refuse(error: CvaeError, talk: Talk) -> None:
    talk.error(advised(error))


def advised(error: CvaeError) -> CvaeError:
    """The error with advice, and without what an archive's names could do to a terminal."""
    from cvae.folders import printable

    advice = f"; {common.FIT_ADVICE}" if isinstance(error, ImageShapeError) else ""
    return type(error)(f"{printable(str(error))}{advice}")


def _target(inputs: tuple[str, ...], output: str | None) -> Location | None:
    """Where the pack goes; None is stdout."""
    from cvae import sources, storage

    if output is not None and storage.is_url(output):
        if output.endswith("/"):
            raise click.UsageError(f"-o {output}: a pack needs a name, NAME.bin")
        return storage.locate(output)
    if output is None and storage.is_url(inputs[0]):
        raise click.UsageError("a pack of what is at a URL needs a name for it: -o NAME.bin")
    if output == STDIO or (output is None and inputs == (STDIO,)):
        return None
    if output is None or not common.like_a_file(output):
        if len(inputs) > 1:
            raise click.UsageError("one pack of several inputs needs a name for it: -o NAME.bin")
        name = "stdin" if inputs[0] == STDIO else Path(inputs[0]).stem.removesuffix(".tar")
        folder = Path(output or ".")
        if output is not None and not folder.is_dir() and not output.endswith("/"):
            return folder
        return folder / f"{name}.bin"
    target = Path(output)
    if sources.is_array(target) or sources.is_tar(target):
        raise click.UsageError(f"-o {output} would be a pack with the ending of something else")
    if output in inputs:
        raise OutputError(f"{output}: is input and output at once")
    return target


@contextmanager
def _output(target: Location | None, force: bool) -> Iterator[BinaryIO]:
    from cvae import storage

    if target is None:
        if sys.stdout is None:
            raise OutputError("stdout: is closed")
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with storage.writing(target, force) as temporary, temporary.open("wb") as file:
        yield file


def _name(target: Location | None) -> str:
    return "stdout" if target is None else str(target)


def summary(report: Report, shape: tuple[int, int, int]) -> str:
    """What was written, in one line."""
    height, width, channels = shape
    each = report.size / report.images
    psnr = "" if report.psnr is None else f", {report.psnr:.2f} dB on average"
    images = "1 image" if report.images == 1 else f"{report.images:,} images"
    return (
        f"{images} in {report.size:,} bytes, {each:.2f} an image, "
        f"{height * width * channels / each:.1f}:1{psnr}"
    )


def poor(report: Report, model: str, inverted: bool) -> str:
    """What a warning says of images that come back badly, and what helps."""
    text = (
        f"{report.poor:,} of {report.images:,} images come back below the "
        f"{report.expected_psnr:.1f} dB that 99 % of the images of model {model} reach"
    )
    if 2 * report.poor_inverted > report.poor_sampled:
        option = "leaving out --invert" if inverted else "--invert"
        return f"{text}; they are of the other polarity: {option} helps"
    return text


@contextmanager
def _seekable(source: str) -> Iterator[BinaryIO]:
    """A pack's file; what comes from stdin is put on disk first, because the index is at its end."""
    if source != STDIO:
        from cvae import storage

        try:
            file = storage.locate(source).open("rb")
        except OSError as error:
            raise StorageError(f"{source}: cannot be read: {error.strerror or error}") from error
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
    from cvae import bulk, pack, sharded, storage

    with ExitStack() as stack:
        reader: Reader | ShardReader
        if source != STDIO and sharded.is_folder(source):
            reader = stack.enter_context(sharded.open_folder(storage.locate(source)))
        else:
            reader = pack.open_pack(stack.enter_context(_seekable(source)))
        yield bulk.Pack(reader, bulk.open_codec(reader, model))


def _chosen(packed: Pack, only: tuple[str, ...]) -> list[Range]:
    """The images that are asked for, by number or by name; all of them when none are."""
    from cvae import bulk

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
                raise CvaeError(f"there is no image named {text!r}")
            ranges += [(number, number + 1) for number in found]
    chosen = bulk.ranges_of(ranges)
    if chosen[-1][1] > len(packed):
        raise CvaeError(f"there is no image {chosen[-1][1] - 1}, expected 0 to {len(packed) - 1}")
    return chosen


def _sound(
    packed: Pack, ranges: list[Range], settings: DecodeSettings, talk: Talk, name: str
) -> list[Range]:
    """The images that are not damaged; before anything is written. Damage is an error, or a message each."""
    from cvae import bulk

    damage = packed.reader.damage_in(ranges)
    for item in damage:
        error = FormatError(f"{name}: {item}")
        if not settings.keep_going:
            raise FormatError(f"{error}; --keep-going decodes what is whole")
        talk.error(error)
    return bulk.without(ranges, [(d.first, d.first + d.images) for d in damage if d.images])


def _decode_target(source: str, output: str | None) -> Path | BinaryIO:
    if output == STDIO:
        common.refuse_terminal([Task(None, None)], force=False)
        return sys.stdout.buffer
    if output is not None:
        if common.is_url(output):
            raise click.UsageError(f"-o {output}: images are written to this machine only")
        return Path(output)
    stem = "stdin" if source == STDIO else Path(source.rstrip("/")).stem
    return Path(f"{stem}_reconstructed")


def _first_names(reader: Reader | ShardReader) -> list[str]:
    from cvae.folders import printable

    for place in reader.places:
        try:
            names = reader.read(place).names or []
        except FormatError:
            continue
        return [printable(name) for name in names[:_SHOWN]]
    return []
