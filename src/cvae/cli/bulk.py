"""Many images on the command line: what `encode` does to write them to one pack."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from cvae import CvaeError, ImageError, ImageShapeError, OutputError
from cvae.cli import common
from cvae.cli.common import STDIO, Talk, Task, counted

if TYPE_CHECKING:
    from cvae.codec import Codec, EncodeOptions, Tally
    from cvae.data.places import Location
    from cvae.data.sources import Batch, Reading, Source, TarSource

_HEAD = 512  # bytes of stdin that tell a tar archive


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

    def options(self) -> EncodeOptions:
        from cvae.codec import EncodeOptions

        return EncodeOptions(
            quality=self.quality, effort=self.effort, fit=self.fit, invert=self.invert,
            split=self.split, names=self.names, verify=self.verify,
        )  # fmt: skip


def makes_pack(inputs: tuple[str, ...], output: str | None) -> bool:
    """Whether `cvae encode` is to write a pack: of an array, an archive, or several inputs in one file."""
    from cvae.data import sources, tars

    for item in inputs:
        if item == STDIO:
            if tars.begins_tar(common.peek(_HEAD)):
                return True
        elif not Path(item).is_dir() and (sources.is_array(Path(item)) or tars.is_tar(Path(item))):
            return True
    if any(common.is_url(item) for item in (*inputs, output or "")):
        return True
    several = len(inputs) > 1 or any(Path(item).is_dir() for item in inputs if item != STDIO)
    return several and output is not None and (output == STDIO or common.like_a_file(output))


def encode(
    inputs: tuple[str, ...], output: str | None, settings: EncodeSettings, talk: Talk
) -> None:
    """Writes one pack of all images in the inputs."""
    from cvae.data import pipeline
    from cvae.data.sources import Reading
    from cvae.packs import encode as bulk

    target = _target(inputs, output)
    if target is None:
        common.refuse_terminal([Task(None, None)], settings.force)
    model = open_model(settings.model)
    sources = [source for item in inputs for source in _sources(item, settings.split)]
    jobs = settings.jobs or pipeline.processors()
    reading = Reading(model.image_shape, settings.fit, jobs, lambda error: _refuse(error, talk))
    named = settings.names and any(source.named for source in sources)
    options = replace(settings.options(), names=named)
    sys.setswitchinterval(common.SWITCH)
    with _output(target, settings.force) as file, talk.counting("images") as count:
        poorly = (lambda name, psnr: _detail(name, psnr, talk)) if talk.verbose else None
        report = bulk.encode(
            model, _batches(sources, reading), file, options,
            threads=settings.threads, progress=count, poor=poorly,
        )  # fmt: skip
        if not report.images:
            raise ImageError(
                "expected images, found none that can be coded", where=" ".join(inputs)
            )
    talk.say(f"{_name(target)}: {summary(report, model.image_shape)}")
    if report.poor:
        talk.warning(poor(report, model, options))
    if talk.errors:
        raise click.exceptions.Exit(1)


def open_model(name: str) -> Codec:
    """The codec that a name or a path stands for."""
    from cvae import codec

    return codec.open_model(name)


def _stdin() -> TarSource:
    """The archive on stdin, for a thread: past the buffer, of which it would hold the lock at exit."""
    from cvae.data.sources import TarSource
    from cvae.data.tars import Rejoined

    stdin: Any = sys.stdin.buffer
    return TarSource(Rejoined(bytes(stdin.read1(len(stdin.peek()))), stdin.raw), "stdin")


def _sources(item: str, split: str | None) -> list[Source]:
    """What one input stands for; a URL may be a pattern or a folder, too."""
    if not common.is_url(item):
        return [_source(item, split)]
    from cvae.packs import shards as worklist

    return [shard.source for shard in worklist.cut(worklist.resolve([item]), split=split)]


def _source(item: str, split: str | None) -> Source:
    from cvae.data import sources, tars

    path = Path(item)
    if item == STDIO:
        if not tars.begins_tar(common.peek(_HEAD)):
            raise ImageError("stdin: expected a tar archive, to be one of several inputs")
        return _stdin()
    if path.is_dir():
        return sources.FolderSource(path)
    if sources.is_array(path):
        return sources.array_source(path, split)
    return sources.TarSource(path, item) if tars.is_tar(path) else sources.FileSource(path)


def _batches(sources: list[Source], reading: Reading) -> Iterator[Batch]:
    for source in sources:
        try:
            yield from source.batches(reading)
        except ImageShapeError as error:  # of a whole array
            advised(error)
            raise


def _refuse(error: CvaeError, talk: Talk) -> None:
    talk.error(advised(error))


def _detail(name: str, psnr: float, talk: Talk) -> None:
    """One line of an image that comes back badly; a name may hold anything."""
    from cvae.data.folders import printable

    talk.detail(f"{printable(name)}: comes back at {psnr:.2f} dB")


def advised(error: CvaeError) -> CvaeError:
    """The error with advice, and without what an archive's names could do to a terminal."""
    if isinstance(error, ImageShapeError):
        error.advice = error.advice or common.FIT_ADVICE
    return error


def _target(inputs: tuple[str, ...], output: str | None) -> Location | None:
    """Where the pack goes; None is stdout."""
    from cvae.data import places as storage
    from cvae.data import sources, tars

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
    if sources.is_array(target) or tars.is_tar(target):
        raise click.UsageError(f"-o {output} would be a pack with the ending of something else")
    if output in inputs:
        raise OutputError("is input and output at once", where=output)
    return target


@contextmanager
def _output(target: Location | None, force: bool) -> Iterator[BinaryIO]:
    from cvae.data import places as storage

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


def summary(report: Tally, shape: tuple[int, int, int]) -> str:
    """What was written, in one line."""
    height, width, channels = shape
    each = report.file_bytes / report.images
    psnr = "" if report.psnr_mean is None else f", {report.psnr_mean:.2f} dB on average"
    return (
        f"{counted(report.images, 'image')} in {report.file_bytes:,} bytes, {each:.2f} an image, "
        f"{height * width * channels / each:.1f}:1{psnr}"
    )


def poor(report: Tally, codec: Codec, options: EncodeOptions) -> str:
    """What a warning says of images that come back badly, and what helps."""
    one = report.poor == 1
    floor = codec.model.manifest.expected_psnr[codec.quality(options.quality) - 1]
    comes, are = ("comes", "it is") if one else ("come", "they are")
    text = (
        f"{report.poor:,} of {counted(report.images, 'image')} {comes} back below the "
        f"{floor:.1f} dB that 99 % of the images of model {codec.name} reach"
    )
    if 2 * report.poor_inverted > report.poor_sampled:
        option = "leaving out --invert" if options.invert else "--invert"
        return f"{text}; {are} of the other polarity: {option} helps"
    return text
