"""Many workers, one folder of packs: what they write, and what survives them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cvae
from cvae import cluster, images, sharded, shards, storage, worklist
from cvae.bulk import Options
from cvae.cluster import Failure, Job
from cvae.errors import CvaeError, FormatError, MissingExtraError, OutputError, StorageError

from .conftest import blobs, run_cvae, run_here

pytest.importorskip("distributed")

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


def alive(group: int) -> bool:
    """Whether a process is left of a group."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory, s3: str) -> Iterator[str]:
    """The address of a scheduler with two workers, each a process of its own."""
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


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, scheduler: str) -> Path:
    """A folder with `x.npy`, 150 images, `few.npy`, 100, and `out`, what the two workers made of `x`."""
    folder = tmp_path_factory.mktemp("made")
    np.save(folder / "x.npy", blobs(150, side=28))
    np.save(folder / "few.npy", blobs(100, side=28))
    run_here("encode", folder / "x.npy", "-o", folder / "out", "--scheduler", scheduler, *FAST)
    return folder


@pytest.fixture(scope="module")
def undisturbed(made: Path) -> dict[str, bytes]:
    """What one local worker makes of the few images with a long search."""
    result = run_cvae("encode", "few.npy", "-o", "slow", "--workers", "1", *SLOW, cwd=made)
    assert result.stderr == b""
    return contents(made / "slow")


