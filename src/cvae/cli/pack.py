"""`cvae pack`: many images to one file, or to a folder of files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from cvae import CvaeError, ImageError, ImageShapeError, OutputError
from cvae.cli import files, options
from cvae.cli.files import STDIO
from cvae.cli.options import Machines
from cvae.cli.talk import FIT_ADVICE, Talk, counted

if TYPE_CHECKING:
    from cvae.codec import Codec, EncodeOptions
    from cvae.data.places import Location


@click.command("pack", cls=options.GroupedCommand)
@click.argument("inputs", nargs=-1, required=True, metavar="IN...")
@options.output(
    "The pack, or a folder of packs; `-` is stdout.  [default: NAME.bin in the current folder; "
    "stdin goes to stdout]"
)
@options.model()
@options.packing
@options.threads
@options.force
@options.talk(
    FIT_ADVICE, verbose="Name every image that comes back worse than 99 % of the model's own would."
)
@options.machines
def command(
    inputs: tuple[str, ...],
    output: str | None,
    model: str | None,
    options: EncodeOptions,
    threads: int | None,
    force: bool,
    talk: Talk,
    machines: Machines,
) -> None:
    """Encode many images to one pack, which pays for one header.

    \b
      cvae pack scans/                  -> scans.bin
      cvae pack mnist.npz               -> mnist.bin, of the test images
      cvae pack scans/ more.tar -o all.bin
      cvae pack 's3://bucket/*.npz' -o coded/ --workers 8

    IN is a folder, an image, an array of images (.npz, .npy), a tar archive, a URL or a pattern of
    URLs in quotes, or `-` for a tar archive on stdin.

    A bad image is named and skipped; the exit code is then 1. With options of "A folder of packs",
    -o is the folder, and any IN may be a pattern.
    """
    from cvae import codec as codecs
    from cvae.models import registry

    files.refuse_device(output)
    _check_output(output)
    name = model or registry.DEFAULT
    if machines.wanted:
        folder = _folder(inputs, output, machines, force)
        _pack_folder(inputs, folder, codecs.open_model(name), options, threads, machines, force, talk)
    else:
        target = _target(inputs, output)
        if target is None:
            files.refuse_terminal(force)
        _pack_file(inputs, target, codecs.open_model(name), options, threads, force, talk)
    talk.end()
