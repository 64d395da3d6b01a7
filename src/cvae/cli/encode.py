"""`cvae encode`: images to containers or symbols."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cvae import CvaeError
from cvae.cli import bulk, cluster, common
from cvae.cli.common import Talk, Task
from cvae.errors import at

if TYPE_CHECKING:
    from cvae.codec import Codec
    from cvae.data.images import Pixels
    from cvae.options import Encoded
    from cvae.targets import Target


@dataclass(frozen=True)
class Settings:
    """The options that change what is written."""

    quality: int | None
    target: Target | None
    effort: int
    fit: bool
    invert: bool
    npy: bool
    force: bool


@click.command("encode")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    help="File, or folder for several images; `-` is stdout. A name ending in .npy gives the "
    "symbols as an array.  [default: NAME.bin in the current folder]",
)
@common.model_option
@common.quality_option
@click.option(
    "--max-bytes",
    type=click.IntRange(min=1),
    metavar="N",
    help="Choose the quality, image by image: the best picture in at most N bytes. Tries all "
    "hundred, as --min-psnr does; with both, the best picture that keeps to both.",
)
@click.option(
    "--min-psnr", type=click.FloatRange(min=0, max=99), metavar="DB",
    help="Choose the quality, image by image: the smallest file of at least DB decibels.",
)  # fmt: skip
@common.effort_option
@click.option("--fit", is_flag=True, help="Convert and resize images that the model does not code.")
@click.option("--invert", is_flag=True, help="Invert before coding; decode inverts back.")
@click.option("--npy", is_flag=True, help="Write symbols as .npy arrays instead of containers.")
@click.option(
    "--split", type=click.Choice(["test", "train"]),
    help="Which images of an .npz file.  [default: test, where it has splits]",
)  # fmt: skip
@click.option(
    "--no-names", is_flag=True,
    help="Of a pack: leave the names of the images out; decode --only then takes numbers alone.",
)  # fmt: skip
@click.option(
    "--no-verify", is_flag=True,
    help="Of a pack: do not decode what was coded, which is what tells the PSNR. Much faster at "
    "--effort 0; at others the search takes the time.",
)  # fmt: skip
@common.worker_options
@cluster.options
@partial(
    common.file_options,
    verbose="A line for every file; of a pack, for every image that comes back worse than 99 % of the "
    "model's own would.",
)
def command(
    images: tuple[str, ...],
    output: str | None,
    model: str | None,
    quality: int | None,
    max_bytes: int | None,
    min_psnr: float | None,
    effort: int,
    fit: bool,
    invert: bool,
    npy: bool,
    split: str | None,
    no_names: bool,
    no_verify: bool,
    jobs: int | None,
    threads: int | None,
    workers: int | None,
    scheduler: str | None,
    shard_images: int | None,
    resume: bool,
    force: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Encode images to files of a dozen bytes, or many to one pack.

    IMAGE is a file, a folder, or `-` for stdin; put -- before names that begin with a dash. Several
    images and an -o that names a file give a pack, and so does an array of images (.npz, .npy) or a
    tar archive, which may come from stdin.

    Prints bytes, compression ratio and PSNR on stderr, and warns when a picture is worse than the
    model's own kind of image would be. A bad file is named and skipped; the exit code is then 1.
    """
    from cvae import codec as codecs
    from cvae.data.images import SUFFIXES, find_images
    from cvae.models import registry
    from cvae.targets import Target

    common.refuse_device(output)
    npy = npy or (output is not None and output.endswith(".npy"))
    if npy and (fit or invert):
        raise click.UsageError(
            "symbols as .npy carry no header that could record --fit or --invert"
        )
    target = None
    if max_bytes is not None or min_psnr is not None:
        if quality is not None:
            raise click.UsageError("--max-bytes and --min-psnr choose the quality, which -q fixes")
        if npy:
            raise click.UsageError(
                "--max-bytes and --min-psnr choose a quality, which .npy does not record"
            )
        target = Target(max_bytes, min_psnr)
    if output is not None and Path(output).suffix.lower() in SUFFIXES:
        raise click.UsageError(f"-o {output} would be a container with the ending of an image")
    machines = cluster.ClusterSettings(workers, scheduler, shard_images, resume)
    shards = machines.wanted()
    if shards and (npy or threads):
        raise click.UsageError(
            "workers write packs, and use one thread each: no .npy, no --threads"
        )
    if shards or (not npy and bulk.makes_pack(images, output)):
        if target is not None:
            raise click.UsageError(
                "--max-bytes and --min-psnr choose a quality for each image; a pack has one for all"
            )
        packing = bulk.EncodeSettings(
            model or registry.DEFAULT, quality, effort, fit, invert, split,
            not no_names, not no_verify, jobs, threads, force,
        )  # fmt: skip
        talk = Talk(quiet, verbose)
        if shards:
            cluster.encode(images, output, packing, machines, talk)
        else:
            bulk.encode(images, output, packing, talk)
        return
    if split or no_names or no_verify or jobs or threads:
        several = len(images) > 1 or Path(images[0]).is_dir()
        why = "name a file with -o" if several else "one image makes no pack"
        raise click.UsageError(
            f"--split, --no-names, --no-verify, --jobs and --threads are for packs: {why}"
        )
    suffix = ".npy" if npy else ".bin"
    tasks = common.plan(images, output, lambda path: path.stem + suffix, find_images, "images")
    common.refuse_terminal(tasks, force)
    codec = codecs.open_model(model or registry.DEFAULT)
    talk = Talk(quiet, verbose or len(tasks) == 1)
    settings = Settings(quality, target, effort, fit, invert, npy, force)
    coded: list[tuple[int, float]] = []
    for batch in common.batches(tasks, talk):
        coded += _encode_batch(codec, batch, settings, talk)
    if len(tasks) > 1:
        talk.say(f"{len(coded):,} of {len(tasks):,} images encoded{_summary(codec, coded)}")
    if talk.errors:
        raise click.exceptions.Exit(1)


