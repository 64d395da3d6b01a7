"""Fixtures: a tiny model trained once, made-up images, and the shipped models."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image

from cvae import kinds
from cvae.data.images import as_image
from cvae.models.file import read_manifest

if sys.platform == "linux":  # elsewhere libraries may not like it
    from . import forks
else:
    forks = None

ROOT = Path(__file__).parents[1]


def _digits() -> Path:
    """A folder of the ten digits alone; the photographs beside them are of another model.

    The first process makes it, and those that it starts find it: names of tests hold its path.
    """
    if "CVAE_TEST_SAMPLES" not in os.environ:
        folder = tempfile.mkdtemp(prefix="cvae-samples-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        for digit in (ROOT / "samples").glob("digit_*.png"):
            shutil.copy(digit, folder)
        os.environ["CVAE_TEST_SAMPLES"] = folder
    return Path(os.environ["CVAE_TEST_SAMPLES"])


SAMPLES = _digits()
# The models that are in the wheel.
SHIPPED = sorted(
    Path(source).stem
    for source in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"][
        "targets"
    ]["wheel"]["force-include"]
    if source.endswith(".cvae")
)


def _is_codec(name: str) -> bool:
    return kinds.codes(read_manifest(ROOT / "weights" / f"{name}.cvae"))


CODECS = [name for name in SHIPPED if _is_codec(name)]

# TensorFlow's messages would only hide pytest's.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# As many processes as processors: threads of each would take turns.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")


def blobs(count: int, side: int = 8, seed: int = 0) -> NDArray[np.uint8]:
    """Bright spots on black with two degrees of freedom each: something that four latents can learn."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(side * 0.25, side * 0.75, (count, 2, 1, 1))
    y, x = np.mgrid[:side, :side]
    squared = (y - centres[:, 0]) ** 2 + (x - centres[:, 1]) ** 2
    return np.rint(255 * np.exp(-squared / side))[..., np.newaxis].astype(np.uint8)


