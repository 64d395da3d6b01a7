"""`cvae encode --workers` and `--scheduler`: packs on many machines, one a shard."""

from __future__ import annotations

import hashlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cvae import CvaeError, ImageError, ImageShapeError, OutputError
from cvae.cli import bulk, common
from cvae.cli.common import STDIO, Talk, counted

if TYPE_CHECKING:
    from cvae.codec import Codec
    from cvae.packs.manifest import Manifest, Part
    from cvae.packs.run import Failure, Job
    from cvae.packs.shards import Input

_REMOTE_JOBS = 16  # threads that wait for files from far away

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class ClusterSettings:
    """The options of `cvae encode` that are about machines."""

    workers: int | None
    scheduler: str | None
    shard_images: int | None
    resume: bool

    def wanted(self) -> bool:
        """Whether shards are asked for. Raises UsageError when the options contradict each other."""
        if self.workers is not None and self.scheduler is not None:
            raise click.UsageError("--workers starts a cluster, --scheduler joins one: choose one")
        if self.workers is None and self.scheduler is None:
            if self.shard_images is not None or self.resume:
                raise click.UsageError("--shard-images and --resume need --workers or --scheduler")
            return False
        return True


def options(command: Command) -> Command:
    """--workers, --scheduler, --shard-images and --resume."""
    found = (
        click.option(
            "--workers", type=click.IntRange(1, 1024), metavar="N",
            help="Write a folder of packs, -o DIR, with N processes (extra `cluster`). IMAGE may then "
            "be a URL, too, or a pattern in quotes: 's3://bucket/in/*.npz'.",
        ),
        click.option(
            "--scheduler", metavar="ADDRESS",
            help="The same on a Dask cluster: tcp://HOST:8786.",
        ),
        click.option(
            "--shard-images", type=click.IntRange(min=1), metavar="N",
            help="Images of each of those packs.  [default: 65,536]",
        ),
        click.option(
            "--resume", is_flag=True,
            help="Go on with a run of the same command that was interrupted: packs that are there and "
            "whole stay.",
        ),
    )  # fmt: skip
    for option in reversed(found):
        command = option(command)
    return command


def encode(
    inputs: tuple[str, ...],
    output: str | None,
    settings: bulk.EncodeSettings,
    machines: ClusterSettings,
    talk: Talk,
) -> None:
    """Writes a folder of packs and their manifest."""
    from cvae.packs import decode as packed
    from cvae.packs import executors as scheduler
    from cvae.packs import manifest as shards
    from cvae.packs import run as cluster
    from cvae.packs import shards as worklist

    folder = _folder(inputs, output)
    if machines.scheduler is not None and not scheduler.is_address(machines.scheduler):
        raise click.UsageError(f"--scheduler {machines.scheduler}: expected tcp://HOST:PORT")
    if machines.resume and settings.force:
        raise click.UsageError("--resume keeps what is there, --force does not: choose one")
    codec = bulk.open_model(settings.model)
    found = worklist.resolve(inputs)
    worklist.shared(found, folder)
    size = machines.shard_images or worklist.SHARD_IMAGES
    job = _job(codec, settings, machines, found, folder, size)
    if machines.resume:
        packed.check_manifest(folder)
    before = shards.check(folder, job.request, resume=machines.resume, force=settings.force)
    known = {part.file: part for part in before.shards} if before else {}
    with _client(machines, folder) as client:
        shards.begin(folder, job.request, force=settings.force)
        if not client.nthreads():
            talk.say(f"{machines.scheduler}: has no workers yet; waiting for them")
        with _progress(talk) as progress:
            results = cluster.encode(
                client, job, worklist.cut(found, size, settings.split), progress, known,
                send_model=machines.scheduler is not None,
            )  # fmt: skip
    manifest = _manifest(codec, job, results, talk, inputs)
    shards.finish(folder, manifest)
    _say(manifest, folder, codec, settings, talk)
    if talk.errors or manifest.left_out:
        raise click.exceptions.Exit(1)


@contextmanager
def _client(machines: ClusterSettings, folder: Any) -> Iterator[Any]:
    """A client of Dask; after an error, workers of this machine are gone, and what they had begun."""
    from cvae.packs import executors as scheduler
    from cvae.packs import manifest as shards

    with _one_interrupt():
        try:
            with scheduler.connect(machines.workers, machines.scheduler) as client:
                yield client
        except BaseException:
            if machines.workers is not None:
                with suppress(CvaeError):  # what went wrong first is what is told
                    shards.tidy(folder)
            raise


