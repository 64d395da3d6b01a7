"""`cvae info`: what a container, a pack or a model says of itself."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from cvae import CvaeError, ModelError
from cvae.cli import files, options, tables
from cvae.errors import at


@click.command("info")
@click.argument("file")
@options.as_json
def command(file: str, as_json: bool) -> None:
    """Describe FILE: a container, a pack, a folder of packs, or a model.

    A model is a .cvae file, the folder of a training run, or the name of a known one.
    """
    from cvae.data.contents import What

    describe: dict[What, Callable[[str], dict[str, Any]]] = {
        What.NOTHING: _named,
        What.MODEL: _model,
        What.RUN: _model,
        What.FOLDER: _model,
        What.PACK: _pack,
        What.PACKS: _pack,
    }
    with at(file):
        facts = describe.get(files.what(file), _container)(file)
    if as_json:
        click.echo(json.dumps(facts, indent=2))
    else:
        tables.show(tables.facts(facts))


def _named(name: str) -> dict[str, Any]:
    """A known model. Raises CvaeError when there is none, and the name is rather a file's."""
    from cvae.data.images import SUFFIXES

    endings = {*files.FILE_ENDINGS, *SUFFIXES, ".json"}
    if "/" in name or os.sep in name or Path(name).suffix.lower() in endings:
        raise CvaeError("no such file, and no model of that name")
    return _model(name)


def _container(file: str) -> dict[str, Any]:
    from cvae.bitstream import container
    from cvae.codec import Codec
    from cvae.models import registry

    name = None if file == files.STDIO else Path(file)
    data = files.Task(name, None).read()
    item = container.unpack(data)
    facts: dict[str, Any] = {
        "kind": "container of one image",
        "version": container.VERSION,
        "model_id": f"{item.model_id:#06x}",
        "quality": item.quality,
        "file_bytes": len(data),
        "payload_bytes": len(item.payload),
        "original_size": item.original_size,
        "inverted": item.inverted,
    }
    try:
        codec = Codec(registry.find_by_id(item.model_id))
    except ModelError as error:
        return {**facts, "model": f"not here: {error}"}
    symbols = codec.decode_payload(item)
    bits = codec.information_bits(symbols, item.quality)
    return {**facts, "model": codec.name, "information_bits": round(bits, 2), "symbols": symbols}


def _pack(source: str) -> dict[str, Any]:
    from cvae import packs
    from cvae.models import registry

    with closing(packs.open_reader(files.place(source))) as reader:
        facts = reader.facts()
        try:
            model = registry.find_by_id(reader.header.model_id)
        except ModelError as error:
            return {**facts, "model": f"not here: {error}"}
        return {**facts, "model": model.manifest.name}


def _model(name: str) -> dict[str, Any]:
    from cvae.models import registry
    from cvae.models.file import CODEC

    path = Path(name)
    model = registry.open_model(path if path.exists() else name)
    facts = asdict(model.manifest)
    floors = facts.pop("expected_psnr")
    hashes = facts.pop("hashes")
    if facts.pop("kind") == CODEC:
        quality = facts["default_quality"]
        facts[f"expected_psnr_at_quality_{quality}"] = floors[quality - 1]
        unused = ["multiple", "reach"]
        kind = "model"
    else:
        unused = ["latent_shape", "default_quality"]
        kind = "model, a denoiser"
    return {
        "kind": kind,
        **{name: value for name, value in facts.items() if name not in unused},
        "id": f"{facts['id']:#06x}",
        "file": str(model.path),
        "file_bytes": model.path.stat().st_size,
        "hashes": {name: digest[:12] for name, digest in hashes.items()},
    }
