"""`cvae decode`: containers or symbols back to images."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cvae import CvaeError, FormatError, ModelNotFoundError
from cvae.cli import common, packed
from cvae.cli.common import Talk, Task
from cvae.errors import at

if TYPE_CHECKING:
    from cvae.bitstream.container import Container
    from cvae.codec import Codec
    from cvae.data.images import Pixels


@click.command("decode")
@click.argument("inputs", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    help="File, or folder for several inputs; `-` is stdout. Its ending chooses the image format. Of a "
    "pack: a folder, .npz, .npy or .tar; `-` is a tar archive.  "
    "[default: NAME_reconstructed.png in the current folder; of a pack the folder NAME_reconstructed; "
    "stdin goes to stdout, a pack as a tar archive unless that is a terminal]",
)
@click.option(
    "-m",
    "--model",
    metavar="MODEL",
    help="Name or path of a .cvae file.  [default: the one that the file names; .npy needs it]",
)
@click.option("-q", "--quality", type=click.IntRange(1, 100), help="Of the symbols in a .npy file.")
@click.option(
    "--only", multiple=True, metavar="IMAGES",
    help="Of a pack: only these images, by number from 0 (17,42-50) or by name. May be repeated.",
)  # fmt: skip
@click.option(
    "--keep-going", is_flag=True,
    help="Of a damaged pack: name what is lost and decode the rest; the exit code is then 1.",
)  # fmt: skip
@common.worker_options
@common.file_options
def command(
    inputs: tuple[str, ...],
    output: str | None,
    model: str | None,
    quality: int | None,
    only: tuple[str, ...],
    keep_going: bool,
    jobs: int | None,
    threads: int | None,
    force: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Decode files to images.

    FILE is a container, a pack, symbols as .npy, a folder of them, or `-` for stdin. A pack is decoded
    by itself.

    The model is found by the id in the file, among those that `cvae models` lists. A bad file is
    named and skipped; the exit code is then 1.
    """
    common.refuse_device(output)
    if packed.is_pack(inputs):
        decode = packed.DecodeSettings(model, only, keep_going, jobs, threads, force)
        packed.decode(inputs[0], output, decode, Talk(quiet, verbose))
        return
    if only or keep_going or jobs or threads:
        raise click.UsageError("--only, --keep-going, --jobs and --threads are for one pack")
    for item in inputs:
        if Path(item).is_dir() and packed.is_folder(item):
            raise FormatError(f"{packed.by_itself(item, 'a folder of packs')}", where=item)
    tasks = common.plan(
        inputs, output, lambda path: f"{path.stem}_reconstructed.png", _find, ".bin or .npy files"
    )
    common.refuse_terminal(tasks, force)
    decoder = _Decoder(model, quality)
    talk = Talk(quiet, verbose or len(tasks) == 1)
    done = sum(_decode_batch(decoder, batch, force, talk) for batch in common.batches(tasks, talk))
    if len(tasks) > 1:
        talk.say(f"{done:,} of {len(tasks):,} files decoded")
    if talk.errors:
        raise click.exceptions.Exit(1)


class _Decoder:
    """Finds the model of each file and opens it once."""

    def __init__(self, model: str | None, quality: int | None) -> None:
        from cvae import codec
        from cvae.models import registry

        self._quality = quality
        self._by_id: dict[int, Codec] = {}
        self._given = codec.Codec(registry.open_model(model)) if model else None

    def codec(self, model_id: int) -> Codec:
        """Raises ModelNotFoundError when the id is of no known model, or not of the given one."""
        from cvae import codec
        from cvae.models import registry

        if self._given:
            try:
                self._given.check_id(model_id)
            except ModelNotFoundError as error:
                error.advice = "leave out --model to find it"
                raise
            return self._given
        if model_id not in self._by_id:
            self._by_id[model_id] = codec.Codec(registry.find_by_id(model_id))
        return self._by_id[model_id]

    def from_npy(self, path: Path) -> Pixels:
        """The picture of symbols in an `.npy` file."""
        from cvae.data import arrays

        if self._given is None or self._quality is None:
            raise CvaeError("symbols carry no header; decoding them takes --model and --quality")
        return self._given.decode_symbols(arrays.read_npy(path), self._quality)


def _decode_batch(decoder: _Decoder, tasks: list[Task], force: bool, talk: Talk) -> int:
    from cvae.bitstream import container
    from cvae.data import files
    from cvae.packs import layout as pack

    read: dict[Codec, list[tuple[Task, Container, list[int]]]] = {}
    done = 0
    for task in tasks:
        try:
            with at(task.name):
                if task.source is not None and task.source.suffix == ".npy":
                    done += _write(task, decoder.from_npy(task.source), force, talk)
                    continue
                data = task.read()
                if pack.is_pack(data):
                    raise FormatError(packed.by_itself(str(task.source or common.STDIO)))
                item = container.unpack(data)
                if task.target is not None:
                    files.check_writable(task.target, force)
                codec = decoder.codec(item.model_id)
                read.setdefault(codec, []).append((task, item, codec.decode_payload(item)))
        except CvaeError as error:
            talk.error(error)
    for codec, group in read.items():
        group_tasks, containers, symbols = zip(*group, strict=True)
        pictures = codec.reconstruct(containers, symbols)
        for task, pixels in zip(group_tasks, pictures, strict=True):
            done += _write(task, pixels, force, talk)
    return done


def _write(task: Task, pixels: Pixels, force: bool, talk: Talk) -> bool:
    from cvae.data import images

    try:
        name = "" if task.target is None else task.target.name
        task.write(images.encode_image(pixels, name), force)
    except CvaeError as error:
        talk.error(error)
        return False
    height, width = pixels.shape[:2]
    talk.detail(f"{task.name} -> {task.target_name}: {width}x{height}")
    return True


def _find(folder: Path) -> Iterable[Path]:
    from cvae.data import files

    return [folder / found.name for found in files.Local(folder).below({".bin", ".npy"})]
