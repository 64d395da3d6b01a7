"""A training run's folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cvae.data.reading import Reading
from cvae.errors import TrainingError
from cvae.training.runs import Run

DATA = {"train": 1, "sha256": "x"}
PRESET = {"name": "x", "summary": "x", "dataset": "mnist", "image_shape": [8, 8, 1]}
GOOD = {"preset": PRESET, "seed": 0, "source": "x", "data": DATA}
READING = {"shape": [8, 8, 1], "fit": "crop", "background": "#000000"}


def test_a_run_is_opened_as_it_was_saved(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({**GOOD, "data": {**DATA, "reading": READING}}))
    run = Run.open(tmp_path)
    assert (run.preset.name, run.preset.image_shape, run.begin) == ("x", (8, 8, 1), "")
    assert run.reading == Reading((8, 8, 1), "crop")
    run.save()
    assert Run.open(tmp_path) == run


@pytest.mark.parametrize(
    "values",
    [
        [],
        {},
        {"preset": [], "seed": 0, "source": "x", "data": DATA},
        {"preset": 5, "seed": 0, "source": "x", "data": DATA},
        {"preset": {}, "seed": 0, "source": "x", "data": DATA},
        {"preset": {"name": "x"}, "seed": None, "source": "x", "data": []},
        *({**GOOD, name: None} for name in GOOD),
        *({**GOOD, "preset": {**PRESET, name: None}} for name in PRESET),
        {**GOOD, "preset": {**PRESET, "later": 1}},
        {**GOOD, "preset": {**PRESET, "learning_rate": "1"}},
        {**GOOD, "preset": {**PRESET, "augment": ["turn"]}},
        {**GOOD, "begin": 3},
        {**GOOD, "source": "a\0b"},
        {**GOOD, "data": {**DATA, "train": "1"}},
        {**GOOD, "data": {**DATA, "sha256": 1}},
        {**GOOD, "data": {**DATA, "reading": {**READING, "fit": "x"}}},
        {**GOOD, "data": {**DATA, "reading": None}},
    ],
)
def test_a_run_that_was_tampered_with_is_refused_by_name(tmp_path: Path, values: object) -> None:
    (tmp_path / "run.json").write_text(json.dumps(values))
    with pytest.raises(TrainingError, match=f"{tmp_path.name}: expected the folder of a training"):
        Run.open(tmp_path)
