"""Packs on the command line: what `decode` and `info` do with many images in one file, or a folder."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from cvae import CvaeError, FormatError, ModelError
from cvae.cli import common
from cvae.cli.common import STDIO, Talk, Task
from cvae.errors import at

if TYPE_CHECKING:
    from cvae.packs.decode import Pack
    from cvae.packs.reader import Range

_NO_NAMES = " (this pack has no names; use numbers, as 17)"
_NUMBERS = re.compile(r"[0-9]{1,15}(-[0-9]{1,15})?(,[0-9]{1,15}(-[0-9]{1,15})?)*")


@dataclass(frozen=True)
class DecodeSettings:
    """The options of `cvae decode` for packs."""

    model: str | None
    only: tuple[str, ...]
    keep_going: bool
    jobs: int | None
    threads: int | None
    force: bool


def is_pack(inputs: tuple[str, ...]) -> bool:
    """Whether the one input of `cvae decode` is a pack, or a folder of them with a manifest."""
    from cvae.packs import layout as pack

    if len(inputs) != 1:
        return False
    if inputs[0] == STDIO:
        return pack.is_pack(common.peek(1))
    if common.is_url(inputs[0]):
        return True  # nothing else is read from there
    if Path(inputs[0]).is_dir():
        return is_folder(inputs[0])
    try:
        # Not of a pipe: what is read of it is gone.
        if not Path(inputs[0]).is_file():
            return False
        with Path(inputs[0]).open("rb") as file:
            return pack.is_pack_file(file)
    except OSError:
        return False  # whoever reads it says what is wrong


def by_itself(source: str, what: str = "a pack") -> str:
    """What an error says of a pack among other inputs."""
    return f"it is {what}; packs are decoded one at a time: cvae decode {source}"


def is_folder(source: str) -> bool:
    """Whether a path or URL is a folder of packs, finished or not."""
    from cvae.data import places
    from cvae.packs import manifest

    place = places.locate(source)
    names = (manifest.MANIFEST, manifest.UNFINISHED, "part-00000.bin")
    return places.is_folder(place) and any(places.exists(place / name) for name in names)


def decode(source: str, output: str | None, settings: DecodeSettings, talk: Talk) -> None:
    """Writes the images of one pack to a folder, an archive or an array."""
    from cvae.data import pipeline, sinks

    with ExitStack() as stack:
        name = "stdin" if source == STDIO else source
        stack.enter_context(at(name))
        packed = stack.enter_context(opened(source, settings.model))
        if not packed.reader.images and not packed.reader.damage:
            raise CvaeError("holds no images")
        ranges = _chosen(packed, settings.only)
        ranges = _sound(packed, ranges, settings, talk, name)
        total = sum(stop - start for start, stop in ranges)
        if not total:
            raise CvaeError("no image is left to decode")
        target = _decode_target(source, output)
        if isinstance(target, Path) and sinks.is_array(target) and packed.reader.header.sizes:
            talk.warning(f"{target}: images stay as they were fitted; files get their own sizes")
        jobs = settings.jobs or pipeline.processors()
        shape = packed.codec.image_shape
        sink = stack.enter_context(
            sinks.open_sink(target, shape, ranges, force=settings.force, jobs=jobs)
        )
        sys.setswitchinterval(common.SWITCH)
        with talk.bar(total) as bar:
            for decoded in packed.decode(ranges, settings.threads):
                sink.write(decoded)
                bar.update(len(decoded.numbers))
    where = target if isinstance(target, Path) else "stdout"
    talk.say(f"{name} -> {where}: {total:,} of {common.counted(len(packed), 'image')} decoded")
    if talk.errors:
        raise click.exceptions.Exit(1)


def describe(source: str) -> dict[str, Any]:
    """What `cvae info` says of a pack, or of a folder of packs."""
    from cvae import packs
    from cvae.models import registry

    with packs.open_reader(_place(source)) as reader:
        facts = reader.facts()
    try:
        return {**facts, "model": registry.find_by_id(reader.header.model_id).manifest.name}
    except ModelError as error:
        return {**facts, "model": f"not here: {error}"}


def _place(source: str) -> Any:
    return sys.stdin.buffer if source == STDIO else source


@contextmanager
def opened(source: str, model: str | None) -> Iterator[Pack]:
    """A pack or a folder of such, from a path, a URL or stdin, with the codec that it needs."""
    from cvae import packs

    with packs.open(_place(source), model, damaged=True) as pack:
        yield pack


def _chosen(packed: Pack, only: tuple[str, ...]) -> list[Range]:
    """The images that are asked for, by number or by name; all of them when none are."""
    from cvae.packs.decode import ranges_of

    if not only:
        return [(0, len(packed))]
    ranges: list[Range] = []
    for text in only:
        if _NUMBERS.fullmatch(text):
            for part in text.split(","):
                first, _, last = part.partition("-")
                ranges.append((int(first), int(last or first) + 1))
                if ranges[-1][0] >= ranges[-1][1]:
                    raise CvaeError(f"--only {part}: expected the smaller number first")
        else:
            found = packed.find(text)
            if not found:
                advice = "" if packed.reader.named else _NO_NAMES
                raise CvaeError(f"there is no image named {text!r}{advice}")
            ranges += [(number, number + 1) for number in found]
    chosen = ranges_of(ranges)
    if chosen[-1][1] > len(packed):
        raise CvaeError(f"there is no image {chosen[-1][1] - 1}, expected 0 to {len(packed) - 1}")
    return chosen


def _sound(
    packed: Pack, ranges: list[Range], settings: DecodeSettings, talk: Talk, name: str
) -> list[Range]:
    """The images that are not damaged; before anything is written. Damage is an error, or a message each."""
    from cvae.packs.decode import without

    damage = packed.reader.damage_in(ranges)
    for item in damage:
        error = FormatError(f"{item}", where=name)
        if not settings.keep_going:
            raise FormatError(f"{error}; --keep-going decodes what is whole")
        talk.error(error)
    return without(ranges, [(d.first, d.first + d.images) for d in damage if d.images])


def _decode_target(source: str, output: str | None) -> Path | BinaryIO:
    """Where the images go: a path, or stdout for a tar archive, as other results of stdin do."""
    from cvae.data import sinks

    if output == STDIO:
        common.refuse_terminal([Task(None, None)], force=False)
        return sys.stdout.buffer
    if output is not None:
        if common.is_url(output):
            raise click.UsageError(f"-o {output}: images are written to this machine only")
        if not sinks.is_array(Path(output)) and Path(output).suffix.lower() != ".tar":
            common.refuse_as_folder(output, "a folder, .npz, .npy or .tar")
        return Path(output)
    if source == STDIO and sys.stdout is not None and not sys.stdout.isatty():
        return sys.stdout.buffer
    stem = "stdin" if source == STDIO else Path(source.rstrip("/")).stem
    return Path(f"{stem}_reconstructed")