def _encode_batch(
    codec: Codec, tasks: list[Task], settings: Settings, talk: Talk
) -> list[tuple[int, float]]:
    """Encodes what can be read; gives size and PSNR of each file written."""
    import numpy as np

    read = list(_read(codec, tasks, settings, talk))
    if not read:
        return []
    batch = np.stack([pixels for _, pixels, _ in read])
    if settings.invert:
        batch = 255 - batch
    original_sizes = [size for *_, size in read]
    coded = _encode_pixels(codec, batch, original_sizes, settings)
    written = []
    for (task, _, _), pixels, item in zip(read, batch, coded, strict=True):
        if isinstance(item, CvaeError):
            item.where = task.name
            talk.error(item)
            continue
        data = _npy(codec, item) if settings.npy else item.data
        try:
            task.write(data, settings.force)
        except CvaeError as error:
            talk.error(error)
            continue
        written.append((len(data), item.psnr))
        talk.detail(
            f"{task.name} -> {task.target_name}: {_facts(codec, item, len(data), settings)}"
        )
        if item.poor:
            talk.warning(f"{task.name}: {_poor(codec, pixels, item, settings)}")
    return written


def _encode_pixels(
    codec: Codec,
    batch: Pixels,
    original_sizes: list[tuple[int, int] | None],
    settings: Settings,
) -> Sequence[Encoded | CvaeError]:
    if settings.target is None:
        return codec.encode_batch(
            batch, settings.quality, original_sizes, settings.invert, settings.effort
        )
    from cvae import targets

    return targets.encode_batch(
        codec, batch, settings.target, original_sizes, settings.invert, settings.effort
    )


def _read(
    codec: Codec, tasks: list[Task], settings: Settings, talk: Talk
) -> Iterator[tuple[Task, Pixels, tuple[int, int] | None]]:
    """The images that can be read, each with its original size where `--fit` changed it."""
    from cvae.bitstream.container import MAX_SIDE
    from cvae.data import files, images
    from cvae.errors import ImageError, ImageShapeError

    shape = codec.image_shape
    for task in tasks:
        try:
            with at(task.name):
                data = task.read()
                if task.target is not None:
                    files.check_writable(task.target, settings.force)
                pixels, original = images.read_image(data, task.name, shape, settings.fit)
                height, width, _ = original
                if max(height, width) > MAX_SIDE:
                    raise ImageError(
                        f"expected sides of at most {MAX_SIDE}, found {width}x{height}"
                    )
        except ImageShapeError as error:
            error.advice = common.FIT_ADVICE
            talk.error(error)
            continue
        except CvaeError as error:
            talk.error(error)
            continue
        yield task, pixels, None if original == shape else (width, height)


def _facts(codec: Codec, item: Encoded, size: int, settings: Settings) -> str:
    if settings.npy:
        return f"{len(item.symbols)} symbols, {item.psnr:.2f} dB"
    height, width, _ = codec.image_shape
    fitted = f" (of the {width}x{height} it was fitted to)" if settings.fit else ""
    payload = f"{size} bytes ({item.payload_bytes} of payload)"
    quality = f", quality {item.quality}" if settings.target else ""
    return f"{payload}, {_ratio(codec, size)}, {item.psnr:.2f} dB{fitted}{quality}"


def _npy(codec: Codec, item: Encoded) -> bytes:
    import numpy as np

    symbols = item.symbols.reshape(codec.model.manifest.latent_shape)
    limits = (int(symbols.min()), int(symbols.max()))
    dtype = np.result_type(*(np.min_scalar_type(min(-1, limit, -limit)) for limit in limits))
    buffer = io.BytesIO()
    np.save(buffer, symbols.astype(dtype), allow_pickle=False)
    return buffer.getvalue()


def _summary(codec: Codec, coded: list[tuple[int, float]]) -> str:
    if not coded:
        return ""
    total = sum(size for size, _ in coded)
    psnr = sum(psnr for _, psnr in coded) / len(coded)
    return f" in {total:,} bytes, {_ratio(codec, total / len(coded))}, {psnr:.2f} dB on average"


def _ratio(codec: Codec, size: float) -> str:
    height, width, channels = codec.image_shape
    return f"{height * width * channels / size:.1f}:1"


def _poor(codec: Codec, pixels: Pixels, item: Encoded, settings: Settings) -> str:
    text = (
        f"comes back at {item.psnr:.1f} dB, below the {item.expected_psnr:.1f} dB that 99 % of the "
        f"images of model {codec.name} reach"
    )
    inverted = codec.encode_batch(255 - pixels[None], item.quality, effort=settings.effort)[0]
    if inverted.psnr > item.psnr and not inverted.poor:
        option = "leaving out --invert" if settings.invert else "--invert"
        return f"{text}; it is of the other polarity: {option} gives {inverted.psnr:.1f} dB"
    return text
