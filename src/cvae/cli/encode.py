"""`cvae encode`: images to containers or symbols."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cvae import CvaeError, OutputError
from cvae.cli import files, options, tables
from cvae.cli.files import STDIO, Task
from cvae.cli.talk import FIT_ADVICE, Talk

if TYPE_CHECKING:
    from cvae.bitstream.tables import Symbols
    from cvae.codec import Codec
    from cvae.data.images import Pixels
    from cvae.options import Encoded, EncodeOptions


@click.command("encode")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@options.output(
    "File, or folder for several images; `-` is stdout. A name in .npy gives the symbols as an array.  "
    "[default: NAME.bin in the current folder]"
)  # fmt: skip
@options.model()
@options.coding
@click.option("--npy", is_flag=True, help="Write symbols as .npy arrays instead of containers.")
@options.force
@options.talk(FIT_ADVICE)
def command(
    images: tuple[str, ...], output: str | None, model: str, options: EncodeOptions, npy: bool,
    force: bool, talk: Talk,
) -> None:  # fmt: skip
    """Encode images, each to a file of a dozen bytes.

    \b
      cvae encode digit.png             -> digit.bin
      cvae encode scans/ -o coded/      every image of a folder
      cvae encode - < digit.png > digit.bin

    IMAGE is a file, a folder, or `-` for stdin; put -- before names that begin with a dash. `cvae
    pack` writes many images to one file.

    Prints bytes, compression ratio and PSNR. Warns of an image that the model codes worse than its
    own kind. A bad file is named and skipped; the exit code is then 1.
    """
    from cvae import codec as codecs
    from cvae.data.names import SUFFIXES

    npy = npy or (output is not None and output.endswith(".npy"))
    _check(options, npy)
    _check_single(images, output, SUFFIXES)
    derive = ("{}.npy" if npy else "{}.bin").format
    tasks = files.plan(images, output, derive, SUFFIXES, force)
    encoder = _Encoder(codecs.open_model(model), options, npy, force, talk)
    written = [item for batch in files.batches(tasks, talk) for item in encoder.encode(batch)]
    talk.finish(len(tasks), f"images encoded{encoder.summary(written)}")


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


def _check_single(inputs: Sequence[str], output: str | None, suffixes: set[str]) -> None:
    """Raises CvaeError, which names `cvae pack`, when many images are meant to be one file."""
    from cvae.data import places
    from cvae.data.contents import What

    if output is not None and Path(output).suffix.lower() in suffixes:
        raise click.UsageError(f"-o {output} would be a container with the ending of an image")
    named = output or ("NAME.bin" if len(inputs) > 1 else None)
    advice = files.typed("pack", inputs, *(["-o", named] if named else [])) + " writes one pack"
    files.refuse_coded(inputs)
    for item in inputs:
        if places.is_url(item):
            raise CvaeError("is a URL, which packs alone are made of", where=item, advice=advice)
        if files.what(item) in (What.ARRAY, What.TAR):
            where = "stdin" if item == STDIO else item
            raise CvaeError("holds many images", where=where, advice=advice)
    if output is None or output.endswith(".npy") or not files.several(inputs):
        return
    advice = f"{advice}, a / behind the name makes a folder"
    if output == STDIO:
        raise OutputError("takes one image", where="stdout", advice=advice)
    if files.like_a_file(output):
        raise OutputError("is one file, found several images", where=output, advice=advice)


@dataclass
class _Encoder:
    """Encodes batches of files with one model and one set of options."""

    codec: Codec
    options: EncodeOptions
    npy: bool
    force: bool
    talk: Talk

    def encode(self, tasks: list[Task]) -> list[tuple[int, float]]:
        """Encodes what can be read; size and PSNR of each file written."""
        import numpy as np

        read = self._read(tasks)
        if not read:
            return []
        pixels, sizes = np.stack([pixels for _, pixels, _ in read]), [size for *_, size in read]
        chooses, latents = _chooses(self.options), self.codec.model.manifest.latent_shape
        encode = self.codec.encode_to_target if chooses else self.codec.encode_batch
        written = []
        coded: Sequence[Encoded | CvaeError] = encode(pixels, self.options, sizes)
        for (task, image, _), item in zip(read, coded, strict=True):
            with self.talk.trying(task.name):
                if isinstance(item, CvaeError):
                    raise item
                data = _npy(item.symbols.reshape(latents)) if self.npy else item.data
                task.write(data, self.force)
                written.append((len(data), item.psnr))
                facts = self._facts(item, len(data))
                self.talk.detail(f"{task.name} -> {task.target_name}: {facts}")
                if item.poor:
                    self.talk.warning(f"{task.name}: {self._poor(image, item)}")
        return written

    def summary(self, written: list[tuple[int, float]]) -> str:
        """Sizes and PSNR of all files."""
        if not written:
            return ""
        total, psnr = (sum(values) for values in zip(*written, strict=True))
        ratio = tables.ratio(self.codec.image_shape, total / len(written))
        return f" in {total:,} bytes, {ratio}, {psnr / len(written):.2f} dB on average"

    def _read(self, tasks: list[Task]) -> list[tuple[Task, Pixels, tuple[int, int] | None]]:
        """What can be read: pixels, and (width, height) where `--fit` changed it."""
        from cvae.data.reading import Reading

        height, width, _ = self.codec.image_shape
        reading = Reading(self.codec.image_shape, "stretch" if self.options.fit else "exact")
        read = []
        for task in tasks:
            with self.talk.trying(task.name):
                data = task.read()
                task.check(self.force)
                image = reading.picture(data, task.name).image
                size = None if image.size == (width, height) else image.size
                read.append((task, reading.pixels(image), size))
        return read

    def _facts(self, item: Encoded, size: int) -> str:
        if self.npy:
            return f"{len(item.symbols)} symbols, {item.psnr:.2f} dB"
        height, width, _ = shape = self.codec.image_shape
        fitted = f" (of the {width}x{height} it was fitted to)" if self.options.fit else ""
        quality = f", quality {item.quality}" if _chooses(self.options) else ""
        payload = f"{size} bytes ({item.payload_bytes} of payload)"
        return f"{payload}, {tables.ratio(shape, size)}, {item.psnr:.2f} dB{fitted}{quality}"

    def _poor(self, pixels: Pixels, item: Encoded) -> str:
        """What a warning says of an image that comes back badly, and what helps."""
        below = tables.below(item.expected_psnr, self.codec.name)
        text = f"comes back at {item.psnr:.1f} dB, {below}"
        other = replace(self.options, quality=item.quality, invert=not self.options.invert)
        (inverted,) = self.codec.encode_batch(pixels[None], other)
        if inverted.psnr <= item.psnr or inverted.poor:
            return text
        option = "leaving out --invert" if self.options.invert else "--invert"
        return f"{text}; it is of the other polarity: {option} gives {inverted.psnr:.1f} dB"


def _npy(symbols: Symbols) -> bytes:
    """An .npy file of symbols in the smallest signed integers that hold them."""
    import numpy as np

    dtype = np.min_scalar_type(min(int(symbols.min()), -1 - int(symbols.max())))
    buffer = io.BytesIO()
    np.save(buffer, symbols.astype(dtype), allow_pickle=False)
    return buffer.getvalue()
