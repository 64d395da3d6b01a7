"""A folder that runs as a hosted Space: the page, what it needs, and the package itself.

The package is copied, models included: nobody has to have published it, and the page keeps its version.
"""

from __future__ import annotations

import shutil
from importlib import metadata
from pathlib import Path

import cvae
from cvae.data import files
from cvae.demo import work
from cvae.errors import CvaeError
from cvae.models import registry

_APP = '''"""Serves the page of cvae."""

import os
import time
from pathlib import Path

from cvae.demo import server

HOST = os.environ.get("GRADIO_SERVER_NAME", "0.0.0.0")
PORT = int(os.environ.get("GRADIO_SERVER_PORT", "7860"))
MODEL = {model}

if __name__ == "__main__":
    with server.running(HOST, PORT, MODEL):
        while True:
            time.sleep(3600)
'''

_CARD = """---
title: cvae
emoji: 🗜️
colorFrom: blue
colorTo: gray
sdk: gradio
sdk_version: {gradio}
python_version: "3.11"
app_file: app.py
license: mit
short_description: A neural image codec, a digit in a dozen bytes
---

# cvae

A neural image codec: code a picture and see the file, move latents, take noise away, draw pictures.
`python app.py` serves the page, after `pip install -r requirements.txt`. Made by `cvae demo --space`,
version {version}. What visitors upload is deleted after ten minutes.
"""


def write(folder: Path, model: str) -> None:
    """Writes the folder, which appears when it is whole.

    `model` is chosen at first; one that is not shipped goes with it. Raises OutputError when the
    folder exists, ModelError when there is no such model.
    """
    needed = _requirements()
    own = None if model == work.AUTOMATIC else work.codec_of(model).model
    named = "server.work.AUTOMATIC" if own is None else repr(own.manifest.name)
    with files.atomic_folder(folder) as made:
        package = made / "cvae"
        shutil.copytree(
            Path(cvae.__file__).parent,
            package,
            ignore=shutil.ignore_patterns("__pycache__", "*.pyc"),
        )
        weights = package / "weights"
        if not weights.is_dir():
            shutil.copytree(registry.shipped_folder(), weights)
        samples = package / "demo" / "samples"
        if not samples.is_dir():
            shutil.copytree(work.samples_folder(), samples, ignore=_all_but_pictures)
        if own is not None and own.path.parent != registry.shipped_folder():
            shutil.copyfile(own.path, weights / own.path.name)
        (made / "app.py").write_text(_APP.format(model=named))
        (made / "requirements.txt").write_text("\n".join(needed) + "\n")
        card = _CARD.format(gradio=_gradio(needed), version=cvae.__version__)
        (made / "README.md").write_text(card, encoding="utf-8")


def _all_but_pictures(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if not name.endswith(".png")]


def _requirements() -> list[str]:
    """What the package needs, and the page. Raises CvaeError where its metadata is missing."""
    try:
        said = metadata.requires("cvae") or []
    except metadata.PackageNotFoundError as error:
        raise CvaeError("cvae is not installed, so that nobody knows what it needs") from error
    kept = []
    for line in said:
        requirement, _, marker = line.partition(";")
        extra = marker.partition("extra ==")[2].strip(" '\"")
        if extra in ("", "demo"):
            kept.append(requirement.strip())
    return kept


def _gradio(needed: list[str]) -> str:
    """The version that is here, else the least that is asked for."""
    try:
        return metadata.version("gradio")
    except metadata.PackageNotFoundError:
        (line,) = (line for line in needed if line.startswith("gradio"))
        return line.partition(">=")[2].partition(",")[0] or line
