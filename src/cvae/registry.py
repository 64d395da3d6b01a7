"""Which models there are: the shipped ones and those in `CVAE_MODELS`, found by name or by id."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from cvae.errors import ModelError, ModelNotFoundError
from cvae.model import CODEC, SUFFIX, Manifest, Model, read_manifest

DEFAULT = "mnist"
SEARCH_PATH = "CVAE_MODELS"


class Entry(NamedTuple):
    """A model file on the search path."""

    path: Path
    manifest: Manifest


def shipped_folder() -> Path:
    """`weights/` inside the installed package, or at the top of a checkout."""
    package = Path(__file__).parent
    inside = package / "weights"
    return inside if inside.is_dir() else package.parents[1] / "weights"


def search_path() -> list[Path]:
    """Folders and files that are searched: the shipped models, then `CVAE_MODELS` (like `PATH`)."""
    extra = os.environ.get(SEARCH_PATH, "")
    return [shipped_folder(), *(Path(part) for part in extra.split(os.pathsep) if part)]


def known_models() -> tuple[list[Entry], list[ModelError]]:
    """Every model on the search path once, and what is wrong with the files that cannot be read."""
    return models_in(*search_path())


def models_in(*places: Path) -> tuple[list[Entry], list[ModelError]]:
    """The same for other files and folders."""
    entries: list[Entry] = []
    errors: list[ModelError] = []
    for place in places:
        try:
            found = _files_in(place)
        except ModelError as error:
            errors.append(error)
            continue
        for path in found:
            try:
                entry = Entry(path, read_manifest(path))
            except ModelError as error:
                errors.append(error)
                continue
            # A copy of a known model is that model.
            if all(not _same(entry.manifest, other.manifest) for other in entries):
                entries.append(entry)
    return entries, errors


def _same(a: Manifest, b: Manifest) -> bool:
    return a.name == b.name and a.identity == b.identity


def _files_in(place: Path) -> list[Path]:
    """The model files that a folder or file of the search path stands for."""
    if not os.access(place, os.R_OK):
        raise ModelError(f"{place}: expected a readable {SUFFIX} file or a folder of such")
    if not place.is_dir():
        return [place]
    found = sorted(place.glob(f"*{SUFFIX}"), key=lambda path: path.stem)
    if not found:
        raise ModelError(f"{place}: expected {SUFFIX} files, found none in this folder")
    return found


def open_model(name_or_path: str | Path) -> Model:
    """A model by the name it is known by, or by the path of its file.

    Raises:
        ModelNotFoundError: no model has that name, or several have.
        ModelError: the file cannot be read.
    """
    text = str(name_or_path)
    if Path(text).is_dir():
        return Model(_only_in(Path(text)))
    if isinstance(name_or_path, Path) or text.endswith(SUFFIX) or os.sep in text:
        return Model(Path(text))
    entries, errors = known_models()
    found = [entry for entry in entries if entry.manifest.name == text]
    names = ", ".join(sorted(entry.manifest.name for entry in entries)) or "none"
    return Model(_only(found, f"named {text!r}", errors, f"; known are: {names}").path)


def _only_in(folder: Path) -> Path:
    """The model file of a training run's folder."""
    found = _files_in(folder)
    if len(found) != 1:
        names = ", ".join(path.name for path in found)
        raise ModelNotFoundError(f"{folder}: expected one {SUFFIX} file in it, found {names}")
    return found[0]


def find_by_id(model_id: int) -> Model:
    """The model that a container names. Raises ModelNotFoundError when none or several have the id."""
    entries, errors = known_models()
    codecs = [entry for entry in entries if entry.manifest.kind == CODEC]  # only they write files
    found = [entry for entry in codecs if entry.manifest.id == model_id]
    if len({entry.manifest.identity for entry in found}) == 1:
        found = found[:1]  # one model under several names
    advice = f"; put its {SUFFIX} file on {SEARCH_PATH}, or name it with --model"
    return Model(_only(found, f"of id {model_id:#06x}", errors, advice).path)


def _only(found: list[Entry], what: str, errors: list[ModelError], advice: str) -> Entry:
    if len(found) == 1:
        return found[0]
    if found:
        paths = " and ".join(str(entry.path) for entry in found)
        raise ModelNotFoundError(
            f"ambiguous: more than one model {what}: {paths}; name one by its path with --model"
        )
    unread = f" (not readable: {'; '.join(map(str, errors))})" if errors else ""
    raise ModelNotFoundError(f"there is no model {what}{advice}{unread}")
