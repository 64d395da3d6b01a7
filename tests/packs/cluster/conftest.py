"""Folders of packs, a Dask scheduler with two workers, and an S3 server."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import cvae
from cvae.data import places
from cvae.data.places import Place
from cvae.options import EncodeOptions
from cvae.packs.run import Job

from ...conftest import blobs, run_cvae, run_here

MODEL = ["-m", "linear-mnist"]
# A search that takes long enough to be in the middle of it.
SLOW = [*MODEL, "--effort", "9", "--shard-images", "10", "--quiet"]
FAST = [*MODEL, "--effort", "0", "--shard-images", "40", "--quiet"]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(workdir: Path) -> None:
    pass


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    """Until a process has written a file."""
    wait_until(lambda: path.exists() or process.poll() is not None)
    assert process.poll() is None, process.communicate()


@pytest.fixture(scope="package")
def s3() -> Iterator[str]:
    """The address of an S3 server of this process, which workers find as well; empty without moto."""
    try:
        from moto.server import ThreadedMotoServer
    except ImportError:
        yield ""
        return
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    settings = {
        "AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        yield address
    server.stop()


@pytest.fixture
def bucket(s3: str) -> str:
    """The URL of an empty bucket."""
    s3fs = pytest.importorskip("s3fs")
    if not s3:
        pytest.skip("needs moto")
    name = f"b{time.monotonic_ns()}"
    s3fs.S3FileSystem().mkdir(name)
    return f"s3://{name}"


@pytest.fixture(scope="package")
def scheduler(tmp_path_factory: pytest.TempPathFactory, s3: str) -> Iterator[str]:
    """The address of a scheduler with two workers, each a process of its own."""
    pytest.importorskip("distributed")
    folder = tmp_path_factory.mktemp("dask")
    where = folder / "scheduler.json"
    common = ["--scheduler-file", str(where), "--host", "127.0.0.1", "--no-dashboard"]

    def start(role: str, *arguments: str) -> subprocess.Popen[bytes]:
        code = f"from distributed.cli.dask_{role} import main; main()"
        command = [sys.executable, "-c", code, *common, *arguments]
        quiet = subprocess.DEVNULL
        return subprocess.Popen(command, cwd=folder, stdout=quiet, stderr=quiet)

    worker = ["--no-nanny", "--nthreads", "1", "--local-directory", str(folder)]
    # Workers wait for the file in which the scheduler says where it is.
    processes = [start("scheduler", "--port", "0", "--dashboard-address", "127.0.0.1:0")]
    try:
        wait_for(where, processes[0])
        processes += [start("worker", *worker, "--name", name) for name in "ab"]
        yield json.loads(where.read_text())["address"]
    finally:
        for process in reversed(processes):
            process.kill()
            process.wait()


@pytest.fixture(scope="package")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `x.npy`, 150 images, `few.npy`, 100, and `out`, what two processes made of `x`."""
    folder = tmp_path_factory.mktemp("made")
    np.save(folder / "x.npy", blobs(150, side=28))
    np.save(folder / "few.npy", blobs(100, side=28))
    run_here("pack", folder / "x.npy", "-o", folder / "out", "--workers", "2", *FAST)
    return folder


@pytest.fixture(scope="package")
def undisturbed(made: Path) -> dict[str, bytes]:
    """What one process makes of the few images with a long search."""
    result = run_cvae("pack", "few.npy", "-o", "slow", "--workers", "1", *SLOW, cwd=made)
    assert result.stderr == b""
    return contents(made / "slow")


@pytest.fixture
def out(made: Path) -> Path:
    """A copy of that folder of packs in the current folder."""
    return Path(shutil.copytree(made / "out", "out"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def model() -> bytes:
    """The file of the model that jobs are for."""
    return cvae.open_model("linear-mnist").model.path.read_bytes()


def job(folder: Place | Path, **changes: object) -> Job:
    settings = {
        "folder": places.locate(folder), "options": EncodeOptions(quality=50, effort=0),
        "request": {"quality": 50},
    }  # fmt: skip
    return Job(**{**settings, **changes})  # type: ignore[arg-type]


def errors(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if "error" in line]
