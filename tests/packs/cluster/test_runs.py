"""Many workers, one folder of packs: what they write, and what survives them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import CancelledError, Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

import cvae
from cvae import packs
from cvae.errors import (
    ClusterError,
    CvaeError,
    DataError,
    FormatError,
    StorageError,
)
from cvae.evaluation import verify
from cvae.evaluation.originals import Originals
from cvae.packs import executors, run, shards
from cvae.packs.manifest import Part

from ...conftest import blobs, run_here
from .conftest import FAST, MODEL, SLOW, contents, errors, job, wait_for, wait_until


def alive(group: int) -> bool:
    """Whether a process is left of a group."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def started(made: Path, *machines: str, **settings: bool) -> subprocess.Popen[bytes]:
    """A command that works on the few images for some seconds."""
    command = ["pack", str(made / "few.npy"), "-o", "out", *SLOW, *machines]
    return subprocess.Popen(
        [sys.executable, "-m", "cvae", *command], stderr=subprocess.PIPE, **settings
    )  # type: ignore[call-overload,no-any-return]


def test_a_cluster_writes_what_processes_do(made: Path, scheduler: str) -> None:
    run_here("pack", made / "x.npy", "-o", "far", "--scheduler", scheduler, *FAST)
    assert contents(Path("far")) == contents(made / "out")


def test_a_killed_process_costs_nothing_but_time(made: Path, undisturbed: dict[str, bytes]) -> None:
    psutil = pytest.importorskip("psutil")
    command = started(made, "--workers", "2")
    wait_until(lambda: any(Path("out").glob("part-*.bin")))
    children = psutil.Process(command.pid).children()
    workers = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    assert len(workers) == 2
    for worker in workers:
        worker.kill()
    _, stderr = command.communicate(timeout=180)
    assert (command.returncode, stderr) == (0, b"")
    # Not even what the worker had begun is left.
    assert contents(Path("out")) == undisturbed


def test_processes_end_with_the_one_that_started_them(made: Path) -> None:
    command = started(made, "--workers", "2", start_new_session=True)
    wait_for(Path("out/part-00000.json"), command)
    command.kill()
    command.communicate(timeout=60)
    wait_until(lambda: not alive(command.pid))


def test_a_killed_worker_of_a_cluster_costs_nothing_but_time(
    made: Path, scheduler: str, undisturbed: dict[str, bytes]
) -> None:
    from distributed import Client

    command = started(made, "--scheduler", scheduler)
    with Client(scheduler, timeout="60s", set_as_default=False) as client:
        workers = client.run(os.getpid)
        assert len(workers) == 2
        wait_until(lambda: any(Path("out").glob("part-*.bin")))
        busy = client.processing()
        victim = next(address for address, tasks in busy.items() if tasks)
        os.kill(workers[victim], signal.SIGKILL)
        _, stderr = command.communicate(timeout=180)
        # It was a worker that died; the scheduler may hear of it after the run has ended.
        wait_until(lambda: len(client.nthreads()) == 1)
    assert (command.returncode, stderr) == (0, b"")
    assert contents(Path("out")) == undisturbed


class Scripted:
    """An executor of one worker; each call of a shard fails as its script says, until that is empty."""

    def __init__(self, **scripts: list[Exception]) -> None:
        self.scripts = scripts
        self.calls = 0

    def slots(self) -> int:
        return 2

    def sent(self, data: bytes) -> bytes:
        return data

    def explained(self, error: Exception) -> Exception:
        return error

    def submit(self, work: Any, *arguments: Any) -> Future[Any]:
        self.calls += 1
        _, shard, *_ = arguments
        script = self.scripts.get(f"shard{shard.ordinal}", [])
        call: Future[Any] = Future()
        if script:
            call.set_exception(script.pop(0))
        else:
            call.set_result(Part(shard.name, "", 1, 1, "0" * 64, 0, (), 0, 0, 0.0, 0, 0, 0))
        return call


def attempted(made: Path, executor: Scripted) -> list[Part | CvaeError]:
    """What becomes of four shards."""
    work = shards.cut([shards.resolve(str(made / "x.npy"))], 40)
    return run.encode_all(executor, job(Path("out")), b"", work, {})


def test_a_shard_that_kills_nine_workers_is_written_by_the_tenth(made: Path) -> None:
    executor = Scripted(shard1=[BrokenProcessPool()] * 9, shard2=[BrokenProcessPool()])
    assert all(isinstance(item, Part) for item in attempted(made, executor))
    assert executor.calls == 4 + 9 + 1


def test_a_shard_that_kills_its_workers_again_and_again_is_named(made: Path) -> None:
    with pytest.raises(ClusterError, match=r"part-00001\.bin: 10 workers died .* memory\?"):
        attempted(made, Scripted(shard1=[BrokenProcessPool()] * 10))


