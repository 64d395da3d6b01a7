"""`cvae info`: what a container or a model file says of itself."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from cvae import CvaeError, ModelError
from cvae.cli import common, packed
from cvae.errors import at

_COLUMNS = 80


@click.command("info")
@click.argument("file")
@common.json_option
def command(file: str, as_json: bool) -> None:
    """Describe FILE: a container or a pack (.bin), a folder of packs, or a model.

    A model is a .cvae file, the folder of a training run, or the name of a known one.
    """
    with at(file):
        if packed.is_pack((file,)):
            facts = packed.describe(file)
        else:
            _check_there(file)
            facts = _model(Path(file)) if _is_model(Path(file)) else _container(Path(file))
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        line = f"{name.replace('_', ' '):{width}}  {_text(value)}"
        # A path stays in one piece.
        click.echo(line if len(line) <= _COLUMNS or name == "file" else _below(name, value))


def _check_there(file: str) -> None:
    """Raises CvaeError when there is no such file and the name is none of a model."""
    path = Path(file)
    if path.exists():
        return
    from cvae.data.images import SUFFIXES

    endings = {*common.FILE_ENDINGS, *SUFFIXES, ".json"}
    if "/" in file or os.sep in file or path.suffix.lower() in endings:
        raise CvaeError("no such file, and no model of that name")


def _is_model(file: Path) -> bool:
    if not file.exists() or file.is_dir():
        return True  # or the name of one, or a training run
    try:
        with file.open("rb") as stream:
            return stream.read(4) == b"PK\x03\x04"
    except OSError as error:
        raise CvaeError(f"cannot be read: {error.strerror}", where=file) from error


def _container(file: Path) -> dict[str, Any]:
    from cvae.bitstream import container
    from cvae.codec import Codec
    from cvae.models import registry

    data = file.read_bytes()
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


def _model(file: Path) -> dict[str, Any]:
    from cvae.models import registry
    from cvae.models.file import CODEC

    model = registry.open_model(file if file.exists() else str(file))
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


def _below(name: str, value: Any) -> str:
    """A long fact: its text below its name."""
    # By hand: click's own breaks hashes at the last column, and names at their hyphens.
    import textwrap

    text = textwrap.fill(
        _text(value), _COLUMNS, initial_indent="  ", subsequent_indent="  ",
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    return f"{name.replace('_', ' ')}\n{text}"


def _text(value: Any) -> str:
    """A fact for people, in which nothing that a file says moves a terminal's cursor."""
    from cvae.data.folders import printable

    return printable(_plain(value))


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_plain(item)}" for key, item in value.items())
    if isinstance(value, tuple | list):
        sentences = any(" " in str(item) for item in value)
        return ("; " if sentences else " ").join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)
