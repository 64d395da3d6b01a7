"""`cvae verify`: whether files are whole, and how near coded images are to their originals."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cvae import CvaeError, DataError, FormatError, ImageError, ModelError, ModelNotFoundError
from cvae.cli import files, options, tables
from cvae.cli.options import make_talk
from cvae.cli.talk import MODELS_ADVICE, Talk, counted, echo, echo_json
from cvae.errors import at

if TYPE_CHECKING:
    from cvae.codec import Codec
    from cvae.data.contents import What
    from cvae.data.images import Pixels
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
@options.as_json
def command(
    names: tuple[str, ...], against: str | None, model: str | None, options: EncodeOptions,
    as_json: bool,
) -> None:  # fmt: skip
    """Check that files are whole.

    \b
      cvae verify scans.bin coded/ runs/mine/mine.cvae
      cvae verify scans.bin --against scans/    PSNR of the decoded images

    FILE is a container, a pack, a folder of packs, a model, or a folder of containers and models.
    The exit code is 1 where something is damaged or missing.

    --against matches the images of an array by number, all others by name. Nothing is encoded.
    Containers are compared with image files alone, packs with all of these. Where several models wrote
    the containers of a folder, each has its own figures.
    """
    from cvae.evaluation.verify import codec_finder

    talk, find = make_talk(MODELS_ADVICE), codec_finder(model)
    results = []
    for name in names:
        with talk.trying(name):
            if against is None:
                result = _check(name, find, talk)
                results.append(result)
                if not as_json:
                    echo(f"{name}: {result['kind']}, {result['state']}")
                continue
            for result in _compare(name, against, model, options, find, talk):
                results.append(result)
                if not as_json:
                    tables.show(tables.coded(result))
    if as_json:
        echo_json(results)
    sys.stdout.flush()
    talk.end()


def _check(name: str, find: Callable[[int], Codec], talk: Talk) -> dict[str, Any]:
    """What is damaged in a file, or in the files of a folder; every damage is an error, too."""
    damage, bad = [], 0
    kind, paths = _describe(name, files.what(name), talk.error)
    for path in paths:
        before = talk.errors
        with talk.trying(path):
            for item in _damage_in(path, find, talk):
                talk.error(FormatError(item, where=path))
                damage.append(item if path == name else f"{path}: {item}")
        bad += talk.errors > before
    state = "damaged" if damage else "not checked" if bad else "whole"
    kind = f"{bad} of {kind}" if bad and len(paths) > 1 else kind
    return {"file": name, "kind": kind, "state": state, "damage": damage}


def _damage_in(path: str, find: Callable[[int], Codec], talk: Talk) -> list[str]:
    """What is damaged in a file. Raises CvaeError when that cannot be told."""
    from cvae import kinds
    from cvae.data.contents import What
    from cvae.evaluation import verify
    from cvae.models import registry

    is_model = files.what(path) in (What.MODEL, What.RUN)
    try:
        if not is_model:
            return [str(item) for item in verify.check(path, find)]
        kinds.verify(registry.open_model(Path(path)))
    except ModelNotFoundError as error:
        if is_model:  # a run without one
            raise
        talk.warning(f"{path}: only its check sum was looked at: {error.text}")
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
    name: str, against: str, model: str | None, options: EncodeOptions,
    find: Callable[[int], Codec], talk: Talk,
) -> list[dict[str, Any]]:  # fmt: skip
    """The figures of a file, or of each model's containers in a folder, against their originals."""
    from cvae import packs
    from cvae.data.contents import What
    from cvae.evaluation import verify

    def refuse(error: CvaeError) -> None:
        # Damage is of the pack; originals have their names already.
        if isinstance(error, FormatError) and not error.where:
            error.where = name
        talk.error(error)

    what = files.what(name)
    if what in (What.PACK, What.PACKS):
        with packs.open(name, model, damaged=True) as pack, talk.bar(len(pack)) as bar:
            found = [verify.compare(pack, against, options, bar.update, refuse)]
    else:
        found = _compare_containers(name, what, against, options, find, refuse)
    stem = Path(against.rstrip("/")).stem
    if missing := found[0].get("missing"):
        talk.warning(f"{against}: has no original of {counted(missing, 'coded image')}")
    common = {"dataset": stem, "split": "all", "file": name}
    return [{**common, **figures} for figures in found]


def _compare_containers(
    name: str, what: What, against: str, options: EncodeOptions, find: Callable[[int], Codec],
    refuse: Callable[[CvaeError], None],
) -> list[dict[str, Any]]:  # fmt: skip
    """The figures of one container and its original, or of those of two folders by their names.

    One result a model; what is missing or lost is told in the first.
    """
    from cvae.bitstream import container
    from cvae.data import images, listing, pages, places
    from cvae.data.contents import What, what_lies_at
    from cvae.evaluation import verify

    if what_lies_at(against) in (What.ARRAY, What.TAR, What.ZIP, What.PACK, What.PACKS):
        text = "holds many images, expected image files: containers are compared with those of their names"
        raise DataError(text, where=against)
    found = list(listing.find_images(against, refuse))
    # By the name without its ending, and by all of it: where two would meet, a container has that.
    originals = {Path(file.name).with_suffix(""): file.place for file in reversed(found)}
    originals |= {Path(file.name): file.place for file in found}
    alone = next((file.place for file in found if file.place == places.locate(against)), None)
    pairs: dict[Codec, list[tuple[bytes, Pixels]]] = {}
    missing = lost = 0
    for path in _describe(name, what, refuse)[1]:
        try:
            with at(path):
                data = files.Task(Path(path)).read()
                codec = find(container.unpack(data).model_id)
                shape = codec.decode(data).shape
        except CvaeError as error:
            refuse(error)
            lost += 1
            continue
        below = Path(Path(path).name if path == name else Path(path).relative_to(name))
        original = originals.get(below.with_suffix(""), alone)  # a single one has any name
        if original is None:
            missing += 1
            continue
        reading = codec.reading(options)
        try:
            read = images.read_file(original)
            pixels = reading.read(read, str(original))
            if (count := pages.count(read)) > 1:
                refuse(pages.notice(count, str(original)))
            if codec.any_size:
                _check_shape(pixels.shape, (*shape, 1)[:3], str(original))
            pairs.setdefault(codec, []).append((data, pixels))
        except ImageError as error:
            refuse(error)
            missing += 1
    if not pairs:
        raise DataError("has none of the images that were coded, and are whole", where=against)
    results = [
        verify.compare_containers(codec, *zip(*group, strict=True)) | {"missing": 0, "lost": 0}
        for codec, group in pairs.items()
    ]
    results[0] |= {"missing": missing, "lost": lost}
    return results


def _check_shape(found: tuple[int, ...], coded: tuple[int, ...], name: str) -> None:
    """Raises ImageError when an original has another shape (h, w, c) than what was coded."""
    if found != coded:
        (h, w, c), (height, width, channels) = found, coded
        expected = f"expected {width}x{height} of {channels} channels, as it was coded"
        raise ImageError(f"{expected}, found {w}x{h} of {c}", where=name)
