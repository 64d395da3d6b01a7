"""`cvae verify`: whether files are whole, and how near coded images are to their originals."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cvae import CvaeError, DataError, FormatError, ModelError, ModelNotFoundError
from cvae.cli import files, options, tables
from cvae.cli.files import STDIO
from cvae.cli.options import make_talk, say_unused
from cvae.cli.talk import MODELS_ADVICE, Talk, counted, echo, echo_json

if TYPE_CHECKING:
    from cvae.codec import Codec
    from cvae.data.contents import What
    from cvae.evaluation.originals import Originals
    from cvae.options import EncodeOptions

_ENDINGS = {".bin", ".cvae"}  # of files that are checked in a folder


@click.command("verify")
@click.argument("names", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--against", metavar="ORIGINALS",
    help="Decode, and measure PSNR and bytes: a folder, image, array (.npz, .npy, idx), tar or ZIP archive, "
    "pack, pattern or URL of the original images.",
)  # fmt: skip
@options.model("the one that each file names")
@options.originals
@options.list_skipped
@options.as_json
def command(
    names: tuple[str, ...], against: str | None, model: str | None, options: EncodeOptions,
    as_json: bool,
) -> None:  # fmt: skip
    """Check that files are whole.

    \b
      cvae verify scans.bin coded/ runs/mine/mine.cvae
      cvae verify scans.bin --against scans/    PSNR of the decoded images

    FILE is a container, a pack, a folder of packs, a model, a folder of containers and models, or `-`
    for one of these files on stdin.
    The exit code is 1 where something is damaged or missing.

    --against matches the images of an array by number, all others by name, unless there is but one
    container and one original. Nothing is encoded.
    Containers are compared with image files alone, packs with all of these. Where several models wrote
    the containers of a folder, each has its own figures. Coded images without an original are named,
    and originals that no FILE has, unless FILE is one container; the exit code is then 1.
    """
    from cvae.codec import open_model
    from cvae.evaluation.originals import Originals
    from cvae.evaluation.verify import codec_finder

    talk, find = make_talk(MODELS_ADVICE), codec_finder(model)
    if model:
        open_model(model)  # one that there is not is wrong usage, whatever the files are
    # Listed once for all files, which each tell it what they hold.
    originals = Originals(against, talk.error, not _is_one(names)) if against else None
    results, compared = [], 0
    for given in names:
        name = "stdin" if given == STDIO else given
        with talk.trying(name), files.on_disk(given) as path:
            if originals is None:
                result = _check(name, path, find, talk)
                results.append(result)
                if not as_json:
                    echo(f"{name}: {result['kind']}, {result['state']}")
                continue
            found = _compare(name, path, originals, model, options, find, talk)
            compared += 1
            results += found
            if not as_json:
                for result in found:
                    tables.show(tables.coded(result, originals.text))
    # A single container is looked up in a folder of many; what cannot be compared may have any.
    if originals and compared == len(names) and not _is_one(names) and (left := originals.uncoded):
        talk.lacking("there is no coded image of", "original", left, originals.text)
    if as_json:
        echo_json(results)
    sys.stdout.flush()
    talk.end()


def _is_one(names: tuple[str, ...]) -> bool:
    """Whether all that is asked for is one container."""
    from cvae.data.contents import What

    return len(names) == 1 and files.what(names[0]) in (What.CONTAINER, What.FILE)


def _check(name: str, place: str, find: Callable[[int], Codec], talk: Talk) -> dict[str, Any]:
    """What is damaged in a file, or in the files of a folder; every damage is an error, too.

    It lies at `place` and is called `name`.
    """
    damage, bad = [], 0
    kind, paths = _describe(place, files.what(place), talk.error)
    for path in paths:
        before, shown = talk.errors, name if path == place else path
        with talk.trying(shown), files.called(path, shown):
            for item in _damage_in(path, shown, find, talk):
                talk.error(FormatError(item, where=shown))
                damage.append(item if path == place else f"{path}: {item}")
        bad += talk.errors > before
    state = "damaged" if damage else "not checked" if bad else "whole"
    kind = f"{bad} of {kind}" if bad and len(paths) > 1 else kind
    return {"file": name, "kind": kind, "state": state, "damage": damage}


def _damage_in(path: str, name: str, find: Callable[[int], Codec], talk: Talk) -> list[str]:
    """What is damaged in a file. Raises CvaeError when that cannot be told, or it is none of ours."""
    from cvae import kinds
    from cvae.data.contents import What
    from cvae.evaluation import verify
    from cvae.models import registry

    what = files.what(path)
    is_model = what in (What.MODEL, What.RUN)
    is_ours = is_model or what in (What.CONTAINER, What.PACK, What.PACKS)
    if not is_ours and Path(path).suffix.lower() not in _ENDINGS:
        raise files.other(path)
    try:
        if not is_model:
            return [str(item) for item in verify.check(path, find)]
        kinds.verify(registry.open_model(Path(path)))
    except ModelNotFoundError as error:
        if is_model:  # a run without one
            raise
        talk.changed(name, f"only the check sum was looked at: {error.text}")
    except ModelError as error:
        return [error.text]
    return []


def _describe(name: str, what: What, refuse: Callable[[CvaeError], None]) -> tuple[str, list[str]]:
    """What messages call an argument, and the files that it stands for. Raises CvaeError."""
    from cvae.data import listing, places
    from cvae.data.contents import What

    kinds = {
        What.CONTAINER: "container",
        What.PACK: "pack",
        What.PACKS: "folder of packs",
        What.MODEL: "model",
        What.RUN: "model",
    }
    if what is What.NOTHING:
        raise CvaeError("there is no such file or folder")
    if what is not What.FOLDER:
        return kinds.get(what, "unknown kind of file"), [name]
    chosen = listing.coded(_ENDINGS)(places.locate(name).below(refuse=refuse), refuse)
    found = [str(file.place) for file in chosen]
    if not found:
        raise CvaeError("expected .bin or .cvae files, found none in this folder")
    return counted(len(found), "file"), found


def _compare(
    name: str, place: str, originals: Originals, model: str | None, options: EncodeOptions,
    find: Callable[[int], Codec], talk: Talk,
) -> list[dict[str, Any]]:  # fmt: skip
    """The figures of a file, or the containers of a folder, beside their originals; says what has none."""
    from cvae import packs
    from cvae.data.contents import What
    from cvae.evaluation import containers, verify

    def refuse(error: CvaeError) -> None:
        # Damage is of the pack; originals have their names already.
        if isinstance(error, FormatError) and not error.where:
            error.where = name
        talk.error(error)

    unused = _unused(options, talk)
    what = files.what(place)
    if what in (What.PACK, What.PACKS):
        with packs.open(place, model, damaged=True) as pack, talk.bar(len(pack)) as bar:
            unused(pack.codec)
            found = verify.compare(pack, originals, options, bar.update, refuse)
    else:
        paths = _describe(place, what, refuse)[1]
        with talk.bar(len(paths)) as bar:
            coded = _named(paths, place, bar)
            found = containers.compare(
                coded, originals, options, lambda item: unused(find(item)), refuse
            )
    if found.absent:
        none = "has no original that can be read of"
        talk.lacking(none, "coded image", found.absent, originals.text)
    if differ := sum(figures.get("images_that_differ", 0) for figures in found.figures):
        text = f"{counted(differ, 'lossless image')} and their originals differ"
        talk.error(DataError(text, where=name))
    dataset = Path(originals.text.rstrip("/")).stem
    common = {"dataset": dataset, "split": "all", "file": name}
    return [{**common, **figures} for figures in found.figures]


def _unused(options: EncodeOptions, talk: Talk) -> Callable[[Codec], Codec]:
    """What says of each codec once which options change nothing, and gives it back."""

    @cache
    def said(codec: Codec) -> Codec:
        if codec.any_size:
            say_unused(replace(options, fit=False), codec.name, talk)  # nobody asks for --fit here
        return codec

    return said


def _named(paths: list[str], name: str, bar: Any) -> Iterator[tuple[str, str]]:
    """Containers, each with its name below the folder that was given; a progress bar follows them."""
    for path in paths:
        below = Path(Path(path).name) if path == name else Path(path).relative_to(name)
        yield path, below.as_posix()
        bar.update(1)
