"""Which models there are: shipped ones, those in `CVAE_MODELS` and added ones, by name or by id."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from cvae.data import files
from cvae.errors import ModelError, ModelNotFoundError, OutputError, translated
from cvae.models.file import SUFFIX, Manifest, Model, is_name, read_manifest

DEFAULT = "mnist"
SEARCH_PATH = "CVAE_MODELS"
HOME = "CVAE_HOME"


class Entry(NamedTuple):
    """A model file on the search path."""

    path: Path
    manifest: Manifest


def shipped_folder() -> Path:
    """`weights/` inside the installed package, or at the top of a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "weights"
    return inside if inside.is_dir() else package.parents[1] / "weights"


def added_folder() -> Path:
    """`models/` in `CVAE_HOME` or in this user's folder for data; it need not exist."""
    # As platformdirs has it, whose import takes 10 ms.
    if home := os.environ.get(HOME):
        return Path(home) / "models"
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", "~/AppData/Local")
    elif sys.platform == "darwin":
        base = "~/Library/Application Support"
    else:
        base = os.environ.get("XDG_DATA_HOME", "")
        base = base if base.startswith("/") else "~/.local/share"  # as its specification says
    # Where there is no home, this stays a relative path; Path.expanduser raises.
    return Path(os.path.expanduser(base)) / "cvae" / "models"  # noqa: PTH111


def search_path() -> list[Path]:
    """The shipped models, `CVAE_MODELS` (like `PATH`), then the added models."""
    extra = os.environ.get(SEARCH_PATH, "").split(os.pathsep)
    return [shipped_folder(), *map(Path, filter(None, extra)), *_added()]


def _added() -> list[Path]:
    try:
        return models_below(added_folder())
    except OSError:  # a home folder of somebody else
        return []


def known_models() -> tuple[list[Entry], list[ModelError]]:
    """Every model on the search path once, and the errors of files that cannot be read."""
    return models_in(*search_path())


def models_in(*places: Path) -> tuple[list[Entry], list[ModelError]]:
    """The same for other files and folders."""
    entries: dict[tuple[object, ...], Entry] = {}
    errors: list[ModelError] = []
    for place in places:
        try:
            paths = _files_in(place)
        except ModelError as error:
            errors.append(error)
            continue
        for path in paths:
            try:
                manifest = read_manifest(path)
            except ModelError as error:
                errors.append(error)
                continue
            # A copy of a known model is that model.
            entries.setdefault((manifest.name, manifest.identity), Entry(path, manifest))
    return list(entries.values()), errors


def _files_in(place: Path) -> list[Path]:
    """The model files that a folder or file of the search path stands for."""
    if not os.access(place, os.R_OK):
        raise ModelError(f"expected a readable {SUFFIX} file or a folder of such", where=place)
    if not place.is_dir():
        return [place]
    if found := models_below(place):
        return found
    raise ModelError(f"expected {SUFFIX} files, found none in this folder", where=place)


def models_below(folder: Path) -> list[Path]:
    """The model files in a folder, which need not exist. Hidden files are half written."""
    return sorted(folder.glob(f"[!.]*{SUFFIX}"), key=lambda path: path.stem)


def open_model(name_or_path: str | Path) -> Model:
    """A model by its name, or by the path of its file or folder.

    A name is that of a model, too, where a folder of pictures has the same.

    Raises:
        ModelNotFoundError: no model has that name, or several have.
        ModelError: the file cannot be read.
    """
    path, text = files.as_path(name_or_path, ModelNotFoundError), str(name_or_path)
    is_folder = os.path.isdir(path)  # noqa: PTH112  # which never raises, however long the name is
    is_path = isinstance(name_or_path, Path) or text.endswith(SUFFIX) or os.sep in text
    if is_folder and (is_path or _has_models(path)):
        return Model(_only_in(path))
    if is_path:
        return Model(path)
    entries, errors = known_models()
    found = [entry for entry in entries if entry.manifest.name == text]
    if is_folder and not found:
        return Model(_only_in(path))  # says what it lacks
    names = ", ".join(sorted(entry.manifest.name for entry in entries)) or "none"
    return _only(found, f"named {text!r}", errors, f"; known are: {names}")


