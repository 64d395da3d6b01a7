"""What is asked of many workers: options, and addresses of schedulers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cvae.data import places
from cvae.errors import (
    ClusterError,
    MissingExtraError,
)
from cvae.packs import executors

from ...conftest import run_here
from .conftest import FAST, errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", "1", "--scheduler", "tcp://x:1", "-o", "out"], "choose one"),
        (["--workers", "1"], "needs a name: -o DIR"),
        (["--workers", "1", "-o", "out.bin"], "put a / behind it"),
        (["--workers", "1", "-o", "out", "--resume", "--force"], "choose one"),
        (["--workers", "1", "-o", "-"], "needs a name: -o DIR"),
    ],
)
def test_options_that_contradict_each_other(
    made: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_here("pack", made / "x.npy", *arguments, code=2)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "address",
    ["banana", "127.0.0.1", "tcp://", "tcp://:8786", "http://127.0.0.1:8786", "x:99999", "", "inproc://1/2"],
)  # fmt: skip
def test_what_is_no_address_is_wrong_usage(
    made: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("distributed")
    run_here("pack", made / "x.npy", "-o", "out", "--scheduler", address, code=2)
    assert f"--scheduler {address}: expected tcp://HOST:PORT" in capsys.readouterr().err
    assert not Path("out").exists()


@pytest.mark.parametrize("address", ["tls://x:1", "ws://x:1", "ucx://x:1", "x:1", "tcp://[::1]:1"])
def test_every_protocol_of_dask_is_an_address(address: str) -> None:
    pytest.importorskip("distributed")
    assert executors.is_address(address)


def test_a_protocol_without_its_keys_is_an_error() -> None:
    pytest.importorskip("distributed")
    with (
        pytest.raises(ClusterError, match=r"tls://x:9: expected .* no keys"),
        executors.open_executor(scheduler="tls://x:9"),
    ):
        pass


def test_a_scheduler_that_is_not_there_is_an_error(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(executors, "_ANSWER", "1s")
    run_here("pack", made / "x.npy", "-o", "out", "--scheduler", "tcp://127.0.0.1:9", code=1)
    assert "tcp://127.0.0.1:9: expected a Dask scheduler" in errors(capsys)[0]
    assert not Path("out").exists()


def test_processes_need_no_extra_and_a_scheduler_names_it(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("dask", "distributed", "fsspec", "fsspec.core"):
        monkeypatch.setitem(sys.modules, name, None)
    run_here("pack", made / "few.npy", "-o", "out", "--workers", "1", *FAST)
    with (
        pytest.raises(MissingExtraError, match=r"cvae\[cluster\]"),
        executors.open_executor(scheduler="tcp://x:1"),
    ):
        pass
    with pytest.raises(MissingExtraError, match="fsspec is not installed"):
        places.locate("s3://bucket/in").is_folder()
