"""A disk that is full: one line, exit code 1, and nothing half written.

A limit on the size of files stands for it: writes fail in the same way, for everybody and everywhere.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest

from ..conftest import SAMPLES, run_cvae

pytestmark = pytest.mark.usefixtures("workdir")

DIGIT = str(SAMPLES / "digit_3.png")
REASON = "cannot be written: File too large"


def run_full(
    *arguments: str | Path, limit: int, stdin: bytes = b""
) -> tuple[list[str], subprocess.CompletedProcess[bytes]]:
    """Runs a command that can write files of so many bytes; the lines of its errors, and all of it."""
    found = run_cvae(*arguments, stdin=stdin, code=1, limit=limit)
    stderr = found.stderr.decode()
    assert "Exception ignored" not in stderr
    return [line for line in stderr.splitlines() if line.startswith("cvae: error: ")], found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of coded files, and what else the commands read."""
    folder = tmp_path_factory.mktemp("made")
    images = np.random.default_rng(0).integers(0, 256, (300, 28, 28), np.uint8)
    np.save(folder / "many.npy", images)
    run_cvae("pack", folder / "many.npy", "-o", folder / "many.pack.bin", "--effort", "0")
    run_cvae("encode", DIGIT, "-o", folder / "x.bin")
    return folder


@pytest.fixture
def many(made: Path, workdir: Path) -> None:
    """Those files in the current folder."""
    shutil.copytree(made, workdir, dirs_exist_ok=True)


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (["encode", DIGIT], "digit_3.bin"),
        (["encode", DIGIT, "-o", "x.npy"], "x.npy"),
        (["decode", "x.bin", "-o", "y.png"], "y.png"),
        (["pack", "many.npy", "-o", "y.bin", "--effort", "0"], "y.bin"),
        (["pack", "many.npy", "-o", "packs/", "--effort", "0", "--workers", "1"], "model.cvae"),
        (["unpack", "many.pack.bin", "-o", "y.npz"], "y.npz"),
        (["unpack", "many.pack.bin", "-o", "y.npy"], "y.npy"),
        (["unpack", "many.pack.bin", "-o", "y.tar"], "y.tar"),
        (["unpack", "many.pack.bin", "-o", "y/"], "y/000000.png"),
        (["sample", "-o", "y.png"], "y.png"),
        (["sample", "-o", "y.gif"], "y.gif"),
        (["interpolate", DIGIT, DIGIT, "-o", "y.png"], "y.png"),
        (["denoise", "-m", "fashion-dae", DIGIT, "-o", "y.png"], "y.png"),
        (["eval", DIGIT, "--csv", "y.csv"], "y.csv"),
        (["eval", DIGIT, "--html", "y.html"], "y.html"),
        (["models", "add", "other.cvae"], "tiny.cvae"),
    ],
)
def test_a_full_disk_is_one_line_and_leaves_nothing(
    many: None, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], output: str
) -> None:
    monkeypatch.setenv("CVAE_HOME", str(Path("home").absolute()))
    if arguments[0] == "models":
        shutil.copy(tiny_model, "other.cvae")
    before = sorted(Path().iterdir())
    # Semaphores of processes are files, too.
    (line,), _ = run_full(*arguments, limit=1000 if "--workers" in arguments else 4)
    assert output in line
    assert "File too large" in line
    left = [path for path in sorted(Path().rglob("*")) if path.is_file() and ".cvae-" in path.name]
    assert left == []
    assert [
        path for path in sorted(Path().iterdir()) if path not in before and path.is_file()
    ] == []


def test_a_pack_on_stdin_needs_room_in_the_temporary_folder(many: None) -> None:
    pack = Path("many.pack.bin").read_bytes()
    (line,), _ = run_full("unpack", "-", "-o", "y/", limit=4, stdin=pack)
    assert line == f"cvae: error: {tempfile.gettempdir()}: {REASON}"
    assert not Path("y").exists()
