"""`cvae info`: what containers, packs and models say of themselves."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import click

from cvae import CvaeError, FormatError, ModelError, ModelNotFoundError
from cvae.cli import completion, files, options, tables
from cvae.cli.talk import Talk, echo, echo_json

_LARGE = 1 << 16  # bytes of a payload: to decode more, or a lossless one, takes seconds
# What a manifest has and only some kinds of model do, which `kinds` says; and what is shortened here.
_OTHERS = {
    "latent_shape",
    "default_quality",
    "expected_psnr",
    "multiple",
    "reach",
    "kind",
    "hashes",
}


@click.command("info")
@click.argument(
    "names", nargs=-1, required=True, metavar="FILE...", shell_complete=completion.models
)
@click.option(
    "--names", "listed", is_flag=True,
    help="Print the names of all images of packs instead, one a line.",
)  # fmt: skip
@options.as_json
def command(names: tuple[str, ...], listed: bool, as_json: bool) -> None:
    """Describe containers, packs and models.

    \b
      cvae info digit.bin
      cvae info coded/                          how many files, their bytes and models
      cvae info mnist

    FILE is a container, a pack, a folder of packs or of containers, a .cvae file, the folder of a
    training run, the name of a model, or `-` for one of these files on stdin. --json prints a list
    for several. The exit code is 1 where a file is damaged, 2 where the one name is that of no model.
    """
    from cvae.data.contents import What

    talk, found, code = options.make_talk(), list[Any](), 1
    for name in names:
        with talk.trying("stdin" if name == files.STDIO else name):
            if listed:
                for image in _names(name):
                    found.append(image) if as_json else echo(image)
                continue
            try:
                facts = _facts(name, talk)
            except ModelNotFoundError:
                code = 2 if len(names) == 1 and files.what(name) is What.NOTHING else code
                raise
            if not as_json:
                echo("") if found else None
                tables.show(tables.facts(_shortened(facts)))
            found.append(facts)
            if facts.get("damage"):
                raise FormatError("is damaged, as listed", where=name)
    if as_json and (listed or found):
        echo_json(found[0] if len(names) == 1 and not listed else found)
    talk.end(code)


def _facts(name: str, talk: Talk) -> dict[str, Any]:
    """What a file or a folder says of itself. Raises CvaeError."""
    from cvae.data.contents import What

    what = files.what(name)
    if what is What.NOTHING:
        _check_name(name)
    if what in (What.PACK, What.PACKS):
        return _pack(name)
    if what is What.FOLDER and (found := _coded_below(name, talk)):
        return _folder(found, talk)
    if what in (What.NOTHING, What.MODEL, What.RUN, What.FOLDER):
        return _model(name)
    if what is not What.CONTAINER:
        raise files.other(name)
    return _container(name)


def _shortened(facts: dict[str, Any]) -> dict[str, Any]:
    """Facts for people: of the names of a pack there are the first alone, and how to see all."""
    if "takes" in facts:
        return dict(_of_model(facts))
    if facts.get("quality") == 0:
        facts = {**facts, "quality": "lossless"}
    names = facts.get("names")
    if not names:
        return facts
    named = [name for name in names if name]  # some images of a pack may have none
    if len(names) < facts["images"]:
        named.append(f"{'first of' if named else 'some of'} {facts['images']:,}: --names lists all")
    return {**facts, "names": named}


def _of_model(facts: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Facts of a model for people: some take any size, whatever shape their manifest has."""
    bound = "expected_psnr_at_"
    for name, value in facts.items():
        if name.startswith(bound):
            yield name.replace(bound, "99_%_reach_at_"), f"{value} dB"
        elif name != "image_shape":
            yield name, value


def _names(name: str) -> Iterator[str]:
    """The names of the images of a pack. Raises FormatError, after those that are left of a damaged one."""
    from cvae import packs

    with packs.open_reader(files.place(name)) as reader:
        if not reader.named:
            raise FormatError("has no names of images")
        for _, image in reader.names():
            yield image
        if reader.damage_in([(0, reader.images)]):
            raise FormatError("is damaged: names are missing")


def _check_name(name: str) -> None:
    """Raises CvaeError when a name is rather a file's than a model's."""
    from cvae.data.names import SUFFIXES

    endings = {*files.FILE_ENDINGS, *SUFFIXES, ".json"}
    if "/" in name or os.sep in name or Path(name).suffix.lower() in endings:
        raise CvaeError("no such file, and no model of that name")


