"""The wheel by itself, in an empty environment outside of the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from .conftest import ROOT, SAMPLES, SHIPPED


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", folder, ROOT],
        check=True,
        capture_output=True,
    )
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_the_package_and_the_shipped_models_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    models = sorted(name for name in names if name.endswith(".cvae"))
    assert models == sorted(f"cvae/weights/{name}.cvae" for name in SHIPPED)
    assert "cvae/py.typed" in names
    assert all(name.startswith(("cvae/", "cvae-")) for name in names)
    sizes = [info.file_size for info in zipfile.ZipFile(wheel).infolist()]
    assert max(sizes) < 8_000_000
    weights = [i.file_size for i in zipfile.ZipFile(wheel).infolist() if "/weights/" in i.filename]
    assert sum(weights) < 56_000_000


@pytest.mark.slow
def test_it_encodes_and_decodes_where_there_is_nothing_else(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env")
    binaries = tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin")
    pip = [sys.executable, "-m", "pip", "--python", tmp_path / "env"]
    install = [*pip, "install", "-q", "--no-compile", wheel]
    subprocess.run(install, check=True, capture_output=True)
    work = tmp_path / "work"
    work.mkdir()

    def cvae(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [binaries / "cvae", *arguments], cwd=work, capture_output=True, text=True
        )

    assert cvae("encode", SAMPLES / "digit_3.png").returncode == 0
    assert cvae("decode", "digit_3.bin").returncode == 0
    assert (work / "digit_3_reconstructed.png").exists()
    refused = cvae("train", "mnist")
    assert refused.returncode == 1
    assert len(refused.stderr.splitlines()) == 1
    assert "cvae[train]" in refused.stderr