@contextmanager
def _one_interrupt() -> Iterator[None]:
    """Ctrl-C ends the command once: further ones would disturb what closes and deletes behind it."""
    before = signal.getsignal(signal.SIGINT)
    # Elsewhere than in the main thread none could be set; another one has been chosen on purpose.
    if (
        threading.current_thread() is not threading.main_thread()
        or before is not signal.default_int_handler
    ):
        yield
        return

    def interrupt(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as long as this process lives
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is interrupt:
            signal.signal(signal.SIGINT, before)


def _folder(inputs: tuple[str, ...], output: str | None) -> Any:
    from cvae.data import places as storage

    if STDIO in inputs:
        raise click.UsageError("workers cannot read stdin; name files, folders or URLs")
    if output is None or output == STDIO:
        raise click.UsageError("several workers write several packs: name a folder with -o DIR")
    folder = storage.absolute(storage.locate(output))
    if isinstance(folder, Path) and folder.exists() and not folder.is_dir():
        raise OutputError("exists already and is no folder", where=output)
    common.refuse_as_folder(output, "a folder, for the packs of several workers")
    return folder


def _job(
    codec: Codec,
    settings: bulk.EncodeSettings,
    machines: ClusterSettings,
    found: list[Input],
    folder: Any,
    size: int,
) -> Job:
    from cvae.data import places as storage
    from cvae.packs import encode as bulks
    from cvae.packs import run as cluster

    path = codec.model.path.absolute()
    quality = codec.quality(settings.quality)
    identity = hashlib.sha256(repr(codec.model.manifest.identity).encode()).hexdigest()
    request = {
        "sources": [str(storage.absolute(storage.locate(item.text))) for item in found],
        "model": identity,
        "quality": quality,
        "effort": settings.effort,
        "inverted": settings.invert,
        "fitted": settings.fit,
        "names": settings.names,
        "verified": settings.verify,
        "split": settings.split,
        "shard_images": size,
        "block_images": bulks.BLOCK,
    }
    options = bulks.Options(
        quality, settings.effort, settings.invert, settings.names, settings.fit, settings.verify
    )
    far = any(
        isinstance(place, storage.Remote)
        for item in found
        for place in (item.folder, *(file.place for file in item.files[:1]))
    )
    return cluster.Job(
        folder, path, cluster.file_digest(path), options, settings.fit,
        settings.jobs or (_REMOTE_JOBS if far else 1), request, machines.resume, advice=common.FIT_ADVICE,
    )  # fmt: skip


def _manifest(
    codec: Codec, job: Job, results: list[Part | Failure], talk: Talk, inputs: tuple[str, ...]
) -> Manifest:
    """What was written, unless something was not: then every error, and no manifest."""
    from cvae.packs import manifest as shards
    from cvae.packs.run import Failure

    failures = [item for item in results if isinstance(item, Failure)]
    for failure in failures:
        talk.error(bulk.advised(failure.error()))
    if failures:
        advice = "when their sources are repaired, --resume does the rest"
        if any(isinstance(failure.error(), ImageShapeError) for failure in failures):
            advice = (
                "another model (-m) or --fit is another run, which --force starts in this folder"
            )
        talk.say(
            f"{job.folder}: {len(failures)} of {counted(len(results), 'pack')} could not be written, "
            f"so there is no manifest; {advice}"
        )
        raise click.exceptions.Exit(1)
    parts = shards.numbered([item for item in results if isinstance(item, shards.Part)])
    if not sum(part.images for part in parts):
        raise ImageError("expected images, found none that can be coded", where=" ".join(inputs))
    assert job.options.quality is not None
    manifest = codec.model.manifest
    return shards.Manifest(
        manifest.name, manifest.id, job.options.quality, job.options.inverted, job.fit, parts,
        job.request,
    )  # fmt: skip


@contextmanager
def _progress(talk: Talk) -> Iterator[Callable[[Part], None]]:
    """Names images that are left out, and counts on a terminal what is done."""
    shown = not talk.quiet and sys.stderr.isatty()
    done = images = 0

    def report(part: Part) -> None:
        nonlocal done, images
        done, images = done + 1, images + part.images
        if shown:
            click.echo("\r\x1b[K", nl=False, err=True)
        for message in part.messages:
            talk.error(bulk.advised(ImageError(message)))
        if part.left_out > len(part.messages):
            more = part.left_out - len(part.messages)
            talk.error(ImageError(f"{more:,} more left out", where=part.file))
        talk.detail(f"{part.file}: {counted(part.images, 'image')} in {part.file_bytes:,} bytes")
        if shown:
            click.echo(f"{counted(done, 'pack')}, {counted(images, 'image')} ", nl=False, err=True)

    try:
        yield report
    finally:
        if shown and done:
            click.echo("\r\x1b[K", nl=False, err=True)


def _say(
    manifest: Manifest, folder: Any, codec: Codec, settings: bulk.EncodeSettings, talk: Talk
) -> None:
    from cvae.packs.encode import Report

    parts = manifest.shards
    report = Report(
        manifest.images,
        size=manifest.file_bytes,
        psnr_sum=sum(part.psnr_sum for part in parts),
        verified=sum(part.verified for part in parts),
        expected_psnr=codec.model.manifest.expected_psnr[manifest.quality - 1],
        poor=sum(part.poor for part in parts),
        poor_sampled=sum(part.poor_sampled for part in parts),
        poor_inverted=sum(part.poor_inverted for part in parts),
    )
    talk.say(f"{folder}: {counted(len(parts), 'pack')}: {bulk.summary(report, codec.image_shape)}")
    if report.poor:
        talk.warning(bulk.poor(report, codec.name, settings.invert))
