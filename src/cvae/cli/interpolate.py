"""`cvae interpolate`: pictures between two images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cvae.cli import kept, options
from cvae.cli.files import STDIO, Task
from cvae.cli.gallery import Gallery
from cvae.cli.talk import ONE_SIZE_ADVICE, Talk
from cvae.errors import at

if TYPE_CHECKING:
    from cvae.bitstream.container import Container
    from cvae.codec import Codec
    from cvae.models.qualities import Latents
    from cvae.options import EncodeOptions


@click.command("interpolate")
@click.argument("first", metavar="A")
@click.argument("last", metavar="B")
@options.output(
    "An image file gets one row, .gif an animation there and back, a folder a file for each picture; "
    "`-` is the row as PNG on stdout.  [default: A_to_B.png in the current folder]"
)  # fmt: skip
@options.model(f"that of a container, else {options.MODEL}")
@options.count("How many pictures, both ends included.", 8, 2)
@options.reading
@options.force
@options.talk(ONE_SIZE_ADVICE)
def command(
    first: str, last: str, output: str | None, model: str | None, count: int, reading: EncodeOptions,
    force: bool, talk: Talk,
) -> None:  # fmt: skip
    """Go from image A to image B through latent space.

    \b
      cvae interpolate 3.png 8.png             -> 3_to_8.png, a row
      cvae interpolate 3.png 8.png -o 3-8.gif

    A and B are images or containers (.bin); one of them may be `-` for stdin. The latents lie evenly
    on the straight line from A to B, and those of images are not quantized. The pictures have the
    model's size and polarity.
    """
    from cvae import sampling

    ends = [Task(None if name == STDIO else Path(name)) for name in (first, last)]
    stems = [end.source.stem if end.source else end.name for end in ends]
    gallery = Gallery.at(output, f"{stems[0]}_to_{stems[1]}.png", "step", count, force)
    if not any(end.source for end in ends):
        raise click.UsageError("expected one image from stdin, found A and B")
    kept.refuse_inputs(gallery.paths(), (first, last))
    read = [_read(end) for end in ends]
    codec = _codec(ends, read, model)
    sampling.check_latents(codec)
    start, end = (
        _latents(codec, task, item, reading, talk) for task, item in zip(ends, read, strict=True)
    )
    batches = sampling.interpolate_batches(codec, start, end, count)
    gallery.write(batches, codec.image_shape, count, talk, animated=True)
    way = f"from {ends[0].name} to {ends[1].name} by {codec.name}"
    talk.say_changes()
    talk.say(f"{count:,} pictures {way} -> {gallery.name}")


def _read(end: Task) -> bytes | Container:
    """What A or B is by its first byte: a container, or else it should be an image."""
    from cvae.bitstream import container

    with at(end.name):
        data = end.read()
        return container.unpack(data) if container.is_container(data) else data


def _codec(ends: list[Task], read: list[bytes | Container], model: str | None) -> Codec:
    """The given model, else that of the first container, else the default one."""
    from cvae import codec as codecs

    for end, item in zip(ends, read, strict=True):
        if model is None and not isinstance(item, bytes):
            with at(end.name):
                return codecs.find_codec(item.model_id)
    return codecs.open_model(model or options.MODEL)


def _latents(
    codec: Codec, end: Task, item: bytes | Container, options: EncodeOptions, talk: Talk
) -> Latents:
    """The latents (elements,) of an image, or of what a container's symbols stand for."""
    with at(end.name):
        if not isinstance(item, bytes):
            return codec.payload_latents(item)
        reading = codec.reading(options)
        picture = reading.picture(item, end.name)
        for change in picture.changes:
            talk.changed(end.name, change)
        latents: Latents = codec.latents(reading.pixels(picture)[None])[0]
        return latents
