"""`benchmarks/photos.py`: a folder of photos put apart for training and testing."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from cvae.errors import DataError, OutputError

from ..conftest import ROOT


@pytest.fixture
def photos() -> ModuleType:
    spec = importlib.util.spec_from_file_location("photos", ROOT / "benchmarks" / "photos.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(10):
        path = tmp_path / "in" / str(number % 2) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (3, 3), number).save(path)
    return tmp_path / "in"


def test_of_ten_photos_seven_train_one_validates_and_two_test(
    photos: ModuleType, folder: Path, tmp_path: Path
) -> None:
    photos.split(folder, tmp_path / "out")
    counts = {
        part: len([*(tmp_path / "out" / part).iterdir()]) for part in ("train", "val", "test")
    }
    assert counts == {"train": 7, "val": 1, "test": 2}
    with pytest.raises(OutputError, match="exists already"):
        photos.split(folder, tmp_path / "out")


@pytest.mark.parametrize("name", ["0.png", "0.PNG"])
def test_photos_of_one_name_are_refused_and_not_lost(
    photos: ModuleType, folder: Path, tmp_path: Path, name: str
) -> None:
    shutil.copy(folder / "1" / "1.png", folder / "1" / name)
    with pytest.raises(
        DataError, match=rf"1.{name}: expected .* different names, found .*0.0\.png"
    ):
        photos.split(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_interrupted_split_leaves_nothing_that_looks_complete(
    photos: ModuleType, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*paths: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "copy2", interrupted)
    with pytest.raises(KeyboardInterrupt):
        photos.split(folder, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