def test_storage_is_tried_again_and_then_its_error_is_raised(made: Path) -> None:
    lost = StorageError("cannot be reached", where="a.png")
    assert len(attempted(made, Scripted(shard2=[lost] * 2))) == 4
    with pytest.raises(StorageError, match=r"^a\.png: cannot be reached"):
        attempted(made, Scripted(shard2=[lost] * 3))


def test_a_bad_shard_does_not_stop_the_others(made: Path) -> None:
    found = attempted(made, Scripted(shard0=[DataError("no archive")]))
    assert [type(item) for item in found] == [DataError, Part, Part, Part]
    assert str(found[0]) == "part-00000.bin: no archive"


def test_what_goes_wrong_on_a_cluster_is_explained() -> None:
    distributed = pytest.importorskip("distributed")
    cluster = executors._Cluster(Mock(), "tcp://x:1")
    unknown = ValueError("x")
    for error, message in (
        (distributed.KilledWorker("key", None, 3), "3 workers died while they worked on it"),
        (ModuleNotFoundError("No module named 'cvae'"), "a worker lacks a package: No module"),
        (CancelledError(), "tcp://x:1: the scheduler does not answer any more"),
        (OSError("closed"), "tcp://x:1: the scheduler does not answer any more: closed"),
    ):
        found = cluster.explained(error)
        assert isinstance(found, ClusterError)
        assert message in str(found)
    assert cluster.explained(unknown) is unknown


def test_a_process_that_dies_takes_no_other_with_it() -> None:
    with executors.open_executor(2) as executor:
        sleeping, dying = executor.submit(time.sleep, 3), executor.submit(os._exit, 9)
        with pytest.raises(BrokenProcessPool):
            dying.result(timeout=60)
        assert executor.submit(os.getppid).result(timeout=60) == os.getpid()
        assert sleeping.result(timeout=60) is None
        after = executor.submit(time.sleep, 600)
    with pytest.raises(BrokenProcessPool):
        after.result(timeout=60)


def test_an_interrupted_run_is_resumed_and_whole_packs_stay(
    made: Path, out: Path, scheduler: str
) -> None:
    expected = contents(out)
    times = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    for machines in (["--workers", "2"], ["--scheduler", scheduler]):
        data = bytearray(expected["part-00002.bin"])
        data[60] ^= 1
        (out / "part-00002.bin").write_bytes(data)
        (out / "part-00003.bin").unlink()
        run_here("pack", made / "x.npy", "-o", out, *machines, *FAST, "--resume")
        assert contents(out) == expected
        kept = [name for name, at in times.items() if (out / name).stat().st_mtime_ns == at]
        assert sorted(kept) == ["part-00000.bin", "part-00001.bin"]


