"""`cvae pack`: many images to one file, or to a folder of files."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cvae import CvaeError, ImageError, OutputError
from cvae.cli import append, defaults, files, kept, machines, options, tables
from cvae.cli.files import STDIO
from cvae.cli.options import refuse_lossy, say_unused
from cvae.cli.talk import FIT_ADVICE, Talk, counted
from cvae.errors import Notice, at

if TYPE_CHECKING:
    from cvae.codec import Codec
    from cvae.data.batches import Source
    from cvae.data.places import Location, Place
    from cvae.data.sources import Which
    from cvae.options import EncodeOptions, Tally
    from cvae.packs.manifest import Part
    from cvae.packs.reader import Reader
    from cvae.packs.run import Plan


_FEW = 64  # images: a pack of more is smaller than so many files


@click.command("pack", cls=options.GroupedCommand)
@click.argument("inputs", nargs=-1, required=True, metavar="IN...")
@options.output(
    "The pack, or a folder of packs; `-` is stdout.  [default: NAME.bin in the current folder; "
    "stdin goes to stdout]"
)
@options.model(f"by the first image, {defaults.TEXT}")
@options.packing
@options.threads
@options.force
@click.option(
    "--append", "adds", is_flag=True,
    help="Add the images to the pack OUT, with its model, quality and inversion. What it has is copied.",
)  # fmt: skip
@options.list_skipped
@options.talk(
    FIT_ADVICE, verbose="Name every image below the PSNR that 99 % of the model's own reach."
)
@machines.collected
def command(
    inputs: tuple[str, ...], output: str | None, model: str | None, options: EncodeOptions,
    threads: int | None, force: bool, adds: bool, talk: Talk, plan: Plan | None,
) -> None:  # fmt: skip
    """Encode many images to one pack, with one header.

    \b
      cvae pack scans/                  -> scans.bin
      cvae pack mnist.npz               -> mnist.bin, of the test images
      cvae pack scans/ more.tar -o all.bin
      cvae pack new/ --append -o all.bin
      cvae pack 's3://bucket/*.npz' -o coded/ --workers 8

    IN is a folder, an image, an array of images (.npz, .npy, idx), a tar or ZIP archive, or a pack,
    whose decoded images are taken, here or at a URL; a pattern of such files in quotes; or `-` for a
    tar archive on stdin. A bad image, and a bad one of several inputs, is named and skipped; the exit
    code is then 1. `cvae unpack` decodes packs.

    Any option under "A folder of packs" makes OUT a folder that several processes fill.
    """
    files.refuse_as_input(inputs, output, {".bin"}, {"CONTAINER", "PACK"})
    raw, files_take = 0, ""  # bytes of pixels, where they are known
    if adds:
        if plan is not None:
            raise click.UsageError("--append adds to one pack, not to a folder of packs")
        if force:
            raise click.UsageError("--append keeps what is there, --force does not: choose one")
        _append(inputs, append.target(output), model, options, threads, talk)
        return
    if plan is None:
        target = _target(inputs, output, force)
        kept.refuse_inputs([target] if target else [], inputs)
        if inputs != (STDIO,):
            _refuse_coded(inputs)
        sources = [_stdin() if item == STDIO else item for item in inputs]
        codec = _model(model, sources, options, talk)
        tally, raw = _pack_file(codec, sources, target, options, threads, force, talk)
        where = str(target or "stdout")
        files_take = _files_take(codec, target, tally)
    else:
        folder = _folder(inputs, output)
        plan = replace(plan, threads=threads, force=force)
        if plan.resume and force:
            raise click.UsageError("--resume keeps what is there, --force does not: choose one")
        _refuse_coded(inputs)
        machines.say_whole(inputs, plan, talk)
        codec = _model(model, inputs, options, talk)
        packs, tally = _pack_folder(codec, inputs, folder, options, plan, talk)
        raw = 0 if codec.any_size else tally.images * math.prod(codec.image_shape)
        where = f"{output}: {counted(packs, 'pack')}"
    # Of the lossless models, the one that is best on some; stdin is read but once.
    several = options.lossless and tally.images > 1 and STDIO not in inputs
    by = "" if model else f"; model {codec.name}, by the first image{'s' if several else ''}"
    talk.say_failures()
    talk.say(f"{where}: {_summary(tally, raw, codec.lossless)}{by}{files_take}")
    _warn(tally, codec, options, talk)
    talk.end()


def _append(
    inputs: Sequence[str], target: Location, model: str | None, options: EncodeOptions,
    threads: int | None, talk: Talk,
) -> None:  # fmt: skip
    """Adds to a pack, says what was added, and ends the command."""
    kept.refuse_inputs([target], inputs)
    if inputs != (STDIO,):
        _refuse_coded(inputs)
    sources = [_stdin() if item == STDIO else item for item in inputs]
    talk.advice = (
        "a pack has one model: without --append and with another -o they get a pack of theirs"
    )
    with at(target), append.opened(target) as before:
        codec = append.codec_of(model, before.header, target).restoring(options.max_pixels)
        options = append.options_of(before.header, options, codec, target)
        tally, _ = _pack_file(codec, sources, target, options, threads, True, talk, before)
        images = before.images + tally.images
    talk.say_failures()
    added = f"{counted(tally.images, 'image')} added{_kept_of(tally, codec.lossless)}"
    talk.say(f"{target}: {added}; {counted(images, 'image')} in {tally.file_bytes:,} bytes")
    _warn(tally, codec, options, talk)
    talk.end()


def _refuse_coded(inputs: Sequence[str]) -> None:
    """Raises ImageError when the one argument is a container or a model. Packs are decoded."""
    from cvae.data import places
    from cvae.data.contents import What

    is_pack = not places.is_url(inputs[0]) and files.what(inputs[0]) in (What.PACK, What.PACKS)
    if not is_pack:
        files.refuse_coded(inputs)


def _which(options: EncodeOptions) -> Which:
    """Which array of an `.npz` file is asked for."""
    from cvae.data.sources import Which

    return Which(options.split, options.key)


def _target(inputs: Sequence[str], output: str | None, force: bool) -> Location | None:
    """Where one pack goes; None is stdout."""
    from cvae.data import places
    from cvae.data.contents import What, what_is
    from cvae.data.names import SUFFIXES

    if output is not None and places.is_url(output):
        if output.endswith("/"):
            raise click.UsageError(f"-o {output}: a pack needs a name, NAME.bin")
        return places.locate(output)
    if output == STDIO or (output is None and inputs == (STDIO,)):
        files.refuse_terminal(force)
        return None
    target = Path(output or "")
    if output is not None and files.like_a_file(output):
        if what_is(target.name) is not What.FILE or target.suffix.lower() in SUFFIXES:
            raise click.UsageError(f"-o {output} would be a pack with the ending of something else")
    elif output is None or target.is_dir() or output.endswith("/"):
        if len(inputs) > 1 or places.is_url(inputs[0]):
            raise click.UsageError("this pack needs a name: -o NAME.bin")
        name = (
            "stdin" if inputs[0] == STDIO else Path(inputs[0]).absolute().stem.removesuffix(".tar")
        )
        target /= f"{name}.bin"
    return places.locate(target)


def _model(
    name: str | None, sources: Sequence[str | Source], options: EncodeOptions, talk: Talk
) -> Codec:
    """The model that is named, or that of the first image; says what it does not do."""
    codec = defaults.Models(name, talk, options.lossless).of_first(sources, _which(options))
    codec.check_invert(options.invert)
    refuse_lossy(codec)
    if codec.any_size:
        say_unused(options, codec.name, talk)
    return codec.restoring(options.max_pixels)


def _pack_file(
    codec: Codec, sources: Sequence[str | Source], target: Location | None, options: EncodeOptions,
    threads: int | None, force: bool, talk: Talk, before: Reader | None = None,
) -> tuple[Tally, int]:  # fmt: skip
    """Writes one pack; what is known of it, and the bytes of all pixels."""
    from cvae.data import pipeline
    from cvae.data.batches import Batch, Source
    from cvae.packs.encode import encode
    from cvae.packs.source import open_images

    raw = 0

    def poor(name: str, psnr: float) -> None:
        talk.detail(f"{name}: comes back at {psnr:.2f} dB")

    def batches() -> Iterator[Batch]:
        nonlocal raw
        for batch in stream.batches():
            raw += batch.pixels.size
            yield batch

    stream = open_images(
        sources, codec.reading(options), which=_which(options),
        threads=threads or pipeline.processors(), paged=options.pages,
        refuse=talk.raising if _is_one_image(sources, options) else talk.error,
    )  # fmt: skip
    if before is None:
        named = options.names and stream.named
        options = replace(options, names=named, fit=stream.reading.scales)
    with (
        files.writing(target, force) as file,
        talk.progress(stream.count_images, "image") as progress,
    ):
        tally = encode(
            codec, batches(), file, options, threads=threads, progress=progress,
            poor=poor if talk.verbose else None, refuse=talk.error, before=before,
        )  # fmt: skip
        if not tally.images:
            text = "expected images, found none that can be coded"
            where = " ".join("stdin" if isinstance(item, Source) else item for item in sources)
            raise ImageError(text, where=where)
    return tally, raw


def _is_one_image(sources: Sequence[str | Source], options: EncodeOptions) -> bool:
    """Whether all that is asked for is one image, whose error ends the command."""
    from cvae.data.contents import What

    first = sources[0]
    return (
        len(sources) == 1
        and not options.pages
        and isinstance(first, str)
        and files.what(first) is What.FILE
    )


def _stdin() -> Source:
    """The archive on stdin, for a thread: past the buffer, whose lock it would hold at exit."""
    from cvae.data.archives import TarSource
    from cvae.data.contents import What
    from cvae.data.tars import Recorded

    if files.what(STDIO) is not What.TAR:
        advice = "`cvae encode -` takes one image"
        raise ImageError("expected a tar archive", where="stdin", advice=advice)
    stdin: Any = sys.stdin.buffer
    return TarSource(Recorded(bytes(stdin.read1(len(stdin.peek()))), stdin.raw), "stdin")


def _folder(inputs: Sequence[str], output: str | None) -> Place:
    """Where a folder of packs goes. Raises UsageError when several processes cannot write it."""
    from cvae.data import places

    if STDIO in inputs:
        raise click.UsageError("workers cannot read stdin; name files, folders or URLs")
    if output is None or output == STDIO:
        raise click.UsageError("a folder of packs needs a name: -o DIR")
    folder = places.locate(output).absolute()
    if not places.is_url(output) and folder.exists() and not folder.is_folder():
        raise OutputError("exists already and is no folder", where=output)
    files.refuse_as_folder(output, "a folder of packs")
    return folder


def _pack_folder(
    codec: Codec, inputs: Sequence[str], folder: Place, options: EncodeOptions, plan: Plan, talk: Talk
) -> tuple[int, Tally]:  # fmt: skip
    """Writes a folder of packs; how many, and what is known of all."""
    from cvae.packs.run import run

    done = images = 0
    with talk.status() as show:

        def report(part: Part) -> None:
            nonlocal done, images
            for notice in part.notices:
                talk.error(Notice(notice))
            for error in part.errors or _kept(part):
                talk.error(error)
            for change, number in part.changes.items():
                talk.changed(part.file, change, number)
            coded = counted(part.images, "image")
            talk.detail(f"{part.file}: {coded} in {part.file_bytes:,} bytes")
            done, images = done + 1, images + part.images
            show(f"{counted(done, 'pack')}, {counted(images, 'image')} ")

        manifest = run(codec, inputs, folder, options, plan, progress=report, failed=talk.error)
    return len(manifest.shards), manifest.tally


def _kept(part: Part) -> Iterator[CvaeError]:
    """What the manifest keeps of images that were skipped before this run resumed another."""
    for message in part.messages:
        yield ImageError(message, where=part.file)
    if (more := part.left_out - len(part.messages)) > 0:
        yield ImageError(f"{more:,} more skipped", where=part.file)


def _summary(tally: Tally, raw: int, exact: bool) -> str:
    """What was written, in one line; `raw` is the bytes of all pixels, 0 where they are not known."""
    each = tally.file_bytes / tally.images
    ratio = f", {tables.ratio(raw, tally.file_bytes)}" if raw else ""
    size = f"{tally.file_bytes:,} bytes, {each:,.2f} an image"
    return f"{counted(tally.images, 'image')} in {size}{ratio}{_kept_of(tally, exact)}"


def _kept_of(tally: Tally, exact: bool) -> str:
    """What is kept of images, as part of a line: how near they come back, and labels."""
    psnr = "" if tally.psnr_mean is None else f", {tally.psnr_mean:.2f} dB on average"
    labels = f", {counted(tally.labelled, 'label')} kept" if tally.labelled else ""
    return (", lossless" if exact else psnr) + labels


def _files_take(codec: Codec, target: Location | None, tally: Tally) -> str:
    """What is said of a pack of so few images that single files would be smaller."""
    from cvae import packs

    if target is None or codec.any_size or tally.images > _FEW:
        return ""
    with packs.open(target, codec) as pack:
        size = pack.single_bytes()
    smaller = size < tally.file_bytes
    return f"; single files, as of `cvae encode`, would take {size:,} bytes" if smaller else ""


def _warn(tally: Tally, codec: Codec, options: EncodeOptions, talk: Talk) -> None:
    """Says what a caller may not have wanted."""
    if options.labels == "folder" and not tally.labelled:
        talk.warning("--labels folder: expected images in folders, found none, so no label is kept")
    if tally.poor:
        talk.warning(_poor(tally, codec, options))


def _poor(tally: Tally, codec: Codec, options: EncodeOptions) -> str:
    """What a warning says of images that come back badly, and what helps."""
    below = tables.below(codec.expected_psnr(codec.quality(options.quality)), codec.name)
    comes, are = ("comes", "it is") if tally.poor == 1 else ("come", "they are")
    text = f"{tally.poor:,} of {counted(tally.images, 'image')} {comes} back {below}"
    if 2 * tally.poor_inverted <= tally.poor_sampled:
        other = "" if codec.any_size else tables.others(codec.model.manifest)
        return f"{text}; {other}" if other else text
    option = "leaving out --invert" if options.invert else "--invert"
    return f"{text}; {are} of the other polarity: {option} helps"
