"""`cvae decode`: containers or symbols back to images."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from cvae import CvaeError, FormatError
from cvae.cli import files, options
from cvae.cli.files import STDIO, Task
from cvae.cli.inputs import is_folder
from cvae.cli.options import say_unused
from cvae.cli.talk import NO_MEMORY, Talk
from cvae.errors import at

if TYPE_CHECKING:
    from cvae.bitstream.container import Container
    from cvae.bitstream.tables import Symbols
    from cvae.codec import Codec
    from cvae.data.files import Files
    from cvae.data.images import Pixels


class _Read(NamedTuple):
    """A container that was read."""

    task: Task
    container: Container
    symbols: Symbols


@click.command("decode")
@click.argument("inputs", nargs=-1, required=True, metavar="FILE...")
@options.output(
    "File, or folder for several inputs; `-` is stdout. Its ending chooses the image format.  "
    "[default: NAME_reconstructed.png in the current folder]"
)
@options.model("the one that the file names; .npy needs it")
@click.option(
    "-q", "--quality", type=options.QUALITY, metavar="Q", help="Quality of the symbols in .npy files."
)  # fmt: skip
@options.max_pixels
@options.force
@options.skip_existing
@options.list_skipped
@options.talk()
def command(
    inputs: tuple[str, ...], output: str | None, model: str | None, quality: int | None,
    max_pixels: int | None, force: bool, skip_existing: bool, talk: Talk,
) -> None:  # fmt: skip
    """Decode files to images.

    \b
      cvae decode digit.bin             -> digit_reconstructed.png
      cvae decode coded/ -o pictures/   every file of a folder

    FILE is a container, symbols as .npy, a folder of them, a pattern in quotes, or `-` for stdin.
    `cvae unpack` decodes packs, which hold many images.

    The model is found by the id in the file, among those that `cvae models` lists. A bad file is
    named and skipped; the exit code is then 1.
    """
    from cvae.data.contents import What
    from cvae.data.files import Files
    from cvae.data.listing import coded
    from cvae.data.names import SUFFIXES

    _check_npy(inputs, model, quality)
    files.refuse_as_input(inputs, output, SUFFIXES, {"FILE"})
    for item in inputs:  # packs that need no look at their bytes
        if is_folder(item) and files.what(item) is What.PACKS:
            raise _pack_found(item)
    derive = "{}_reconstructed.png".format
    tasks = files.plan(inputs, output, derive, coded({".bin", ".npy"}), force, talk)
    if quality is not None and not any(task.is_npy for task in tasks):
        talk.say("-q changes nothing: containers name their quality")
    if len(inputs) == 1 and files.what(inputs[0]) is What.PACK:  # whose output may be any
        raise _pack_found(inputs[0])
    files.check_picture(tasks[0].target)  # several have names of our own
    left = files.to_do(tasks, skip_existing, force, talk)
    with Files(force, talk.error) as results:
        decoder = _Decoder(model, quality, max_pixels, results, force, talk)
        for batch in files.batches(left, talk):
            decoder.decode(batch)
    where = f", {decoder.written:,} bytes -> {files.folder_of(output)}" if decoder.written else ""
    talk.finish(len(tasks), f"files decoded{where}")


def _check_npy(inputs: tuple[str, ...], model: str | None, quality: int | None) -> None:
    """Raises UsageError when symbols without a header are given, and not what a header would say."""
    if None in (model, quality) and any(item.endswith(".npy") for item in inputs):
        raise click.UsageError("symbols as .npy carry no header: decoding them takes -m and -q")


class _Decoder:
    """Decodes batches of files. Finds the model of each and opens it once."""

    def __init__(
        self, model: str | None, quality: int | None, max_pixels: int | None, results: Files,
        force: bool, talk: Talk,
    ) -> None:  # fmt: skip
        """Raises ModelError when the given model is not there, or is no codec."""
        from cvae import codec
        from cvae.options import EncodeOptions

        self._asked = EncodeOptions(max_pixels=max_pixels)
        self._quality, self._results, self._force, self._talk = quality, results, force, talk
        self.written, self._noticed = 0, False  # bytes of images
        self._given = codec.open_model(model, max_pixels) if model else None
        self._find = cache(lambda model_id: codec.find_codec(model_id).restoring(max_pixels))

    def decode(self, tasks: list[Task]) -> None:
        """Decodes what can be read. Whatever is wrong with a file, the others come out."""
        read: dict[Codec, list[_Read]] = {}
        for task in tasks:
            with self._talk.trying(task.name):
                if task.source is not None and task.is_npy:
                    task.check(self._force)
                    self._write(task, self._from_npy(task.source))
                    continue
                task.check_input()
                item = _read(task)
                task.check(self._force)  # a wrong input matters more than what there is already
                codec = self._codec(item.model_id)
                codec.check_restorable(item.original_size)
                if codec.any_size:  # large pictures are not held together
                    self._say_once(codec)
                    self._talk.slow()
                found = _Read(task, item, codec.decode_payload(item))
                if codec.any_size:
                    self._reconstruct(codec, [found])
                    self._talk.slow(1)
                else:
                    read.setdefault(codec, []).append(found)
        for codec, group in read.items():
            self._reconstruct(codec, group)

    def _say_once(self, codec: Codec) -> None:
        """Says which options change nothing."""
        if not self._noticed:
            self._noticed = True
            say_unused(self._asked, codec.name, self._talk)

    def _reconstruct(self, codec: Codec, group: list[_Read]) -> None:
        """Decodes files of one model together, and one by one where that fails."""
        tasks, containers, symbols = zip(*group, strict=True)
        wrong = None
        try:
            pictures = codec.synthesized(containers, symbols)
        except (MemoryError, CvaeError) as error:
            wrong = str(error) if isinstance(error, CvaeError) else NO_MEMORY
        # Behind the handler, where nothing holds what the attempt had made.
        if wrong is None:
            for task, item, pixels in zip(tasks, containers, pictures, strict=True):
                with self._talk.trying(task.name):
                    self._write(task, codec.restored(item, pixels), codec.lossless)
        elif len(group) == 1:
            self._talk.error(CvaeError(wrong, where=tasks[0].name))
        else:
            for alone in group:
                self._reconstruct(codec, [alone])

    def _codec(self, model_id: int) -> Codec:
        """Raises ModelNotFoundError when the id is of no known model, or not of the given one."""
        if not self._given:
            return self._find(model_id)
        with at("", "leave out --model to find it"):
            self._given.check_id(model_id)
        return self._given

    def _from_npy(self, path: Path) -> Pixels:
        """The picture of symbols in an `.npy` file."""
        from cvae.data import arrays

        if self._given is None or self._quality is None:
            raise CvaeError("symbols carry no header; decoding them takes --model and --quality")
        return self._given.decode_symbols(arrays.read_npy(path), self._quality)

    def _write(self, task: Task, pixels: Pixels, exact: bool = False) -> None:
        """Writes a picture; with `exact`, says where its format changes pixels."""
        from cvae.data import images

        with self._talk.trying(task.target_name):
            data = images.encode_image(pixels, task.target.name if task.target else "", exact=exact)
            task.write(data, self._results)
            self.written += len(data)
            if exact and not images.holds(data, pixels):
                self._talk.changed(task.target_name, images.CHANGED)
            height, width = pixels.shape[:2]
            self._talk.detail(f"{task.name} -> {task.target_name}: {width}x{height}")


def _read(task: Task) -> Container:
    """The container in a file. Raises CvaeError; of a pack, before all of it is read."""
    from cvae.data import contents
    from cvae.data.contents import What
    from cvae.data.signatures import HEAD, image_format

    name = str(task.source or STDIO)
    if files.what(name) is What.PACK:
        raise _pack_found(name)
    data = task.read()
    try:
        return contents.unpack(data)
    except FormatError as error:
        if image_format(data[:HEAD]):
            error.advice = f"{files.typed('encode', [name])} codes it"
        raise


def _pack_found(name: str) -> FormatError:
    where = "stdin" if name == STDIO else name
    advice = f"{files.typed('unpack', [name])} decodes it"
    return FormatError("holds many images", where=where, advice=advice)