@pytest.fixture
def out(made: Path) -> Path:
    """A copy of that folder of packs in the current folder."""
    import shutil

    return Path(shutil.copytree(made / "out", "out"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def job(folder: storage.Location, **changes: object) -> Job:
    model = cvae.open_model("linear-mnist").model.path
    settings = {
        "folder": folder, "model": model, "model_sha256": cluster.file_digest(model),
        "options": Options(50, 0, names=True), "fit": False, "jobs": 1, "request": {"quality": 50},
    }  # fmt: skip
    return Job(**{**settings, **changes})  # type: ignore[arg-type]


def errors(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if "error" in line]


def test_a_folder_of_packs_is_named_by_its_manifest(made: Path) -> None:
    found = contents(made / "out")
    parts = [f"part-0000{i}.bin" for i in range(4)]
    assert list(found) == ["manifest.json", *parts]
    manifest = json.loads(found["manifest.json"])
    assert (manifest["images"], manifest["model"], manifest["quality"]) == (150, "linear-mnist", 50)
    assert [part["first"] for part in manifest["shards"]] == [0, 40, 80, 120]
    assert [part["file_bytes"] for part in manifest["shards"]] == [len(found[p]) for p in parts]
    assert manifest["psnr_mean"] > 20


def test_it_decodes_to_what_one_pack_does(made: Path) -> None:
    run_here("encode", made / "x.npy", "-o", "x.bin", *MODEL, "--effort", "0", "--quiet")
    for source in ("x.bin", made / "out"):
        run_here("decode", source, "-o", f"{Path(source).stem}.npy", "--quiet")
    assert np.array_equal(np.load("x.npy"), np.load("out.npy"))
    run_here("decode", made / "out", "-o", "some.npz", "--only", "38-41,149", "--quiet")
    some = np.load("some.npz")
    assert np.array_equal(some["images"], np.load("x.npy")[some["numbers"]])
    assert some["numbers"].tolist() == [38, 39, 40, 41, 149]


def test_python_opens_a_folder_of_packs_as_one(made: Path) -> None:
    with cvae.open_pack(made / "out") as found:
        assert len(found) == 150
        everything = np.concatenate(list(found))
        assert np.array_equal(found.images([149, 40, 39, 0]), everything[[149, 40, 39, 0]])
        with pytest.raises(CvaeError, match="no image 150"):
            found.images([150])


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
    command = [
        "encode",
        "in",
        "-o",
        "out",
        "--scheduler",
        scheduler,
        *MODEL,
        "--effort",
        "0",
        "--quiet",
    ]
    run_here(*command, "--shard-images", "4", code=1)
    assert sorted(errors(capsys)) == [
        f"cvae: error: {Path.cwd()}/in/3.png: expected an image, found something else",
        f"cvae: error: {Path.cwd()}/in/5.png: expected an image, found an empty file",
    ]
    assert sharded.open_folder(Path("out")).manifest.left_out == 2
    run_here("decode", "out", "-o", "back", "--quiet")
    assert [path.name for path in sorted(Path("back").iterdir())] == [
        f"{i}.png" for i in (0, 1, 2, 4)
    ]
    run_here("decode", "out", "-o", "one.png", "--only", "4.png", "--quiet")
    assert Path("one.png").read_bytes() == Path("back/4.png").read_bytes()


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


def test_lost_and_damaged_packs_are_named_and_the_rest_decodes(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_here("decode", out, "-o", "all.npy", "--quiet")
    (out / "part-00001.bin").unlink()
    data = bytearray((out / "part-00002.bin").read_bytes())
    data[60] ^= 1
    (out / "part-00002.bin").write_bytes(data)
    run_here("info", out, "--json")
    damage = json.loads(capsys.readouterr().out)["damage"]
    assert damage == [
        "part-00001.bin: is missing: images 40 to 79 are lost",
        "damaged: part-00002.bin, images 80 to 119",
    ]
    run_here("decode", out, "-o", "x.npz", code=1)
    assert not Path("x.npz").exists()
    assert "part-00001.bin: is missing" in errors(capsys)[0]
    run_here("decode", out, "-o", "x.npz", "--keep-going", "--quiet", code=1)
    left = np.load("x.npz")
    assert left["numbers"].tolist() == [*range(40), *range(120, 150)]
    assert np.array_equal(left["images"], np.load("all.npy")[left["numbers"]])
    run_here("decode", out, "-o", "y.npy", "--only", "0-39,149", "--quiet")  # needs neither


def test_packs_that_changed_places_are_noticed(out: Path) -> None:
    (out / "part-00000.bin").rename("x")
    (out / "part-00001.bin").rename(out / "part-00000.bin")
    Path("x").rename(out / "part-00001.bin")
    damage = sharded.open_folder(out).damage_in([(0, 150)])
    assert [(item.first, item.images) for item in damage] == [(0, 40), (40, 40)]


def test_a_pack_cut_off_loses_its_images_and_no_others(out: Path) -> None:
    data = (out / "part-00003.bin").read_bytes()
    for cut in (0, 5, 30, len(data) - 20, len(data) - 1):
        (out / "part-00003.bin").write_bytes(data[:cut])
        damage = sharded.open_folder(out).damage_in([(0, 150)])
        assert damage
        lost = {n for d in damage for n in range(d.first, d.first + d.images)}
        assert lost == (set() if cut > len(data) - 30 else set(range(120, 150))), cut


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 1}, {"shards": None}, {"quality": "x"}, {"inverted": 1}, {"request": 3},
        {"file": "../part-00000.bin"}, {"file": "/etc/passwd"}, {"first": 1}, {"images": -1},
        {"images": 2.5}, {"sha256": "x"}, {"messages": 3}, {"psnr_sum": "x"},
    ],
)  # fmt: skip
def test_a_made_up_manifest_is_refused(out: Path, changes: dict[str, object]) -> None:
    values = json.loads((out / "manifest.json").read_text())
    target = values if changes.keys() <= values.keys() - {"images"} else values["shards"][0]
    target.update(changes)
    (out / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(FormatError, match=r"manifest\.json"):
        sharded.open_folder(out)


def test_a_shard_is_the_same_wherever_it_is_written(made: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    inputs = worklist.resolve([str(made / "x.npy")])
    shard = next(worklist.cut(inputs, 40))
    folder = storage.locate("memory://written")
    try:
        first = cluster.encode_shard(job(folder), shard)
        assert isinstance(first, shards.Part)
        data = storage.read(folder / shard.name, 1 << 20)
        assert data == (made / "out" / shard.name).read_bytes()
        sent = (made / "x").with_name("model.cvae")
        sent.write_bytes(job(folder).model.read_bytes())
        nowhere = job(folder, model=Path("/nowhere/x.cvae"))
        assert cluster.encode_shard(nowhere, shard, None, sent.read_bytes()) == first
        failed = cluster.encode_shard(nowhere, shard)
        assert isinstance(failed, Failure)
        assert "/nowhere/x.cvae: cannot be read" in str(failed.error())
    finally:
        fsspec.filesystem("memory").rm("/written", recursive=True)


def test_an_image_that_cannot_be_fetched_fails_its_shard(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(blobs(1, side=28)[0, ..., 0]).save("a.png")
    shard = next(worklist.cut(worklist.resolve(["a.png"])))

    def unreachable(path: Path, name: str = "") -> bytes:
        with storage.reaching(path):
            raise TimeoutError("no answer")

    monkeypatch.setattr(images, "read_file", unreachable)
    with pytest.raises(StorageError, match=r"a\.png: cannot be reached: no answer"):
        cluster.encode_shard(job(Path("out")), shard)
    assert not Path("out").exists() or not list(Path("out").iterdir())


def test_workers_of_another_version_refuse(made: Path) -> None:
    shard = next(worklist.cut(worklist.resolve([str(made / "x.npy")]), 40))
    failed = cluster.encode_shard(job(Path("out"), version="9"), shard)
    assert isinstance(failed, Failure)
    assert failed.kind == "ClusterError"
    assert "expected cvae 9" in str(failed.error())


def test_packs_that_the_client_does_not_see_give_no_manifest(out: Path) -> None:
    manifest = shards.read_manifest(out)
    (out / "part-00001.bin").unlink()
    with pytest.raises(CvaeError, match=r"part-00001\.bin: expected .* found no such file"):
        shards.finish(out, manifest)


def test_no_other_run_is_resumed(out: Path) -> None:
    manifest = shards.read_manifest(out)
    assert shards.check(out, manifest.request, resume=True, force=False) == manifest
    Path("other").mkdir()
    Path("other/x").write_text("")
    with pytest.raises(OutputError, match="found other files"):
        shards.check(Path("other"), manifest.request, resume=True, force=False)


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
    with pytest.raises(FormatError, match=r"out: was interrupted .* --resume"):
        cvae.open_pack("out")
    run_here(*command, "--scheduler", scheduler, "--resume")
    assert contents(Path("out")) == undisturbed


def test_images_come_from_s3_and_packs_go_there(
    made: Path, scheduler: str, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import fsspec

    system = fsspec.filesystem("s3", use_listings_cache=False)
    system.put_file(str(made / "x.npy"), f"{bucket}/in/x.npy")
    command = ["encode", f"{bucket}/in/*.npy", "-o", f"{bucket}/out", "--scheduler", scheduler]
    run_here(*command, *FAST)
    parts = {name: data for name, data in contents(made / "out").items() if name[0] == "p"}
    assert {n: system.cat(f"{bucket}/out/{n}") for n in parts} == parts
    assert len(system.ls(f"{bucket}/out")) == len(parts) + 1
    run_here(*command, *FAST, code=1)
    assert "is not empty" in errors(capsys)[0]
    system.rm_file(f"{bucket}/out/part-00001.bin")
    run_here("info", f"{bucket}/out", "--json")
    assert "part-00001.bin: is missing" in json.loads(capsys.readouterr().out)["damage"][0]
    run_here(*command, *FAST, "--resume")
    for source in (f"{bucket}/out", made / "out"):
        run_here("decode", source, "-o", f"{str(source)[:2].strip('/')}.npy", "--quiet")
    arrays = [np.load(path) for path in Path().glob("*.npy")]
    assert len(arrays) == 2
    assert np.array_equal(*arrays)


def test_one_pack_is_written_to_a_url_and_read_there(made: Path, bucket: str) -> None:
    options = [*MODEL, "--effort", "0", "--quiet"]
    import fsspec

    fsspec.filesystem("s3").put_file(str(made / "few.npy"), f"{bucket}/few.npy")
    run_here("encode", f"{bucket}/few.npy", "-o", f"{bucket}/few.bin", *options)
    run_here("encode", made / "few.npy", "-o", f"{bucket}/few.bin", *options, code=1)
    run_here("decode", f"{bucket}/few.bin", "-o", "far.npy", "--quiet")
    run_here("encode", made / "few.npy", "-o", "near.bin", *options)
    run_here("decode", "near.bin", "-o", "near.npy", "--quiet")
    assert np.array_equal(np.load("far.npy"), np.load("near.npy"))


def test_storage_that_refuses_is_one_line(
    made: Path, scheduler: str, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    far = ["--scheduler", scheduler, *FAST]
    run_here("encode", "s3://no-such-bucket/x.npy", "-o", "out", *far, code=1)
    assert "s3://no-such-bucket/x.npy: there is no such file" in errors(capsys)[0]
    run_here("encode", made / "x.npy", "-o", "s3://no-such-bucket/out", *far, code=1)
    assert "s3://no-such-bucket" in errors(capsys)[0]
    run_here("decode", f"{bucket}/missing.bin", "-o", "x", code=1)
    assert "missing.bin" in errors(capsys)[0]
    nobody = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "HOME": str(Path.cwd()),
              "AWS_EC2_METADATA_DISABLED": "true"}  # fmt: skip
    result = run_cvae("decode", f"{bucket}/x.bin", "-o", "x", code=1, env=nobody)
    assert len(result.stderr.splitlines()) == 1
    assert b"redentials" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", "1", "--scheduler", "tcp://x:1", "-o", "out"], "choose one"),
        (["--resume", "-o", "out"], "need --workers"),
        (["--workers", "1"], "name a folder with -o DIR"),
        (["--workers", "1", "-o", "out", "--threads", "2"], "one thread each"),
        (["--workers", "1", "-o", "out", "--resume", "--force"], "choose one"),
        (["--workers", "1", "-o", "out", "--max-bytes", "9"], "a pack has one for all"),
    ],
)
def test_options_that_contradict_each_other(
    made: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_here("encode", made / "x.npy", *arguments, code=2)
    assert message in capsys.readouterr().err


def test_a_scheduler_that_is_not_there_is_an_error(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cluster, "_ANSWER", "1s")
    run_here("encode", made / "x.npy", "-o", "out", "--scheduler", "tcp://127.0.0.1:9", code=1)
    assert "tcp://127.0.0.1:9: expected a Dask scheduler" in errors(capsys)[0]
    assert not Path("out").exists()


def test_without_the_extra_it_is_named(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingExtraError, match=r"cvae\[cluster\]"), cluster.connect(1):
        pass
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingExtraError, match="fsspec is not installed"):
        storage.is_folder(storage.locate("s3://bucket/in"))
