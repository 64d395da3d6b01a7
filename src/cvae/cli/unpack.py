"""`cvae unpack`: the images of one pack, or of a folder of packs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cvae import CvaeError, FormatError
from cvae.cli import asked, files, kept, options
from cvae.cli.files import STDIO
from cvae.cli.options import say_unused
from cvae.cli.talk import Talk, counted
from cvae.errors import at

if TYPE_CHECKING:
    from cvae.packs.decode import Pack
    from cvae.packs.reader import Range


@click.command("unpack")
@click.argument("source", metavar="PACK")
@click.argument("patterns", nargs=-1, metavar="[PATTERN...]")
@options.output(
    "A folder, .npz, .npy or .tar; an image file for one image; `-` is a tar archive on stdout.  "
    "[default: the folder NAME_reconstructed; stdin goes to stdout unless that is a terminal]"
)
@options.model("the one that the pack names")
@click.option(
    "--only", multiple=True, metavar="IMAGES",
    help="Only these images, by number from 0 (17,42-50) or by name. May be repeated.",
)  # fmt: skip
@click.option(
    "--keep-going", is_flag=True, help="Name what is damaged and decode the rest; the exit code is then 1."
)  # fmt: skip
@options.max_pixels
@options.threads
@options.force
@options.list_skipped
@options.talk(verbose="")
def command(
    source: str, patterns: tuple[str, ...], output: str | None, model: str | None,
    only: tuple[str, ...], keep_going: bool,
    max_pixels: int | None, threads: int | None, force: bool, talk: Talk,
) -> None:  # fmt: skip
    """Decode the images of a pack.

    \b
      cvae unpack scans.bin                 -> scans_reconstructed/
      cvae unpack mnist.bin -o back.npz
      cvae unpack coded/ --only 17,42-50    some images of a folder of packs
      cvae unpack scans.bin 'dogs/*.png'    those whose names match; see `cvae list`

    PACK is a file or a folder that `cvae pack` wrote, here or at a URL, or `-` for stdin. The model
    is found by the id in the pack. PATTERN takes images by their whole names, in which * stands for
    anything, / included, ? for one character, and [ab] for one of some; what is itself a name takes
    that alone. Nothing is written when what
    is asked for is damaged, unless --keep-going is given.
    """
    from cvae import packs
    from cvae.data import pipeline, sinks
    from cvae.options import EncodeOptions

    name = "stdin" if source == STDIO else source
    with ExitStack() as stack:
        stack.enter_context(at(name))
        asked.check_pack(source)
        opened = packs.open(files.place(source), model, damaged=True, max_pixels=max_pixels)
        pack = stack.enter_context(opened)
        if not pack.reader.images and not pack.reader.damage:
            raise CvaeError("holds no images")
        target = _target(source, output)
        kept.refuse_inputs([target] if isinstance(target, Path) else [], [source])
        array = isinstance(target, Path) and sinks.is_array(target)
        pack.restores = not array
        if pack.codec.any_size:
            say_unused(EncodeOptions(max_pixels=max_pixels), pack.codec.name, talk)
        # Networks that tell symbols take so long that a block which somebody made up may as well be found
        # late, where what was written by then goes away.
        decode = keep_going or not pack.codec.staged or not isinstance(target, Path)
        ranges = _whole(pack, asked.chosen(pack, only, patterns), decode, keep_going, talk, name)
        total = sum(stop - start for start, stop in ranges)
        if not total:
            raise CvaeError("no image is left to decode")
        if array and pack.codec.any_size:
            text = "is one array, expected a folder or .tar for images of any size"
            raise click.UsageError(f"-o {output} {text}")
        if total > 1 and isinstance(target, Path) and sinks.is_image(target):
            text = "is one image, expected a folder, .npz, .npy or .tar for several"
            raise click.UsageError(f"-o {output} {text}")
        if array and pack.reader.header.sizes:
            talk.warning(f"{target}: images stay as they were fitted; files get their own sizes")
        for text in _left_out(pack, target):
            talk.warning(f"{target if isinstance(target, Path) else 'stdout'}: {text}")
        jobs, shape = threads or pipeline.processors(), pack.codec.image_shape
        names = (name for _, name in pack.reader.names())
        sink = stack.enter_context(
            sinks.open_sink(
                target, shape, ranges, names=names, force=force, jobs=jobs, read=Path(source),
                refuse=talk.error, exact=pack.codec.lossless,
            )
        )  # fmt: skip
        with talk.bar(total) as bar, _advised(keep_going):
            if pack.codec.any_size:
                talk.slow()
            for decoded in pack.decode(ranges, threads):
                sink(decoded)
                bar.update(len(decoded.numbers))
        images = len(pack)
    talk.say_failures()
    where = target if isinstance(target, Path) else "stdout"
    talk.say(f"{name} -> {where}: {total:,} of {counted(images, 'image')} decoded")
    talk.end()


def _whole(
    pack: Pack, ranges: list[Range], decode: bool, keep_going: bool, talk: Talk, name: str
) -> list[Range]:
    """The images that are not damaged, found before anything is written. Raises FormatError."""

    def refuse(error: CvaeError) -> None:
        error.where = name
        if not keep_going:
            raise error
        talk.error(error)

    with _advised(keep_going):
        return pack.whole(ranges, refuse, decode)


@contextmanager
def _advised(keep_going: bool) -> Iterator[None]:
    """Damage that --keep-going would go around."""
    try:
        yield
    except FormatError as error:
        if not keep_going:
            error.advice = error.advice or "--keep-going decodes what is whole"
        raise


def _left_out(pack: Pack, target: Any) -> Iterator[str]:
    """What is said of labels that an output does not get; of those in an .npz file its writer tells."""
    from cvae.data.labels import FOLDER

    fields = {*pack.reader.fields()}
    ending = target.suffix.lower() if isinstance(target, Path) else ".tar"
    if ending == ".npz":
        return
    if (ending == ".npy" and fields) or (ending != ".tar" and fields - {FOLDER}):
        yield "labels are written to .npz and .tar alone"
    elif FOLDER in fields and _is_label_alone(pack):
        yield "labels folder: no file holds them, so they were left out, but for folders in names"


def _is_label_alone(pack: Pack) -> bool:
    """Whether some folder is the label of an image, and not in its name."""
    from cvae.data.labels import FOLDER, of_folder

    for place in pack.reader.blocks():
        with suppress(FormatError):
            block = pack.reader.read(place)
            names = block.names or [""] * block.images
            for name, label in zip(names, block.labels or (), strict=False):
                if FOLDER in label and label[FOLDER] != of_folder(name).get(FOLDER):
                    return True
    return False


def _target(source: str, output: str | None) -> Any:
    """Where the images go: a path, or stdout for a tar archive."""
    from cvae.data import places, sinks

    if output == STDIO:
        files.refuse_terminal(force=False)
        return files.open_stdout()
    if output is not None:
        if places.is_url(output):
            raise click.UsageError(f"-o {output}: images are written to this machine only")
        if not sinks.is_array(Path(output)) and Path(output).suffix.lower() != ".tar":
            files.refuse_as_folder(output, "a folder, .npz, .npy or .tar")
        return Path(output)
    if source == STDIO and sys.stdout is not None and not sys.stdout.isatty():
        return files.open_stdout()
    stem = "stdin" if source == STDIO else Path(source.rstrip("/")).stem
    return Path(f"{stem}_reconstructed")
