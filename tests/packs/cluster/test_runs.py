"""Many workers, one folder of packs: what they write, and what survives them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cvae
from cvae.data import places as storage
from cvae.errors import ClusterError, FormatError, MissingExtraError
from cvae.packs import executors as schedulers
from cvae.packs import folder as sharded
from cvae.packs import run as cluster
from cvae.packs import shards as worklist
from cvae.packs.run import Failure

from ...conftest import blobs, run_here
from .conftest import FAST, MODEL, SLOW, contents, errors, job, wait_for, wait_until

pytest.importorskip("distributed")


def alive(group: int) -> bool:
    """Whether a process is left of a group."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_killed_worker_costs_nothing_but_time(
    made: Path, scheduler: str, undisturbed: dict[str, bytes]
) -> None:
    from distributed import Client

    run = subprocess.Popen(
        [sys.executable, "-m", "cvae", "encode", str(made / "few.npy"), "-o", "out",
         "--scheduler", scheduler, *SLOW],
        stderr=subprocess.PIPE,
    )  # fmt: skip
    with Client(scheduler, timeout="60s", set_as_default=False) as client:
        workers = client.run(os.getpid)
        assert len(workers) == 2
        wait_until(lambda: any(Path("out").glob("part-*.bin")))
        busy = client.processing()
        victim = next(address for address, tasks in busy.items() if tasks)
        os.kill(workers[victim], signal.SIGKILL)
        _, stderr = run.communicate(timeout=180)
        # It was a worker that died; the scheduler may hear of it after the run has ended.
        wait_until(lambda: len(client.nthreads()) == 1)
    assert (run.returncode, stderr) == (0, b"")
    # Not even what the worker had begun is left.
    assert contents(Path("out")) == undisturbed


def test_an_interrupted_run_is_resumed_and_whole_packs_stay(
    made: Path, out: Path, scheduler: str
) -> None:
    expected = contents(out)
    times = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    data = bytearray(expected["part-00002.bin"])
    data[60] ^= 1
    (out / "part-00002.bin").write_bytes(data)
    (out / "part-00003.bin").unlink()
    run_here("encode", made / "x.npy", "-o", out, "--scheduler", scheduler, *FAST, "--resume")
    assert contents(out) == expected
    kept = [name for name, at in times.items() if (out / name).stat().st_mtime_ns == at]
    assert sorted(kept) == ["part-00000.bin", "part-00001.bin"]


