"""`cvae encode --workers` and `--scheduler`: packs on many machines, one a shard."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cvae import ImageError, OutputError
from cvae.cli import bulk, common
from cvae.cli.common import STDIO, Talk, counted

if TYPE_CHECKING:
    from cvae.codec import Codec
    from cvae.packs.manifest import Manifest, Part

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
    from cvae.packs import executors, run, shards

    folder = _folder(inputs, output)
    if machines.scheduler is not None and not executors.is_address(machines.scheduler):
        raise click.UsageError(f"--scheduler {machines.scheduler}: expected tcp://HOST:PORT")
    if machines.resume and settings.force:
        raise click.UsageError("--resume keeps what is there, --force does not: choose one")
    codec = bulk.open_model(settings.model)
    plan = run.Plan(
        workers=machines.workers, scheduler=machines.scheduler, threads=settings.jobs,
        shard_images=machines.shard_images or shards.SHARD_IMAGES, resume=machines.resume,
        force=settings.force, advice=common.FIT_ADVICE,
    )  # fmt: skip
    with _progress(talk) as progress:
        manifest = run.run(
            codec, inputs, folder, settings.options(), plan, progress=progress,
            failed=lambda error: talk.error(bulk.advised(error)),
        )  # fmt: skip
    _say(manifest, folder, codec, settings, talk)
    if talk.errors or manifest.tally.left_out:
        raise click.exceptions.Exit(1)


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
        more = part.tally.left_out - len(part.messages)
        if more > 0:
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
    report = manifest.tally
    packs = counted(len(manifest.shards), "pack")
    talk.say(f"{folder}: {packs}: {bulk.summary(report, codec.image_shape)}")
    if report.poor:
        talk.warning(bulk.poor(report, codec, settings.options()))