def photo(height: int, width: int, channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    """A blurred picture, as smooth as photos are, with a little noise: (h, w, c)."""
    rng = np.random.default_rng(seed)
    cells = rng.integers(0, 256, (6, 5, 3), np.uint8)
    large = Image.fromarray(cells).resize((width, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(large)[..., :channels] + rng.normal(0, 3, (height, width, channels))
    return pixels.round().clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Nobody's own folder: what the tests add, and what a person has added, stay apart."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CVAE_HOME", str(folder))
        yield folder


def shared(folders: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """What `make` writes to a path, once for all processes of a test run."""
    root = folders.getbasetemp()
    path = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "shared" / name
    path.parent.mkdir(exist_ok=True)
    done = path.with_name(f"{name}.done")
    with FileLock(f"{path}.lock"):
        if not done.exists():
            make(path)
            done.touch()
    return path


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An .npz file in the layout of keras.datasets, with 8x8 images."""
    arrays = {"x_train": blobs(400)[..., 0], "x_test": blobs(50, seed=1)[..., 0]}
    return shared(tmp_path_factory, "blobs.npz", lambda path: np.savez(path, **arrays))


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> Path:
    """The folder of a finished run of the tiny preset."""
    return _trained("tiny", tmp_path_factory, tiny_data)


@pytest.fixture(scope="session")
def tiny_model(tiny_run: Path) -> Path:
    """The model file of that run."""
    return tiny_run / "tiny.cvae"


@pytest.fixture(scope="session")
def tiny_hq_model(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> Path:
    """A model of residual networks with more latents than the search takes tangents of."""
    return _trained("tiny-hq", tmp_path_factory, tiny_data) / "tiny-hq.cvae"


@pytest.fixture(scope="session")
def tiny_ae_run(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> Path:
    """A finished run of an autoencoder that was trained on noisy images."""
    return _trained("tiny-ae", tmp_path_factory, tiny_data)


@pytest.fixture(scope="session")
def tiny_vae_run(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> Path:
    """A finished run of a VAE in layers of its own."""
    return _trained("tiny-vae", tmp_path_factory, tiny_data)


@pytest.fixture(scope="session")
def tiny_dae_run(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> Path:
    """A finished run of a denoiser of any size."""
    return _trained("tiny-dae", tmp_path_factory, tiny_data)


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 12 blurred pictures of four sizes, some of them smaller than a crop."""

    def draw(folder: Path) -> None:
        folder.mkdir()
        for number in range(12):
            size = [(150, 200), (90, 70), (50, 80), (100, 280)][number % 4]
            as_image(photo(*size, seed=number)).save(folder / f"{number}.png")

    return shared(tmp_path_factory, "photos", draw)


@pytest.fixture(scope="session")
def tiny_grid_run(tmp_path_factory: pytest.TempPathFactory, photo_folder: Path) -> Path:
    """A finished run of a codec for pictures of any size."""
    return _trained("tiny-grid", tmp_path_factory, photo_folder)


@pytest.fixture(scope="session")
def tiny_lossless_run(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> Path:
    """A finished run of a lossless model of one size."""
    return _trained("tiny-lossless", tmp_path_factory, tiny_data)


@pytest.fixture(scope="session")
def tiny_lossless_any_run(tmp_path_factory: pytest.TempPathFactory, photo_folder: Path) -> Path:
    """A finished run of a lossless model for pictures of any size."""
    return _trained("tiny-lossless-any", tmp_path_factory, photo_folder)


def _trained(preset: str, folders: pytest.TempPathFactory, data: Path) -> Path:
    """A run of the command line in a process of its own: one with TensorFlow could not fork."""

    def train(folder: Path) -> None:
        command = ["train", preset, "--data", data, "--out", folder, "--quiet"]
        run_cvae(*command, module="tests.kept")

    return shared(folders, preset, train)


def killed(run: Path, folder: Path) -> Path:
    """A copy in the folder of one of those runs, as it was after its first epoch."""
    return Path(shutil.copytree(run.with_name(f"{run.name}.killed"), folder / "killed"))


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, and no models but the shipped ones."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CVAE_MODELS", raising=False)
    return tmp_path


def run_cvae(
    *arguments: str | Path,
    stdin: bytes = b"",
    code: int = 0,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    module: str = "cvae",
    **more: Any,
) -> subprocess.CompletedProcess[bytes]:
    """Runs the command line in a process of its own and checks the exit code; `more` goes to `forks.run`."""
    words, whole, timeout = [*map(str, arguments)], {**os.environ, **(env or {})}, 300
    # Of the backends one is loaded.
    if forks is not None and "KERAS_BACKEND" not in (env or {}):
        result = forks.run(module, words, stdin, cwd or Path.cwd(), whole, timeout, **more)
    elif more:
        pytest.skip("needs processes that fork")
    else:
        whole["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
        result = subprocess.run(
            [sys.executable, "-m", module, *words],
            input=stdin, capture_output=True, cwd=cwd, env=whole, timeout=timeout,
        )  # fmt: skip
    assert result.returncode == code, result.stderr.decode()
    assert b"Traceback" not in result.stderr, result.stderr.decode()
    return result


def run_here(*arguments: str | Path, code: int = 0) -> None:
    """Runs the command line in this process, where TensorFlow is loaded but once."""
    from cvae.cli import main

    with pytest.raises(SystemExit) as stop:
        main([*map(str, arguments)])
    assert stop.value.code == code


@pytest.fixture
def digits(workdir: Path) -> np.ndarray:
    """`digits.npz` in the current folder, 80 images in the layout of keras.datasets."""
    pixels = blobs(80, side=28)[..., 0]
    np.savez_compressed("digits.npz", x_train=pixels[:3], x_test=pixels, y_test=np.arange(80))
    return pixels
