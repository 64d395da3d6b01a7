"""The name and the id of an exported model, and the versions that made it."""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import cvae
from cvae.errors import TrainingError
from cvae.models import registry
from cvae.models.file import SUFFIX, TABLES, AnyTables, is_name

WEIGHTS = "weights"  # the key under which a manifest keeps the trained networks' hash
_PACKAGES = ["keras", "tensorflow", "jax", "numpy", "onnx", "onnxruntime"]


def new_id(weights: str, qualities: AnyTables | None) -> int:
    """16 bits of a hash over weights and tables; the next free id where a known model has that one.

    Graphs do not count: a faster graph is the same model. Nor does the curvature, which decoding does
    not need.
    """
    tables = qualities.hashes() if qualities else {}
    tables.pop("curvature", None)
    ours = {WEIGHTS: weights, **{f"{TABLES}/{name}": digest for name, digest in tables.items()}}
    # A known model with these weights and tables is the same one.
    known = [entry.manifest for entry in registry.known_models()[0]]
    taken = {manifest.id for manifest in known if not ours.items() <= manifest.hashes.items()}
    text = json.dumps([weights, tables], sort_keys=True)
    model_id = int(hashlib.sha256(text.encode()).hexdigest()[:4], 16)
    while model_id in taken:
        model_id = (model_id + 1) % (1 << 16)
    return model_id


def check_name(name: str | None, folder: Path) -> None:
    """Raises TrainingError when a name looks like a path, or another model has it."""
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
    taken = {used for path, manifest in models for used in (manifest.name, path.stem)}
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(candidate for candidate in names if candidate not in taken)


def versions() -> dict[str, str]:
    """The versions of the packages that make a model, and Keras' backend."""
    keras = sys.modules.get("keras")
    found = {"cvae": cvae.__version__, "backend": keras.backend.backend() if keras else "none"}
    for package in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found