def test_a_folder_that_is_not_empty_is_refused(
    made: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = contents(out)
    command = ["pack", made / "x.npy", "-o", out, "--workers", "1"]
    run_here(*command, *FAST, code=1)
    assert "is not empty; --resume" in errors(capsys)[0]
    run_here(*command, *FAST, "-q", "30", "--resume", code=1)
    assert "found one of another" in errors(capsys)[0]
    assert contents(out) == expected
    (out / "mine.txt").write_text("mine")
    run_here(*command, *MODEL, "--effort", "0", "--shard-images", "100", "--quiet", "--force")
    assert list(contents(out)) == ["manifest.json", "mine.txt", "part-00000.bin", "part-00001.bin"]


def test_bad_images_are_named_and_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    Path("in").mkdir()
    for i, pixels in enumerate(blobs(6, side=28)[..., 0]):
        Image.fromarray(pixels).save(f"in/{i}.png")
    Path("in/3.png").write_bytes(b"text")
    Path("in/5.png").write_bytes(b"")
    where = ["in", "-o", "out", "--workers", "2"]
    command = ["pack", *where, *MODEL, "--effort", "0", "--quiet"]
    run_here(*command, "--shard-images", "4", code=1)
    assert sorted(errors(capsys)) == [
        f"cvae: error: {Path.cwd()}/in/3.png: expected an image, found something else",
        f"cvae: error: {Path.cwd()}/in/5.png: expected an image, found an empty file",
    ]
    assert packs.open_reader("out").tally.left_out == 2
    run_here("unpack", "out", "-o", "back", "--quiet")
    assert [path.name for path in sorted(Path("back").iterdir())] == [
        f"{i}.png" for i in (0, 1, 2, 4)
    ]
    run_here("unpack", "out", "-o", "one.png", "--only", "4.png", "--quiet")
    assert Path("one.png").read_bytes() == Path("back/4.png").read_bytes()


def test_images_of_another_shape_get_advice(capsys: pytest.CaptureFixture[str]) -> None:
    advice = "--fit converts and resizes it (--background: the colour behind it)"
    Path("in").mkdir()
    for side in (28, 30):
        Image.new("L", (side, side)).save(f"in/{side}.png")
    run_here("pack", "in", "-o", "out", "--workers", "1", *FAST, code=1)
    (line,) = errors(capsys)
    assert "in/30.png: expected 28x28 grey, found 30x30" in line
    assert line.endswith(advice)
    np.save("colour.npy", np.zeros((2, 32, 32, 3), np.uint8))
    command = ["pack", "colour.npy", "-o", "no", "--workers", "1", *MODEL]
    run_here(*command, code=1)
    error, end = capsys.readouterr().err.splitlines()
    assert error.endswith(advice)
    assert "another model or --fit is another run; --force" in end
    assert "repaired" not in end


@pytest.mark.parametrize("far", [False, True])
def test_a_source_that_fails_leaves_no_manifest_and_the_other_packs(
    far: bool, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    machines = ["--scheduler", request.getfixturevalue("scheduler")] if far else ["--workers", "2"]
    np.save("a.npy", blobs(5, side=28))
    Path("b.tar").write_bytes(b"x" * 600)
    np.save("c.npy", blobs(5, side=28))
    run_here("pack", "a.npy", "b.tar", "c.npy", "-o", "out", *machines, *FAST, code=1)
    bad, end = errors(capsys)
    assert "b.tar: expected a tar archive" in bad
    assert "1 of 3 packs could not be written, so there is no manifest; when" in end
    assert "--resume does the rest" in end
    assert {"part-00000.bin", "part-00002.bin"} < contents(Path("out")).keys()
    assert not {"part-00001.bin", "manifest.json"} & contents(Path("out")).keys()


def test_workers_of_another_version_refuse(made: Path) -> None:
    shard = next(shards.cut([shards.resolve(str(made / "x.npy"))], 40))
    with pytest.raises(ClusterError, match="expected cvae 9"):
        run.encode_shard(job(Path("out"), version="9"), shard, b"")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_workers_and_is_resumed(
    made: Path, number: signal.Signals, undisturbed: dict[str, bytes]
) -> None:
    command = started(made, "--workers", "1", start_new_session=True)
    wait_for(Path("out/part-00000.json"), command)
    if number == signal.SIGINT:
        os.killpg(command.pid, number)  # as a terminal does
    else:
        command.send_signal(number)
    _, stderr = command.communicate(timeout=60)
    assert stderr.decode().splitlines() == ["cvae: interrupted"]
    assert command.returncode == 130
    wait_until(lambda: not alive(command.pid))
    assert not Path("out/manifest.json").exists()
    with pytest.raises(FormatError, match=r"out: is not finished: .* interrupted; .* resume=True"):
        cvae.open_pack("out")
    run_here("pack", made / "few.npy", "-o", "out", *SLOW, "--workers", "2", "--resume")
    assert contents(Path("out")) == undisturbed


def test_interrupts_in_a_row_end_the_run_once_and_leave_nothing_half_written(made: Path) -> None:
    command = started(made, "--workers", "2", start_new_session=True)
    wait_until(lambda: any(Path().glob("out/.cvae-*.bin")))
    with suppress(ProcessLookupError):
        for _ in range(20):
            os.killpg(command.pid, signal.SIGINT)
            time.sleep(0.05)
    _, stderr = command.communicate(timeout=60)
    assert (command.returncode, stderr) == (130, b"cvae: interrupted\n")
    wait_until(lambda: not alive(command.pid))
    assert not list(Path().glob("out/.cvae-*"))
    assert Path("out/unfinished.json").exists()


def test_a_lost_or_damaged_manifest_is_one_message_everywhere(
    made: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    array = str(made / "x.npy")
    resume = ["pack", array, "-o", "out", "--workers", "1", *FAST, "--resume"]
    commands = [
        ["info", "out/"], ["unpack", "out", "-o", "x"], ["verify", "./out", "--against", array], resume,
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


def test_what_is_left_of_a_folder_of_packs_is_measured(made: Path, out: Path) -> None:
    (out / "part-00001.bin").unlink()
    (out / "part-00003.bin").unlink()
    refused: list[CvaeError] = []
    with cvae.open_pack(out) as pack:
        (found,) = verify.compare(
            pack, Originals(str(made / "x.npy")), refuse=refused.append
        ).figures
    assert (found["images"], found["lost"]) == (80, 70)
    assert [str(error).split(": ")[:2] for error in refused] == [
        ["part-00001.bin", "is missing"], ["part-00003.bin", "is missing"],
    ]  # fmt: skip
    assert found["psnr_mean"] > 20
