"""`cvae encode`: images to containers or symbols."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from cvae import CvaeError
from cvae.cli import defaults, files, options, tables
from cvae.cli.files import STDIO, Task
from cvae.cli.inputs import several
from cvae.cli.options import refuse_lossy, say_unused
from cvae.cli.talk import BATCH, FIT_ADVICE, NO_MEMORY, Talk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cvae.bitstream.tables import Symbols
    from cvae.codec import Codec
    from cvae.data.files import Files
    from cvae.data.images import Pixels
    from cvae.data.reading import Picture
    from cvae.options import Encoded, EncodeOptions


@click.command("encode")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@options.output(
    "File, or folder for several images; `-` is stdout. A name in .npy gives the symbols as an array.  "
    "[default: NAME.bin in the current folder]"
)  # fmt: skip
@options.model(defaults.TEXT)
@options.coding
@click.option("--npy", is_flag=True, help="Write symbols as .npy arrays instead of containers.")
@options.force
@options.skip_existing
@options.list_skipped
@options.talk(FIT_ADVICE)
def command(
    images: tuple[str, ...], output: str | None, model: str | None, options: EncodeOptions, npy: bool,
    force: bool, skip_existing: bool, talk: Talk,
) -> None:  # fmt: skip
    """Encode images, each to a file: digits to a dozen bytes, photographs to kilobytes.

    \b
      cvae encode digit.png             -> digit.bin
      cvae encode scans/ -o coded/      every image of a folder
      cvae encode - < digit.png > digit.bin

    IMAGE is a file, a folder, a pattern in quotes, or `-` for stdin; put -- before names that begin
    with a dash. `cvae pack` writes many images to one file. A model that was trained on a folder of
    images reads them as training did. Models of any size lay transparent images on white.

    Prints bytes, compression ratio and PSNR. Warns of an image that the model codes worse than its
    own kind. A bad file is named and skipped; the exit code is then 1.
    """
    from cvae.data import listing
    from cvae.data.files import Files
    from cvae.data.names import SUFFIXES

    npy = npy or (output is not None and output.endswith(".npy"))
    _check(options, npy)
    files.refuse_as_input(images, output, {".bin", ".npy"}, {"CONTAINER", "PACK"})
    _check_single(images, output, SUFFIXES)
    derive = ("{}.npy" if npy else "{}.bin").format
    tasks = files.plan(images, output, derive, listing.images, force, talk)
    left = files.to_do(tasks, skip_existing, force, talk)
    with Files(force, talk.error) as results:
        models = defaults.Models(model, talk, options.lossless)
        encoder = _Encoder(models, options, npy, results, force, talk)
        written = [item for batch in files.batches(left, talk) for item in encoder.encode(batch)]
    talk.finish(len(tasks), f"images encoded{_summary(written, output, encoder.exact)}")


def _check(options: EncodeOptions, npy: bool) -> None:
    """Raises UsageError when a file could not keep what is asked for."""
    chooses = _chooses(options)
    if chooses and options.quality is not None:
        raise click.UsageError("--max-bytes and --min-psnr choose the quality, which -q fixes")
    fits = options.fit or options.crop is not None
    if npy and (chooses or fits or options.invert):
        raise click.UsageError(
            "symbols as .npy carry no header, which would record --fit, --crop, --invert and the quality "
            "that --max-bytes and --min-psnr choose"
        )


def _chooses(options: EncodeOptions) -> bool:
    """Whether each image gets a quality of its own."""
    return options.max_bytes is not None or options.min_psnr is not None


def _check_single(inputs: Sequence[str], output: str | None, suffixes: set[str]) -> None:
    """Raises an error, which names `cvae pack`, when many images are meant to be one file."""
    from cvae.data import places
    from cvae.data.contents import What

    if output is not None and Path(output).suffix.lower() in suffixes:
        what = "an image"
    elif output is not None and Path(output).suffix.lower() == ".cvae":
        what = "a model"
    else:
        what = ""
    if what and output:
        text = f"-o {output} would be a container with the ending of {what}"
        raise click.UsageError(f"{text}; -o {Path(output).with_suffix('.bin')} names one")
    named = output or ("NAME.bin" if len(inputs) > 1 else None)
    advice = files.typed("pack", inputs, *(["-o", named] if named else [])) + " writes one pack"
    files.refuse_coded(inputs)
    for item in inputs:
        if places.is_url(item):
            raise click.UsageError(f"{item} is a URL, which packs alone are made of; {advice}")
        if files.what(item) in (What.ARRAY, What.TAR, What.ZIP):
            where = "stdin" if item == STDIO else item
            raise CvaeError("holds many images", where=where, advice=advice)
    if output is None or output.endswith(".npy") or not several(inputs):
        return
    if output == STDIO:
        raise click.UsageError(f"stdout takes one image; {advice}, -o NAME/ makes a folder")
    if files.like_a_file(output):
        text = f"-o {output} is one file, found several images; {advice}"
        raise click.UsageError(f"{text}, a / behind the name makes a folder")


class _Read(NamedTuple):
    """An image file that was read, and the codec for it."""

    task: Task
    codec: Codec
    pixels: Pixels  # (h, w, c)
    size: tuple[int, int] | None  # width, height where `--fit` changed it
    grey: bool  # its channels are equal, so that lossless models may take but one
    file: int  # bytes of the file

    @property
    def kind(self) -> Any:
        """What images that are coded together have in common."""
        return self.codec, self.pixels.shape, self.grey

    def taken_by(self, codec: Codec) -> Pixels:
        """The pixels as a lossless model takes them: grey ones where it can."""
        from cvae.data.images import grey_if_equal

        grey = grey_if_equal(self.pixels) if self.grey else self.pixels
        return grey if codec.takes(grey.shape) else self.pixels


class _Written(NamedTuple):
    """What became of one image."""

    raw: int  # bytes of its pixels
    size: int  # bytes of its file
    psnr: float  # dB
    before: int  # bytes of the file that it was read from; 0 where they do not compare


class _Encoder:
    """Encodes batches of files, each with the model for it, and one set of options."""

    def __init__(
        self, models: defaults.Models, options: EncodeOptions, npy: bool, results: Files, force: bool,
        talk: Talk,
    ) -> None:  # fmt: skip
        """Raises CvaeError when the one model does not do what is asked for."""
        self._models, self._options, self._npy = models, options, npy
        self._results, self._force, self._talk, self._noticed = results, force, talk, False
        self._others = cache(lambda codec: tables.others(codec.model.manifest))
        self._restoring = cache(lambda codec: codec.restoring(options.max_pixels))
        self.exact = models.only.lossless if models.only else options.lossless
        if models.only:
            self._check(models.only)

    def encode(self, tasks: list[Task]) -> list[_Written]:
        """Encodes what can be read; what is known of each file written."""
        written = []
        for (codec, shape, _), group in groupby(self._read(tasks), key=lambda item: item.kind):
            step = codec.batch(shape) if codec.any_size else BATCH
            while held := list(islice(group, step)):
                written += self._encode(codec, held)
                if codec.any_size:
                    self._talk.slow(len(held))
        return written

    def _encode(self, codec: Codec, read: list[_Read]) -> list[_Written]:
        """Encodes images of one shape."""
        latents, written = codec.model.manifest.latent_shape, []
        coded = self._coded(codec, read)
        for found, item in zip(read, coded, strict=True):
            task, image = found.task, found.pixels
            with self._talk.trying(task.name):
                if isinstance(item, CvaeError):
                    raise item
                data = _npy(item.symbols.reshape(latents)) if self._npy else item.data
                task.write(data, self._results)
                before = 0 if self._npy else found.file
                done = _Written(image.size, len(data), item.psnr, before)
                written.append(done)
                facts = self._facts(codec, image, item, done)
                self._talk.detail(f"{task.name} -> {task.target_name}: {facts}")
                if item.poor:
                    self._talk.poor(task.name, *self._poor(codec, image, item))
        return written

    def _coded(self, codec: Codec, read: list[_Read]) -> Sequence[Encoded | CvaeError]:
        """Images of one shape, coded; whatever is wrong with one costs itself alone."""
        from cvae.data.images import stacked

        encode = codec.encode_to_target if _chooses(self._options) else codec.encode_batch
        try:
            sizes = [item.size for item in read]
            others = self._models.rivals(codec, read[0].pixels.shape, read[0].grey)

            def pixels(codec: Codec) -> Pixels:
                return stacked([item.taken_by(codec) for item in read])

            # No name holds the stacked ones, which are gone before the images are tried one by one.
            if not others:
                return encode(pixels(codec), self._options, sizes)
            tried = [each.encode_batch(pixels(each), self._options) for each in (codec, *others)]
            return [min(items, key=_file_size) for items in zip(*tried, strict=True)]
        except (MemoryError, CvaeError) as error:
            if len(read) == 1:
                return [error if isinstance(error, CvaeError) else CvaeError(NO_MEMORY)]
        return [coded for item in read for coded in self._coded(codec, [item])]

    def _read(self, tasks: list[Task]) -> Iterator[_Read]:
        """What can be read, one by one: large pictures are not held together."""
        for task in tasks:
            with self._talk.trying(task.name):
                yield self._read_one(task)

    def _read_one(self, task: Task) -> _Read:
        from cvae.data import pages
        from cvae.data.images import decoding

        task.check(self._force)
        data = task.read()
        codec = self._restoring(self._models.of(data, task.name))
        self._check(codec)
        if codec.any_size:
            self._talk.slow()
        with decoding(task.name):
            picture = codec.reading(self._options, alpha=True).picture(data, task.name)
            found = self._as_read(task, codec, picture, len(data))
        for change in picture.changes:
            self._talk.changed(task.name, change)
        if (count := pages.count(data)) > 1:
            self._talk.error(pages.notice(count, task.name))
        return found

    def _as_read(self, task: Task, codec: Codec, picture: Picture, size: int) -> _Read:
        from cvae.data.images import grey_if_equal

        reading = codec.reading(self._options, alpha=True)
        height, width, _ = codec.image_shape
        own = codec.any_size or picture.size == (width, height)
        pixels = reading.pixels(picture)
        grey = codec.lossless and grey_if_equal(pixels).shape != pixels.shape
        return _Read(task, codec, pixels, None if own else picture.size, grey, size)

    def _check(self, codec: Codec) -> None:
        """Raises CvaeError when a model does not do what is asked for; says what it need not do."""
        codec.check_invert(self._options.invert)
        refuse_lossy(codec)
        if self._npy and codec.staged:
            codec.refuse_npy()
        if not codec.any_size:
            return
        if not self._noticed:
            self._noticed = True
            say_unused(self._options, codec.name, self._talk)

    def _facts(self, codec: Codec, image: Pixels, item: Encoded, done: _Written) -> str:
        if self._npy:
            return f"{len(item.symbols)} symbols, {item.psnr:.2f} dB"
        height, width, _ = image.shape
        fits = not codec.any_size and codec.reading(self._options).scales
        fitted = f" (of the {width}x{height} it was fitted to)" if fits else ""
        quality = f", quality {item.quality}" if _chooses(self._options) else ""
        payload = f"{done.size:,} bytes ({item.payload_bytes:,} of payload)"
        ratio = tables.ratio(done.raw, done.size)
        how = "lossless" if codec.lossless else f"{item.psnr:.2f} dB{fitted}{quality}"
        return f"{payload}, {ratio}, {how}{_larger(done.size, done.before)}"

    def _poor(self, codec: Codec, pixels: Pixels, item: Encoded) -> tuple[str, str]:
        """What a warning says of an image that comes back badly, and what helps."""
        below = tables.below(item.expected_psnr, codec.name)
        text = f"comes back at {item.psnr:.1f} dB, {below}"
        if codec.staged:
            return text, ""
        invert = self._options.invert
        other = replace(self._options, quality=item.quality, invert=not invert)
        (inverted,) = codec.encode_batch(pixels[None], other)
        if inverted.psnr <= item.psnr or inverted.poor:
            return text, self._others(codec)
        option = "leaving out --invert" if invert else "--invert"
        text = f"{text}; it is of the other polarity: {option} gives {inverted.psnr:.1f} dB"
        return text, ""


def _file_size(item: Encoded) -> int:
    return len(item.data)


def _summary(written: list[_Written], output: str | None, exact: bool) -> str:
    """Sizes and PSNR of all files, and where they are; `exact` where every pixel is kept."""
    if not written:
        return ""
    raw, total, psnr, before = (sum(values) for values in zip(*written, strict=True))
    ratio = tables.ratio(raw, total)
    how = "lossless" if exact else f"{psnr / len(written):.2f} dB on average"
    facts = f"{total:,} bytes, {ratio}, {how}{_larger(int(total), int(before))}"
    return f" in {facts} -> {files.folder_of(output)}"


def _larger(size: int, before: int) -> str:
    """What is said of files that grew; a ratio to the bare pixels hides that a drawing's PNG is smaller."""
    return f", more than the {before:,} bytes before" if size > before > 0 else ""


def _npy(symbols: Symbols) -> bytes:
    """An .npy file of symbols in the smallest signed integers that hold them."""
    import numpy as np

    dtype = np.min_scalar_type(min(int(symbols.min()), -1 - int(symbols.max())))
    buffer = io.BytesIO()
    np.save(buffer, symbols.astype(dtype.newbyteorder("<")), allow_pickle=False)
    return buffer.getvalue()
