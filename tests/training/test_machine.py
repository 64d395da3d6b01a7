"""What training does to the machine beside its run's folder, and what a full disk does to training."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("keras")

from ..cli.test_full_disk import REASON, run_full
from ..conftest import blobs
from ..test_effects import below, environment, place, run, strays, traced  # noqa: F401

pytestmark = pytest.mark.skipif(
    os.name != "posix", reason="home folders, limits and tracers of POSIX"
)

SHORT = ["--epochs", "1", "--quiet"]


def test_a_checkpoint_that_finds_no_room_is_one_line(workdir: Path, tiny_data: Path) -> None:
    lines, _ = run_full("train", "tiny", "--data", tiny_data, "--out", "run", *SHORT, limit=20_000)
    assert lines == [f"cvae: error: run/checkpoint.weights.h5: {REASON}"]
    assert sorted(path.name for path in Path("run").iterdir()) == ["history.csv", "run.json"]


@pytest.mark.parametrize(("limit", "name"), [(100, "run.json"), (5_000, "linear.npz")])
def test_what_comes_before_a_checkpoint_is_one_line_too(
    workdir: Path, limit: int, name: str
) -> None:
    np.savez("digits.npz", x_train=blobs(200, side=28)[..., 0])
    lines, _ = run_full(
        "train", "linear-mnist", "--data", "digits.npz", "--out", "run", limit=limit
    )
    assert lines == [f"cvae: error: run/{name}: {REASON}"]


@pytest.mark.parametrize(("limit", "name"), [(20_000, "tiny.cvae"), (50_000, "curves.png")])
def test_an_export_that_finds_no_room_is_one_line(
    workdir: Path, tiny_run: Path, limit: int, name: str
) -> None:
    shutil.copytree(tiny_run, "run")
    for path in [*Path("run").glob("*.cvae"), *Path("run").glob("*.png")]:
        path.unlink()
    (line,), _ = run_full("export", "run", limit=limit)
    assert line.endswith(REASON)
    assert name in line or "draft.cvae" in line


@pytest.mark.slow
def test_training_leaves_the_home_folder_empty_and_stays_on_this_machine(
    place: Path,  # noqa: F811
    tiny_data: Path,
) -> None:
    calls = traced(["train", "tiny", "--data", str(tiny_data), "--out", "run", *SHORT], place)
    # A package of TensorFlow's asks the kernel for IPv6, with a socket that it closes again.
    harmless = re.compile(r"\d+ +(socket\(AF_INET6|bind\(.*::1)")
    assert [call for call in strays(calls, place) if not harmless.match(call)] == []
    assert below(place / "home") == below(place / "tmp") == []


@pytest.mark.slow
def test_training_needs_no_home_folder(place: Path, tiny_data: Path) -> None:  # noqa: F811
    home = place / "closed"
    home.mkdir()
    home.chmod(0o000)
    shared = Path("/tmp/.keras")
    before = shared.exists()
    command = ["train", "tiny", "--data", str(tiny_data), "--out", "run", *SHORT]
    assert run(command, place, home, plain=True).stderr == b""
    home.chmod(0o755)
    assert shared.exists() == before


@pytest.mark.slow
def test_keras_finds_its_settings_in_the_home_folder(tmp_path: Path) -> None:
    code = (
        "from cvae.training import backend; backend.load_keras(); import keras\n"
        "print(keras.config.epsilon())"
    )
    (tmp_path / ".keras").mkdir()
    (tmp_path / ".keras/keras.json").write_text('{"epsilon": 1e-3}')
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment(tmp_path), capture_output=True, check=True)
    assert done.stdout.split() == [b"0.001"]
    assert below(tmp_path) == [".keras", ".keras/keras.json"]


def test_keras_keeps_its_downloads_in_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from keras.src.backend import config

    from cvae.training import backend

    monkeypatch.setattr(config, "_KERAS_DIR", "elsewhere")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KERAS_HOME", raising=False)
    backend.downloading()
    assert config.keras_home() == str(tmp_path / ".keras")
    assert below(tmp_path) == [".keras"]


def test_training_under_a_shell_that_ignores_ctrl_c_goes_on() -> None:
    from cvae.training.interrupts import Interrupts

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupts():
            assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
