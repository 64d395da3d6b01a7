"""`cvae encode`: images to containers or symbols."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from cvae import CvaeError
from cvae.cli import files, options
from cvae.cli.files import Task
from cvae.cli.talk import FIT_ADVICE, Talk
from cvae.errors import OutputError

if TYPE_CHECKING:
    from cvae.codec import Codec
    from cvae.data.images import Pixels
    from cvae.options import Encoded, EncodeOptions


@click.command("encode")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@options.output(
    "File, or folder for several images; `-` is stdout. A name ending in .npy gives the symbols "
    "as an array.  [default: NAME.bin in the current folder]"
)
@options.model()
@options.coding
@click.option("--npy", is_flag=True, help="Write symbols as .npy arrays instead of containers.")
@options.force
@options.talk(FIT_ADVICE)
def command(
    images: tuple[str, ...],
    output: str | None,
    model: str | None,
    options: EncodeOptions,
    npy: bool,
    force: bool,
    talk: Talk,
) -> None:
    """Encode images, each to a file of a dozen bytes.

    \b
      cvae encode digit.png             -> digit.bin
      cvae encode scans/ -o coded/      every image of a folder
      cvae encode - < digit.png > digit.bin

    IMAGE is a file, a folder, or `-` for stdin; put -- before names that begin with a dash. `cvae
    pack` writes many images to one file.

    Prints bytes, compression ratio and PSNR, and warns when a picture is worse than the model's own
    kind of image would be. A bad file is named and skipped; the exit code is then 1.
    """
    from cvae import codec as codecs
    from cvae.data.names import SUFFIXES
    from cvae.models import registry

    files.refuse_device(output)
    npy = npy or (output is not None and output.endswith(".npy"))
    _check(options, npy)
    _check_single(images, output)
    suffix = ".npy" if npy else ".bin"
    tasks = files.plan(images, output, lambda stem: stem + suffix, SUFFIXES, force)
    encoder = _Encoder(codecs.open_model(model or registry.DEFAULT), options, npy, force, talk)
    talk.verbose = talk.verbose or len(tasks) == 1
    written: list[tuple[int, float]] = []
    for batch in files.batches(tasks, talk):
        written += encoder.encode(batch)
    if len(tasks) > 1:
        encoded = f"{len(written):,} of {len(tasks):,} images encoded"
        talk.say(f"{encoded}{_summary(encoder.codec, written)}")
    talk.end()


def _check(options: EncodeOptions, npy: bool) -> None:
    """Raises UsageError when a file could not keep what is asked for."""
    chooses = _chooses(options)
    if chooses and options.quality is not None:
        raise click.UsageError("--max-bytes and --min-psnr choose the quality, which -q fixes")
    if npy and (chooses or options.fit or options.invert):
        raise click.UsageError(
            "symbols as .npy carry no header, which would record --fit, --invert and the quality "
            "that --max-bytes and --min-psnr choose"
        )


def _chooses(options: EncodeOptions) -> bool:
    """Whether each image gets a quality of its own."""
    return options.max_bytes is not None or options.min_psnr is not None


def _check_single(inputs: Sequence[str], output: str | None) -> None:
    """Raises CvaeError, which names `cvae pack`, when many images are meant to be one file."""
    from cvae.data.contents import What
    from cvae.data.names import SUFFIXES

    if output is not None and Path(output).suffix.lower() in SUFFIXES:
        raise click.UsageError(f"-o {output} would be a container with the ending of an image")
    named = output or ("NAME.bin" if len(inputs) > 1 else None)
    advice = files.typed("pack", inputs, *(["-o", named] if named else [])) + " writes one pack"
    for item in inputs:
        if files.is_url(item):
            raise CvaeError("is a URL, which packs alone are made of", where=item, advice=advice)
        if files.what(item) in (What.ARRAY, What.TAR):
            where = "stdin" if item == files.STDIO else item
            raise CvaeError("holds many images", where=where, advice=advice)
    if output is None or output.endswith(".npy") or not files.several(inputs):
        return
    if output == files.STDIO or files.like_a_file(output):
        raise OutputError(
            "is one file, found several images" if output != files.STDIO else "takes one image",
            where="stdout" if output == files.STDIO else output,
            advice=f"{advice}, a / behind the name makes a folder",
        )


class _Read(NamedTuple):
    """An image that could be read."""

    task: Task
    pixels: Pixels
    size: tuple[int, int] | None  # width, height before `--fit` changed it


class _Encoder:
    """Encodes batches of files with one model and one set of options."""

    def __init__(
        self, codec: Codec, options: EncodeOptions, npy: bool, force: bool, talk: Talk
    ) -> None:
        self.codec = codec
        self._options, self._npy, self._force, self._talk = options, npy, force, talk
        self._chooses = _chooses(options)

    def encode(self, tasks: list[Task]) -> list[tuple[int, float]]:
        """Encodes what can be read; size and PSNR of each file written."""
        import numpy as np

        read = self._read(tasks)
        if not read:
            return []
        batch, sizes = np.stack([item.pixels for item in read]), [item.size for item in read]
        encode = self.codec.encode_to_target if self._chooses else self.codec.encode_batch
        coded: Sequence[Encoded | CvaeError] = encode(batch, self._options, sizes)
        written = []
        for (task, pixels, _), item in zip(read, coded, strict=True):
            with self._talk.trying(task.name):
                if isinstance(item, CvaeError):
                    raise item
                data = self._symbols(item) if self._npy else item.data
                task.write(data, self._force)
                written.append((len(data), item.psnr))
                facts = self._facts(item, len(data))
                self._talk.detail(f"{task.name} -> {task.target_name}: {facts}")
                if item.poor:
                    self._talk.warning(f"{task.name}: {self._poor(pixels, item)}")
        return written

    def _read(self, tasks: list[Task]) -> list[_Read]:
        from cvae.data.reading import Reading

        height, width, _ = self.codec.image_shape
        reading = Reading(self.codec.image_shape, "stretch" if self._options.fit else "exact")
        read = []
        for task in tasks:
            with self._talk.trying(task.name):
                data = task.read()
                task.check(self._force)
                image = reading.picture(data, task.name).image
                size = None if image.size == (width, height) else image.size
                read.append(_Read(task, reading.pixels(image), size))
        return read

    def _symbols(self, item: Encoded) -> bytes:
        """An .npy file of the symbols in the smallest signed integers that hold them."""
        import numpy as np

        symbols = item.symbols.reshape(self.codec.model.manifest.latent_shape)
        limits = (int(symbols.min()), int(symbols.max()))
        dtype = np.result_type(*(np.min_scalar_type(min(-1, limit, -limit)) for limit in limits))
        buffer = io.BytesIO()
        np.save(buffer, symbols.astype(dtype), allow_pickle=False)
        return buffer.getvalue()

    def _facts(self, item: Encoded, size: int) -> str:
        if self._npy:
            return f"{len(item.symbols)} symbols, {item.psnr:.2f} dB"
        height, width, _ = self.codec.image_shape
        fitted = f" (of the {width}x{height} it was fitted to)" if self._options.fit else ""
        payload = f"{size} bytes ({item.payload_bytes} of payload)"
        quality = f", quality {item.quality}" if self._chooses else ""
        return f"{payload}, {_ratio(self.codec, size)}, {item.psnr:.2f} dB{fitted}{quality}"

    def _poor(self, pixels: Pixels, item: Encoded) -> str:
        from dataclasses import replace

        text = (
            f"comes back at {item.psnr:.1f} dB, below the {item.expected_psnr:.1f} dB that 99 % of "
            f"the images of model {self.codec.name} reach"
        )
        invert = not self._options.invert
        options = replace(self._options, quality=item.quality, invert=invert)
        (inverted,) = self.codec.encode_batch(pixels[None], options)
        if inverted.psnr <= item.psnr or inverted.poor:
            return text
        option = "leaving out --invert" if self._options.invert else "--invert"
        return f"{text}; it is of the other polarity: {option} gives {inverted.psnr:.1f} dB"


def _summary(codec: Codec, written: list[tuple[int, float]]) -> str:
    if not written:
        return ""
    total = sum(size for size, _ in written)
    psnr = sum(psnr for _, psnr in written) / len(written)
    return f" in {total:,} bytes, {_ratio(codec, total / len(written))}, {psnr:.2f} dB on average"


def _ratio(codec: Codec, size: float) -> str:
    height, width, channels = codec.image_shape
    return f"{height * width * channels / size:.1f}:1"
