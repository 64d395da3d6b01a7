"""`cvae info`: what a container, a pack or a model says of itself."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from cvae import CvaeError, FormatError, ModelError
from cvae.cli import files, options, tables
from cvae.cli.talk import echo_json
from cvae.errors import at

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
@click.argument("file")
@options.as_json
def command(file: str, as_json: bool) -> None:
    """Describe a container, a pack or a model.

    \b
      cvae info digit.bin
      cvae info mnist

    FILE is a container, a pack, a folder of packs, a .cvae file, the folder of a training run, or
    the name of a model. The exit code is 1 where a file is damaged.
    """
    from cvae.data.contents import What

    with at(file):
        what = files.what(file)
        if what is What.NOTHING:
            _check_name(file)
        if what in (What.PACK, What.PACKS):
            facts = _pack(file)
        elif what in (What.NOTHING, What.MODEL, What.RUN, What.FOLDER):
            facts = _model(file)
        else:
            facts = _container(file)
    if as_json:
        echo_json(facts)
    else:
        tables.show(tables.facts(facts))
    if facts.get("damage"):
        raise FormatError("is damaged, as listed", where=file)


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
    symbols = codec.decode_payload(item)
    bits = codec.information_bits(item, symbols)
    # Those of photographs are too many to read.
    named = {"symbol_count": symbols.size} if codec.any_size else {"symbols": symbols[0].tolist()}
    return {**facts, "model": codec.name, "information_bits": round(bits, 2), **named}


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


def _model(name: str) -> dict[str, Any]:
    from cvae import kinds
    from cvae.models import registry

    path = Path(name)
    model = registry.open_model(path if path.exists() else name)
    manifest = model.manifest
    common = {key: value for key, value in asdict(manifest).items() if key not in _OTHERS}
    return {
        "kind": f"model ({manifest.kind})",
        **common,
        **kinds.of(manifest, model.path).facts(manifest),
        "id": f"{manifest.id:#06x}",
        "file": str(model.path),
        "file_bytes": model.path.stat().st_size,
        "hashes": {name: digest[:12] for name, digest in manifest.hashes.items()},
    }