def test_a_folder_that_is_not_empty_is_refused(
    made: Path, out: Path, scheduler: str, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = contents(out)
    command = ["encode", made / "x.npy", "-o", out, "--scheduler", scheduler]
    run_here(*command, *FAST, code=1)
    assert "is not empty; --resume" in errors(capsys)[0]
    run_here(*command, *FAST, "-q", "30", "--resume", code=1)
    assert "found one of another" in errors(capsys)[0]
    assert contents(out) == expected
    (out / "mine.txt").write_text("mine")
    run_here(*command, *MODEL, "--effort", "0", "--shard-images", "100", "--quiet", "--force")
    assert list(contents(out)) == ["manifest.json", "mine.txt", "part-00000.bin", "part-00001.bin"]


def test_bad_images_are_named_and_left_out(
    scheduler: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in").mkdir()
    for i, pixels in enumerate(blobs(6, side=28)[..., 0]):
        Image.fromarray(pixels).save(f"in/{i}.png")
    Path("in/3.png").write_bytes(b"text")
    Path("in/5.png").write_bytes(b"")
    where = ["in", "-o", "out", "--scheduler", scheduler]
    command = ["encode", *where, *MODEL, "--effort", "0", "--quiet"]
    run_here(*command, "--shard-images", "4", code=1)
    assert sorted(errors(capsys)) == [
        f"cvae: error: {Path.cwd()}/in/3.png: expected an image, found something else",
        f"cvae: error: {Path.cwd()}/in/5.png: expected an image, found an empty file",
    ]
    assert sharded.open_folder(Path("out")).tally.left_out == 2
    run_here("decode", "out", "-o", "back", "--quiet")
    assert [path.name for path in sorted(Path("back").iterdir())] == [
        f"{i}.png" for i in (0, 1, 2, 4)
    ]
    run_here("decode", "out", "-o", "one.png", "--only", "4.png", "--quiet")
    assert Path("one.png").read_bytes() == Path("back/4.png").read_bytes()


def test_images_of_another_shape_get_advice(
    scheduler: str, capsys: pytest.CaptureFixture[str]
) -> None:
    advice = "other models (-m) code, --fit converts and resizes it"
    Path("in").mkdir()
    for side in (28, 30):
        Image.new("L", (side, side)).save(f"in/{side}.png")
    run_here("encode", "in", "-o", "out", "--scheduler", scheduler, *FAST, code=1)
    (line,) = errors(capsys)
    assert "in/30.png: expected 28x28 grey, found 30x30" in line
    assert line.endswith(advice)
    np.save("colour.npy", np.zeros((2, 32, 32, 3), np.uint8))
    command = ["encode", "colour.npy", "-o", "no", "--scheduler", scheduler, *MODEL]
    run_here(*command, code=1)
    error, end = capsys.readouterr().err.splitlines()
    assert error.endswith(advice)
    assert "another model (-m) or --fit is another run" in end
    assert "repaired" not in end


def test_a_source_that_fails_leaves_no_manifest_and_the_other_packs(
    scheduler: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    np.save("a.npy", blobs(5, side=28))
    Path("b.tar").write_bytes(b"x" * 600)
    run_here("encode", "a.npy", "b.tar", "-o", "out", "--scheduler", scheduler, *FAST, code=1)
    assert "b.tar: expected a tar archive" in errors(capsys)[0]
    assert "manifest.json" not in contents(Path("out"))
    assert "part-00000.bin" in contents(Path("out"))


def test_workers_of_another_version_refuse(made: Path) -> None:
    shard = next(worklist.cut(worklist.resolve([str(made / "x.npy")]), 40))
    failed = cluster.encode_shard(job(Path("out"), version="9"), shard)
    assert isinstance(failed, Failure)
    assert failed.kind == "ClusterError"
    assert "expected cvae 9" in str(failed.error())


def test_an_interrupt_ends_the_workers_and_is_resumed(
    made: Path, scheduler: str, undisturbed: dict[str, bytes]
) -> None:
    command = ["encode", str(made / "few.npy"), "-o", "out", *SLOW]
    run = subprocess.Popen(
        [sys.executable, "-m", "cvae", *command, "--workers", "1"],
        stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    wait_for(Path("out/part-00000.json"), run)
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does
    _, stderr = run.communicate(timeout=60)
    assert stderr.decode().splitlines() == ["cvae: interrupted"]
    assert run.returncode == 130
    wait_until(lambda: not alive(run.pid))
    assert not Path("out/manifest.json").exists()
    with pytest.raises(FormatError, match=r"out: is not finished: .* interrupted; .* --resume"):
        cvae.open_pack("out")
    run_here(*command, "--scheduler", scheduler, "--resume")
    assert contents(Path("out")) == undisturbed


def test_interrupts_in_a_row_end_the_run_once_and_leave_nothing_half_written(made: Path) -> None:
    command = ["encode", str(made / "few.npy"), "-o", "out", *SLOW, "--workers", "2"]
    run = subprocess.Popen(
        [sys.executable, "-m", "cvae", *command], stderr=subprocess.PIPE, start_new_session=True
    )
    wait_until(lambda: any(Path().glob("out/.cvae-*.bin")))
    with suppress(ProcessLookupError):
        for _ in range(20):
            os.killpg(run.pid, signal.SIGINT)
            time.sleep(0.05)
    _, stderr = run.communicate(timeout=60)
    assert (run.returncode, stderr) == (130, b"cvae: interrupted\n")
    wait_until(lambda: not alive(run.pid))
    assert not list(Path().glob("out/.cvae-*"))
    assert Path("out/unfinished.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", "1", "--scheduler", "tcp://x:1", "-o", "out"], "choose one"),
        (["--resume", "-o", "out"], "need --workers"),
        (["--workers", "1"], "name a folder with -o DIR"),
        (["--workers", "1", "-o", "out", "--threads", "2"], "one thread each"),
        (["--workers", "1", "-o", "out.bin"], "put a / behind it"),
        (["--workers", "1", "-o", "out", "--resume", "--force"], "choose one"),
        (["--workers", "1", "-o", "out", "--max-bytes", "9"], "a pack has one for all"),
    ],
)
def test_options_that_contradict_each_other(
    made: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_here("encode", made / "x.npy", *arguments, code=2)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "address",
    ["banana", "127.0.0.1", "tcp://", "tcp://:8786", "http://127.0.0.1:8786", "x:99999", "", "inproc://1/2"],
)  # fmt: skip
def test_what_is_no_address_is_wrong_usage(
    made: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_here("encode", made / "x.npy", "-o", "out", "--scheduler", address, code=2)
    assert f"--scheduler {address}: expected tcp://HOST:PORT" in capsys.readouterr().err
    assert not Path("out").exists()


@pytest.mark.parametrize("address", ["tls://x:1", "ws://x:1", "ucx://x:1", "x:1", "tcp://[::1]:1"])
def test_every_protocol_of_dask_is_an_address(address: str) -> None:
    assert schedulers.is_address(address)


def test_a_protocol_without_its_keys_is_an_error() -> None:
    with (
        pytest.raises(ClusterError, match=r"tls://x:9: expected .* no keys"),
        schedulers.connect(scheduler="tls://x:9"),
    ):
        pass


def test_a_scheduler_that_is_not_there_is_an_error(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(schedulers, "_ANSWER", "1s")
    run_here("encode", made / "x.npy", "-o", "out", "--scheduler", "tcp://127.0.0.1:9", code=1)
    assert "tcp://127.0.0.1:9: expected a Dask scheduler" in errors(capsys)[0]
    assert not Path("out").exists()


def test_without_the_extra_it_is_named(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingExtraError, match=r"cvae\[cluster\]"), schedulers.connect(1):
        pass
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingExtraError, match="fsspec is not installed"):
        storage.is_folder(storage.locate("s3://bucket/in"))


def test_a_lost_or_damaged_manifest_is_one_message_everywhere(
    made: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    array = str(made / "x.npy")
    resume = ["encode", array, "-o", "out", "--workers", "1", *FAST, "--resume"]
    commands = [
        ["info", "out/"], ["decode", "out", "-o", "x"], ["eval", array, "--coded", "./out"], resume,
    ]  # fmt: skip
    manifest = out / "manifest.json"
    for content, expected in (
        (None, "out: holds packs but no manifest.json; its packs decode one by one"),
        ("{", "out/manifest.json: damaged: expected a manifest"),
    ):
        manifest.unlink() if content is None else manifest.write_text(content)
        for command in commands:
            capsys.readouterr()
            run_here(*command, code=1)
            (line,) = errors(capsys)
            absolute = f"{Path.cwd()}/" if command == resume else ""
            assert line.startswith(f"cvae: error: {absolute}{expected}")
    with pytest.raises(FormatError, match=r"out/manifest\.json: damaged"):
        cvae.open_pack("out")


def test_folders_of_packs_are_decoded_one_at_a_time(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(out, "more")
    run_here("decode", "out", "more", "-o", "back/", code=1)
    advice = "packs are decoded one at a time: cvae decode out"
    assert errors(capsys) == [f"cvae: error: out: it is a folder of packs; {advice}"]
    assert not Path("back").exists()


def test_what_is_left_of_a_folder_of_packs_is_measured(
    made: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (out / "part-00001.bin").unlink()
    (out / "part-00003.bin").unlink()
    run_here("eval", made / "x.npy", "--coded", "out", "--json", code=1)
    output = capsys.readouterr()
    found = json.loads(output.out)
    assert (found["images"], found["lost"]) == (80, 70)
    assert [line.split(": ")[2:4] for line in output.err.splitlines()] == [
        ["out", "part-00001.bin"],
        ["out", "part-00003.bin"],
    ]
    assert found["psnr_mean"] > 20
