"""What an exported model is called: its name, its id, and the versions that made it."""

from __future__ import annotations

import hashlib
import json
import sys
from importlib import metadata
from pathlib import Path

import cvae
from cvae.errors import TrainingError
from cvae.models import registry
from cvae.models.file import SUFFIX, TABLES, is_name
from cvae.models.qualities import Qualities

WEIGHTS = "weights"  # the key under which a manifest keeps the trained networks' hash
_PACKAGES = ["keras", "tensorflow", "jax", "numpy", "onnx", "onnxruntime"]


def new_id(weights: str, bank: Qualities | None) -> int:
    """16 bits of a hash over weights and tables, moved on while a known model has that id.

    Not over the graphs, which may get faster and stay the same model.
    """
    # What decoding depends on; the curvature is for the search alone.
    hashes = bank.hashes() if bank else {}
    tables = {name: digest for name, digest in hashes.items() if name != "curvature"}
    ours = {WEIGHTS: weights, **{f"{TABLES}/{name}": digest for name, digest in tables.items()}}
    # A known model with these weights and tables is this one, made again.
    known = [entry.manifest for entry in registry.known_models()[0]]
    taken = {manifest.id for manifest in known if not ours.items() <= manifest.hashes.items()}
    text = json.dumps([weights, tables], sort_keys=True)
    model_id = int(hashlib.sha256(text.encode()).hexdigest()[:4], 16)
    while model_id in taken:
        model_id = (model_id + 1) % (1 << 16)
    return model_id


def check_name(name: str | None, folder: Path) -> None:
    """Raises TrainingError when a model's name would be mistaken for a path or another model."""
    if name is None:
        return
    if not is_name(name) or name.endswith(SUFFIX):
        raise TrainingError(
            f"--name: expected letters, digits and . _ + - without {SUFFIX}, found {name!r}"
        )
    for path, manifest in registry.known_models()[0]:
        if manifest.name == name and path.resolve().parent != folder.resolve():
            raise TrainingError(f"--name: {name!r} is the name of another model, {path}")


def free_name(name: str, models: list[registry.Entry]) -> str:
    """`name`, or `name-2`, `name-3`, ... where one of the models has it already."""
    taken = {entry.manifest.name for entry in models} | {entry.path.stem for entry in models}
    number = 1
    candidate = name
    while candidate in taken:
        number += 1
        candidate = f"{name}-{number}"
    return candidate


def versions() -> dict[str, str]:
    keras = sys.modules.get("keras")
    backend = keras.backend.backend() if keras else "none"
    found = {"cvae": cvae.__version__, "backend": backend}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
