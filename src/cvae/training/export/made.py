"""What a model file is written from, an earlier one of the same weights, and what graphs must reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cvae.errors import ModelError, TrainingError
from cvae.models import registry
from cvae.models.file import AnyTables, Manifest, Model
from cvae.training.export.graph import Floats
from cvae.training.export.naming import WEIGHTS
from cvae.training.runs import Run

Say = Callable[[str], None]  # gets a line on each step of an export, before it is taken


@dataclass(frozen=True)
class Made:
    """What a model file is written from, besides its run."""

    graphs: dict[str, bytes]  # by member
    qualities: AnyTables | None
    weights_hash: str
    previous: Model | None  # an earlier export, whose id and name stay
    fields: dict[str, Any]  # of the manifest
    measure: Callable[[Model], Manifest]  # the written model -> its manifest with figures


def previous(
    run: Run, weights_hash: str, alike: Callable[[Model], bool] = lambda model: True
) -> Model | None:
    """An earlier export in the run's folder of weights with this sha256, whose id and tables stay.

    `alike` says whether the new graphs decode the files of that model to the same pictures.
    """
    for path in registry.models_below(run.folder):
        try:
            model = Model(path)
            if model.manifest.hashes.get(WEIGHTS) == weights_hash and alike(model):
                return model
        except ModelError:
            continue  # damaged: it is made anew
    return None


def levels_apart(a: Floats, b: Floats) -> int:
    """The largest difference between images in [0, 1], in levels of 8 bits."""
    return int(np.abs(np.rint(a * 255) - np.rint(b * 255)).max())


def check_pixels(what: str, found: Floats, expected: Floats) -> None:
    """Raises TrainingError where images differ by more than one level from the trained network's."""
    apart = levels_apart(found, expected)
    if apart > 1:
        raise TrainingError(f"the exported {what} differs by {apart} levels, expected at most 1")
