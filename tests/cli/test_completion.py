"""What shells complete, and help on commands."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cvae import __version__
from cvae.cli import COMMANDS

from ..conftest import ROOT, run_cvae


@pytest.fixture(autouse=True)
def _in_an_empty_folder(workdir: object) -> None:
    pass


def completed(*words: str) -> list[str]:
    """What bash is told of the last of the words behind `cvae`: a kind and a value a line."""
    env = {
        "_CVAE_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(("cvae", *words)),
        "COMP_CWORD": str(len(words)),
    }
    return run_cvae(env=env).stdout.decode().split()


def test_names_of_files_are_left_to_the_shell() -> None:
    for words in (("encode", "dig"), ("unpack", "x"), ("train", "mnist", "--data", "x")):
        assert completed(*words) == [f"file,{words[-1]}"]
    assert completed("models", "add", "x") == ["file,x"]
    assert completed("encode", "a.png", "-o", "b") == ["file,b"]


def test_models_are_named_wherever_they_can_be_typed() -> None:
    for words in (
        ("encode", "--model", "=", "photo-"), ("encode", "a.png", "--model", "photo-"), ("info", "photo-"),
    ):  # fmt: skip
        assert completed(*words) == ["file,photo-", "plain,photo-dae"]
    assert completed("encode", "-mphoto-") == ["file,-mphoto-", "plain,-mphoto-dae"]
    assert {"plain,photo", "plain,mnist"} < {*completed("encode", "--model", "=")}
    assert completed("encode", "-m") == ["plain,-m"]
    assert completed("info", "-mphoto-") == []  # which has no such option


def test_files_stand_beside_models_of_the_same_beginning(workdir: Path) -> None:
    (workdir / "photo-x.bin").touch()
    assert completed("info", "photo-") == [
        "file,photo-", "plain,photo-dae", "plain,photo-x.bin",
    ]  # fmt: skip
    assert completed("train", "photo", "--fine-tune", "photo-d") == [
        "file,photo-d", "plain,photo-dae",
    ]  # fmt: skip


def test_codecs_of_a_comparison_are_named() -> None:
    assert completed("eval", "x.npz", "--against", "jp") == ["plain,jpeg", "plain,jpeg2000"]
    assert completed("eval", "x.npz", "--against", "png,webp,l") == [
        "plain,png,webp,linear", "plain,png,webp,lzma",
    ]  # fmt: skip
    assert completed("eval", "x.npz", "--against", "webp,w") == []


def test_only_models_that_were_added_are_offered_for_removal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CVAE_HOME", str(tmp_path))
    assert completed("models", "remove", "") == []
    (tmp_path / "models").mkdir()
    shutil.copy(ROOT / "weights/linear-mnist.cvae", tmp_path / "models/mine.cvae")
    assert completed("models", "remove", "m") == ["plain,mine"]


def test_models_presets_and_commands_are_named() -> None:
    assert completed("encode", "-m", "linear-") == [
        "file,linear-", "plain,linear-cifar", "plain,linear-fashion", "plain,linear-mnist",
    ]  # fmt: skip
    assert completed("train", "t") == ["plain,tiles"]
    assert completed("help", "ver") == ["plain,verify", "plain,version"]
    assert completed("encode", "--skip") == ["plain,--skip-existing"]


def test_presets_for_tests_are_named_in_no_error() -> None:
    said = run_cvae("train", "tinyx", code=2).stderr.decode()
    assert "'own-grey'" in said
    assert "'tiny" not in said.replace("'tinyx'", "")


def test_help_and_version_are_commands_too() -> None:
    for words in (["encode"], ["models", "add"]):
        expected = run_cvae(*words, "-h").stdout
        assert run_cvae("help", *words).stdout == expected
    assert all(name in run_cvae("help").stdout.decode() for name in COMMANDS)
    assert b"No such command 'nosuch'" in run_cvae("help", "nosuch", code=2).stderr
    assert run_cvae("version").stdout.decode() == f"cvae, version {__version__}\n"
    assert run_cvae("--version").stdout == run_cvae("version").stdout
