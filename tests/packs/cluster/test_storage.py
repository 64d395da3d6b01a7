"""Images at URLs, packs at URLs, and what storage answers."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvae.data import places
from cvae.data.lists import ListSource
from cvae.data.reading import Reading
from cvae.errors import CvaeError, ImageError, ModelError, StorageError
from cvae.packs import run, shards

from ...conftest import blobs, run_cvae, run_here
from .conftest import FAST, MODEL, contents, errors, job, model

pytest.importorskip("fsspec")


def test_images_come_from_s3_and_packs_go_there(
    made: Path, scheduler: str, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import fsspec

    system = fsspec.filesystem("s3", use_listings_cache=False)
    system.put_file(str(made / "x.npy"), f"{bucket}/in/x.npy")
    command = ["pack", f"{bucket}/in/*.npy", "-o", f"{bucket}/out", "--scheduler", scheduler]
    run_here(*command, *FAST)
    parts = {name: data for name, data in contents(made / "out").items() if name[0] == "p"}
    assert {n: system.cat(f"{bucket}/out/{n}") for n in parts} == parts
    assert len(system.ls(f"{bucket}/out")) == len(parts) + 1
    run_here(*command, *FAST, code=1)
    assert "is not empty" in errors(capsys)[0]
    system.rm_file(f"{bucket}/out/part-00001.bin")
    run_here("info", f"{bucket}/out", "--json", code=1)
    assert "part-00001.bin: is missing" in json.loads(capsys.readouterr().out)["damage"][0]
    run_here(*command, *FAST, "--resume")
    for source in (f"{bucket}/out", made / "out"):
        run_here("unpack", source, "-o", f"{str(source)[:2].strip('/')}.npy", "--quiet")
    arrays = [np.load(path) for path in Path().glob("*.npy")]
    assert len(arrays) == 2
    assert np.array_equal(*arrays)


def test_one_pack_is_written_to_a_url_and_read_there(made: Path, bucket: str) -> None:
    options = [*MODEL, "--effort", "0", "--quiet"]
    import fsspec

    fsspec.filesystem("s3").put_file(str(made / "few.npy"), f"{bucket}/few.npy")
    run_here("pack", f"{bucket}/few.npy", "-o", f"{bucket}/few.bin", *options)
    run_here("pack", made / "few.npy", "-o", f"{bucket}/few.bin", *options, code=1)
    run_here("unpack", f"{bucket}/few.bin", "-o", "far.npy", "--quiet")
    run_here("pack", made / "few.npy", "-o", "near.bin", *options)
    run_here("unpack", "near.bin", "-o", "near.npy", "--quiet")
    assert np.array_equal(np.load("far.npy"), np.load("near.npy"))


def test_storage_that_refuses_is_one_line(
    made: Path, scheduler: str, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    far = ["--scheduler", scheduler, *FAST]
    run_here("pack", "s3://no-such-bucket/x.npy", "-o", "out", *far, code=1)
    assert "s3://no-such-bucket/x.npy: there is no such file" in errors(capsys)[0]
    run_here("pack", made / "x.npy", "-o", "s3://no-such-bucket/out", *far, code=1)
    assert "s3://no-such-bucket" in errors(capsys)[0]
    run_here("unpack", f"{bucket}/missing.bin", "-o", "x", code=1)
    assert "missing.bin" in errors(capsys)[0]
    nobody = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "HOME": str(Path.cwd()),
              "AWS_EC2_METADATA_DISABLED": "true"}  # fmt: skip
    result = run_cvae("unpack", f"{bucket}/x.bin", "-o", "x", code=1, env=nobody)
    assert len(result.stderr.splitlines()) == 1
    assert b"redentials" in result.stderr


@pytest.mark.parametrize(
    "error",
    [ConnectionResetError(104, "reset by peer"), TimeoutError("no answer"), ValueError("x")],
)
def test_what_cannot_be_fetched_fails_its_shard_and_is_not_left_out(
    made: Path,
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import fsspec
    from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(MemoryFileSystem, "store", {})
    with tarfile.open("a.tar", "w") as archive:
        Image.fromarray(blobs(1, side=28)[0, ..., 0]).save("a.png")
        archive.add("a.png")
    for name in ("a.png", "a.tar"):
        fsspec.filesystem("memory").pipe(f"/in/{name}", Path(name).read_bytes())
    monkeypatch.setattr(MemoryFile, "read", fail)
    for name in ("a.png", "a.tar"):
        shard = next(shards.cut([shards.resolve(f"memory://in/{name}")]))
        with pytest.raises(StorageError, match=rf"in/{name}: cannot be reached: "):
            run.encode_shard(job(Path("out")), shard, model())
        assert not Path("out").exists() or not list(Path("out").iterdir())
    run_here("unpack", "memory://in/a.png", "-o", "x.png", code=1)
    assert "in/a.png: cannot be reached: " in errors(capsys)[0]


@pytest.mark.parametrize(
    ("error", "found"),
    [(FileNotFoundError(2, "gone"), ImageError), (OSError(116, "stale"), StorageError)],
)
def test_only_a_file_that_is_not_there_is_left_out(
    monkeypatch: pytest.MonkeyPatch, error: OSError, found: type[CvaeError]
) -> None:
    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(Path, "open", fail)
    refused: list[CvaeError] = []
    source = ListSource(((Path("a.png"), "a.png"),))
    reading = Reading((28, 28, 1), "exact")
    if found is StorageError:
        with pytest.raises(StorageError, match=r"a\.png: cannot be reached: stale"):
            list(source.batches(reading, refuse=refused.append))
    else:
        list(source.batches(reading, refuse=refused.append))
    assert [type(item) for item in refused] == [found] * (found is ImageError)


def test_a_command_without_the_extra_names_it(tmp_path: Path) -> None:
    code = "import sys; sys.modules['s3fs'] = None; from cvae.cli import main; main()"
    for command in (["unpack"], ["info"], ["pack", "-o", "x.bin"]):
        result = subprocess.run(
            [sys.executable, "-c", code, *command, "s3://bucket/x.bin"],
            capture_output=True, cwd=tmp_path, timeout=60,
        )  # fmt: skip
        assert result.returncode == 1
        (line,) = result.stderr.decode().splitlines()
        assert "pip install 'cvae[s3]'" in line


def test_a_shard_is_the_same_wherever_it_is_written(made: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    inputs = [shards.resolve(str(made / "x.npy"))]
    shard = next(shards.cut(inputs, 40))
    folder = places.locate("memory://written")
    try:
        first = run.encode_shard(job(folder), shard, model())
        data = places.read(folder / shard.name, 1 << 20)
        assert data == (made / "out" / shard.name).read_bytes()
        assert run.encode_shard(job(folder), shard, model()) == first
        with pytest.raises(ModelError):
            run.encode_shard(job(folder), shard, model()[:-1000])
    finally:
        fsspec.filesystem("memory").rm("/written", recursive=True)
