"""Options of `cvae pack` for a folder of packs, which several processes or machines write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from cvae.cli import files, options
from cvae.cli.talk import FIT_ADVICE, Talk

if TYPE_CHECKING:
    from cvae.packs.run import Plan

_FOLDER = "A folder of packs"


def _plan(
    workers: int | None, scheduler: str | None, shard_images: int | None, resume: bool
) -> Plan | None:
    """Who writes a folder of packs; None when no option asks for one. Raises UsageError."""
    if not resume and (workers, scheduler, shard_images) == (None,) * 3:
        return None
    from cvae.packs import executors, shards
    from cvae.packs.run import Plan

    if workers is not None and scheduler is not None:
        raise click.UsageError("--workers starts processes, --scheduler joins others: choose one")
    if scheduler is not None and not executors.is_address(scheduler):
        raise click.UsageError(f"--scheduler {scheduler}: expected tcp://HOST:PORT")
    return Plan(
        workers=workers, scheduler=scheduler, shard_images=shard_images or shards.SHARD_IMAGES,
        resume=resume, advice=FIT_ADVICE,
    )  # fmt: skip


collected = options.collect(
    "plan", _plan,
    options.grouped(
        _FOLDER, "--workers", type=click.IntRange(1, 1024), metavar="N", help="Write it with N processes.",
    ),
    options.grouped(
        _FOLDER, "--scheduler", metavar="ADDRESS",
        help="Write it on a Dask cluster, tcp://HOST:8786 (extra `cluster`).",
    ),
    options.grouped(
        _FOLDER, "--shard-images", type=click.IntRange(min=1), metavar="N",
        help="Images a pack; archives and packs are not cut.  [default: 65,536]",
    ),
    options.grouped(
        _FOLDER, "--resume", is_flag=True,
        help="Continue the same command after an interruption; whole packs stay.",
    ),
)  # fmt: skip


def say_whole(inputs: Sequence[str], plan: Plan, talk: Talk) -> None:
    """Says that the only input is not cut, where several packs or workers are asked for."""
    from cvae.data.contents import What
    from cvae.packs.shards import SHARD_IMAGES

    several = (plan.workers or 1) > 1 or plan.scheduler or plan.shard_images != SHARD_IMAGES
    wholes = (What.TAR, What.ZIP, What.PACK, What.PACKS)
    if several and len(inputs) == 1 and files.what(inputs[0]) in wholes:
        talk.warning(
            f"{inputs[0]}: an archive or a pack is not cut: one worker makes one pack of it"
        )