def _container(file: str) -> dict[str, Any]:
    from cvae.bitstream import container
    from cvae.codec import find_codec

    data = files.Task(None if file == files.STDIO else Path(file)).read()
    item = container.unpack(data)
    facts: dict[str, Any] = {
        "kind": "container of one image",
        "version": container.VERSION,
        "model_id": f"{item.model_id:#06x}",
        "quality": item.quality,
        "file_bytes": len(data),
        "payload_bytes": len(item.payload),
        "original_size": item.original_size,
        **({"grey": item.grey} if item.staged else {"inverted": item.inverted}),
    }
    try:
        codec = find_codec(item.model_id)
    except ModelError as error:
        return {**facts, "model": f"not here: {error}"}
    facts["model"] = codec.name
    if codec.lossless or len(item.payload) > _LARGE:
        return facts
    symbols = codec.decode_payload(item)
    bits = codec.information_bits(item, symbols)
    # Those of photographs are too many to read.
    named = {"symbol_count": symbols.size} if codec.staged else {"symbols": symbols[0].tolist()}
    return {**facts, "information_bits": round(bits, 2), **named}


def _pack(source: str) -> dict[str, Any]:
    from cvae import kinds, packs
    from cvae.models import registry

    with packs.open_reader(files.place(source)) as reader:
        facts = reader.facts()
        try:
            name = registry.find_by_id(reader.header.model_id, kinds.codes).manifest.name
        except ModelError as error:
            name = f"not here: {error}"
        return {**facts, "model": name}


def _coded_below(folder: str, talk: Talk) -> list[str]:
    """The files of a folder that have the ending of containers and packs; says where there are others."""
    from cvae.data import listing, places

    others: list[CvaeError] = []
    below = places.locate(folder).below(refuse=talk.error)
    found = [str(file.place) for file in listing.coded({".bin"})(below, others.append)]
    for notice in others if found else []:
        talk.error(notice)
    return found


def _folder(paths: list[str], talk: Talk) -> dict[str, Any]:
    """The containers and packs of a folder in sum; those that cannot be read are named."""
    from cvae.data.contents import What

    name_of, counts = cache(_name_of), Counter[str]()
    models, qualities = Counter[str](), Counter[int]()
    for path in paths:
        with talk.trying(path):
            is_pack = files.what(path) is What.PACK
            model_id, quality, images, size = (_of_pack if is_pack else _of_container)(path)
            counts.update(
                {"packs" if is_pack else "containers": 1, "images": images, "bytes": size}
            )
            models[name_of(model_id)] += images
            qualities[quality] += images
    images = counts["images"]
    return {
        "kind": "folder of coded files",
        "containers": counts["containers"],
        "packs": counts["packs"],
        "unreadable": len(paths) - counts["containers"] - counts["packs"],
        "images": images,
        "file_bytes": counts["bytes"],
        "bytes_per_image": round(counts["bytes"] / images, 2) if images else None,
        "models": dict(models),  # of how many images each
        "qualities": {str(quality): qualities[quality] for quality in sorted(qualities)},
    }


def _of_container(path: str) -> tuple[int, int, int, int]:
    """The id of its model, its quality, images and bytes. Raises FormatError at damage."""
    from cvae.data import contents

    data = files.Task(Path(path)).read()
    item = contents.unpack(data)
    return item.model_id, item.quality, 1, len(data)


def _of_pack(path: str) -> tuple[int, int, int, int]:
    """The same of a pack; its blocks are left to `verify`."""
    from cvae import packs

    with packs.open_reader(path) as reader:
        if reader.damage:
            raise FormatError(str(reader.damage[0]))
        return reader.header.model_id, reader.header.quality, reader.images, reader.size


def _name_of(model_id: int) -> str:
    """The name of a model that is here, else its id."""
    from cvae import kinds
    from cvae.models import registry

    try:
        return str(registry.find_by_id(model_id, kinds.codes).manifest.name)
    except ModelError:
        return f"{model_id:#06x}, not here"


def _model(name: str) -> dict[str, Any]:
    from cvae import kinds
    from cvae.models import registry

    if name == files.STDIO:
        return _model_on_stdin()
    path = Path(name)
    model = registry.open_model(path if path.is_file() else name)
    manifest = model.manifest
    kind = kinds.of(manifest, model.path)
    common = {key: value for key, value in asdict(manifest).items() if key not in _OTHERS}
    return {
        "kind": f"model ({manifest.kind})",
        "takes": kind.describe(manifest),
        **common,
        **kind.facts(manifest),
        "id": f"{manifest.id:#06x}",
        "file": str(model.path),
        "file_bytes": model.path.stat().st_size,
        "hashes": {name: digest[:12] for name, digest in manifest.hashes.items()},
    }


def _model_on_stdin() -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="cvae-") as folder:
        path = Path(folder, "stdin.cvae")
        path.write_bytes(files.Task(None).read())
        with files.called(str(path), "stdin"):
            return {**_model(str(path)), "file": "stdin"}