def _has_models(folder: Path) -> bool:
    """Whether a folder has a model file, or is that of a training run."""
    from cvae.data.contents import RUN

    return (folder / RUN).exists() or bool(models_below(folder))


def _only_in(folder: Path) -> Path:
    """The one model file of a folder; the newest of a training run's."""
    from cvae.data.contents import RUN

    is_run = (folder / RUN).exists()
    if is_run and not models_below(folder):
        text = f"expected a {SUFFIX} file, found a training run without one"
        advice = f"`cvae export {folder}` makes one of the finished epochs"
        raise ModelNotFoundError(text, where=folder, advice=advice)
    found = _files_in(folder)
    if len(found) == 1:
        return found[0]
    if is_run:  # one that was started anew keeps the model of the one before, which files may name
        return max(found, key=lambda path: path.stat().st_mtime_ns)
    names = ", ".join(path.name for path in found)
    raise ModelNotFoundError(f"expected one {SUFFIX} file in it, found {names}", where=folder)


def find_by_id(model_id: int, codes: Callable[[Manifest], bool]) -> Model:
    """The model that a container names, of those that write files: others may share an id.

    Raises ModelNotFoundError when none or several have the id.
    """
    entries, errors = known_models()
    found = [entry for entry in entries if entry.manifest.id == model_id and codes(entry.manifest)]
    if len({entry.manifest.identity for entry in found}) == 1:
        found = found[:1]  # one model under several names
    advice = f"`cvae models add` its {SUFFIX} file, put it on {SEARCH_PATH}, or name it, model=FILE"
    return _only(found, f"of id {model_id:#06x}", errors, advice=advice)


def _only(
    found: list[Entry], what: str, errors: list[ModelError], known: str = "", advice: str = ""
) -> Model:
    if len(found) == 1:
        return Model(found[0].path)
    if found:
        text = f"ambiguous: more than one model {what}: {' and '.join(str(e.path) for e in found)}"
        raise ModelNotFoundError(text, advice="name one by its path, model=FILE")
    unread = f" (not readable: {'; '.join(map(str, errors))})" if errors else ""
    raise ModelNotFoundError(f"there is no model {what}{known}{unread}", advice=advice)


def add(source: Path, check: Callable[[Model], None], force: bool = False) -> Entry:
    """Copies a model file, or that of a training run's folder, to where every command finds it.

    `check` raises ModelError when a member is damaged.

    Raises:
        ModelError: the file is damaged, or another known model has its id or its name.
        OutputError: a model of that name was added before and `force` is off, or it cannot be written.
    """
    import shutil

    model = open_model(source)
    target = added_folder() / f"{model.manifest.name}{SUFFIX}"
    files.check_writable(target, force)
    check(model)
    for entry in known_models()[0]:
        if entry.path != target:
            _check_apart(model, entry)
    with files.atomic_path(target, force) as temporary:
        shutil.copyfile(model.path, temporary)
    return Entry(target, model.manifest)


def _check_apart(model: Model, known: Entry) -> None:
    """Raises ModelError when a model could not be told from a known one, or is a shipped one."""
    new, old = model.manifest, known.manifest
    same = new.identity == old.identity
    if same and new.name == old.name:
        if known.path.parent == shipped_folder():
            text = f"is the shipped model {old.name}, which is found anyway"
            raise ModelError(text, where=model.path)
    elif not same and new.id == old.id:
        text = f"its id {new.id:#06x} is that of another model, {old.name} ({known.path})"
        raise ModelError(f"{text}: their files could not be told apart", where=model.path)
    elif new.name == old.name:
        text = f"another model is named {old.name} already, {known.path}"
        advice = "`cvae export --name` gives another name"
        raise ModelError(text, where=model.path, advice=advice)


def remove(name: str) -> Path:
    """Deletes an added model by its file's name; the path it had.

    Raises ModelNotFoundError when there is none, OutputError when it cannot be deleted.
    """
    path = added_folder() / f"{name}{SUFFIX}"
    if not is_name(name) or not os.path.lexists(path):
        places = [str(entry.path) for entry in known_models()[0] if entry.manifest.name == name]
        found = f"; {' and '.join(places)} was not added by it" if places else ""
        raise ModelNotFoundError(f"`cvae models add` has added no model named {name!r}{found}")
    with translated(OutputError, "cannot be deleted", path):
        path.unlink()
    return path
