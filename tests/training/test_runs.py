"""A training run's folder."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from cvae.data.reading import Reading
from cvae.errors import TrainingError
from cvae.training.presets import TINY
from cvae.training.runs import Run, default_folder

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
    ("before", "now", "longer"),
    [
        ({"epochs": 5}, {"epochs": 6}, True),
        ({"epochs": 5}, {"epochs": 5}, False),
        ({"epochs": 5}, {"epochs": 4}, False),
        ({"minutes": 5.0}, {"minutes": 6.0}, True),
        ({"minutes": 5.0}, {"minutes": 5.0, "epochs": 99}, False),
        ({"epochs": 5}, {"minutes": 60.0}, False),
        ({"minutes": 5.0}, {"epochs": 99}, False),
    ],
)
def test_a_run_is_longer_with_more_of_the_same_limit(
    before: dict[str, float], now: dict[str, float], longer: bool
) -> None:
    ours, theirs = (
        Run(Path("run"), replace(TINY, **limit), 0, "x", DATA)  # type: ignore[arg-type]
        for limit in (now, before)
    )
    assert ours.is_longer(theirs) is longer


def test_a_run_without_a_folder_of_its_own_gets_a_free_one(workdir: Path) -> None:
    folders = [Path("runs/mnist"), Path("runs/mnist-2"), Path("runs/mnist-3")]
    assert [default_folder("mnist", again) for again in (False, True)] == [folders[0]] * 2
    for folder, free in pairwise(folders):
        folder.mkdir(parents=True)
        (folder / "run.json").touch()  # a failure before the first epoch is in nobody's way
        assert default_folder("mnist", again=False) == folder
        (folder / "history.csv").touch()
        assert default_folder("mnist", again=False) == free
        assert default_folder("mnist", again=True) == folder  # the last that has begun


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
