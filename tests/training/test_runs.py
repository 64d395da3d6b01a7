"""A training run's folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cvae.errors import TrainingError
from cvae.training.runs import Run

DATA = {"train": 1, "sha256": "x"}


@pytest.mark.parametrize(
    "values",
    [
        [],
        {},
        {"preset": [], "seed": 0, "source": "x", "data": DATA},
        {"preset": 5, "seed": 0, "source": "x", "data": DATA},
        {"preset": {}, "seed": 0, "source": "x", "data": DATA},
        {"preset": {"name": "x"}, "seed": None, "source": "x", "data": []},
    ],
)
def test_a_run_that_was_tampered_with_is_refused_by_name(tmp_path: Path, values: object) -> None:
    (tmp_path / "run.json").write_text(json.dumps(values))
    with pytest.raises(TrainingError, match=f"{tmp_path.name}: expected the folder of a training"):
        Run.open(tmp_path)
