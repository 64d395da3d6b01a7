"""A folder of packs that many workers wrote, read as one."""

from __future__ import annotations

import io
import json
import math
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cvae
from cvae import packs, records
from cvae.data import places
from cvae.errors import CvaeError, FormatError, OutputError, UnsupportedError
from cvae.packs import folder as folders
from cvae.packs import manifest

from ...conftest import run_here
from ...packs.test_layout import Interrupted
from .conftest import FAST, MODEL, contents, errors


def test_a_folder_of_packs_is_named_by_its_manifest(made: Path) -> None:
    found = contents(made / "out")
    parts = [f"part-0000{i}.bin" for i in range(4)]
    assert list(found) == ["manifest.json", *parts]
    written = json.loads(found["manifest.json"])
    assert (written["images"], written["model"], written["quality"]) == (150, "linear-mnist", 50)
    assert [part["first"] for part in written["shards"]] == [0, 40, 80, 120]
    assert [part["file_bytes"] for part in written["shards"]] == [len(found[p]) for p in parts]
    assert written["psnr_mean"] > 20


def test_the_manifest_has_what_was_asked_for(made: Path) -> None:
    request = manifest.read_manifest(places.locate(made / "out")).request
    assert request.pop("sources") == [str(made / "x.npy")]
    assert len(request.pop("model")) == 64
    # A digest of it is in every shard: other names or another order would resume no run.
    assert list(request.items()) == [
        ("quality", 50), ("effort", 0), ("inverted", False), ("fitted", False), ("names", True),
        ("verified", True), ("split", None), ("shard_images", 40), ("block_images", 4096),
        ("labels", "auto"),
    ]  # fmt: skip


def test_whether_images_have_names_is_known_without_their_names(made: Path) -> None:
    Path("in").mkdir()
    Image.new("L", (28, 28)).save("in/a.png")
    run_here("pack", "in", made / "few.npy", "-o", "both", "--workers", "1", *FAST)
    with packs.open_reader("both") as both, packs.open_reader(made / "out") as numbers:
        assert (both.named, numbers.named) == (True, False)
        assert (both.facts()["names"], numbers.facts()["names"]) == (["a.png"], None)
    (Path("both") / "part-00000.bin").unlink()
    with packs.open_reader("both") as left:
        assert not left.named


def test_it_decodes_to_what_one_pack_does(made: Path) -> None:
    run_here("pack", made / "x.npy", "-o", "x.bin", *MODEL, "--effort", "0", "--quiet")
    for source in ("x.bin", made / "out"):
        run_here("unpack", source, "-o", f"{Path(source).stem}.npy", "--quiet")
    assert np.array_equal(np.load("x.npy"), np.load("out.npy"))
    run_here("unpack", made / "out", "-o", "some.npz", "--only", "38-41,149", "--quiet")
    some = np.load("some.npz")
    assert np.array_equal(some["images"], np.load("x.npy")[some["numbers"]])
    assert some["numbers"].tolist() == [38, 39, 40, 41, 149]


def test_python_opens_a_folder_of_packs_as_one(made: Path) -> None:
    with cvae.open_pack(made / "out") as found:
        assert len(found) == 150
        everything = np.stack(list(found))[..., np.newaxis]
        assert np.array_equal(found.images([149, 40, 39, 0]), everything[[149, 40, 39, 0]])
        with pytest.raises(CvaeError, match="no image 150"):
            found.images([150])


def test_lost_and_damaged_packs_are_named_and_the_rest_decodes(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_here("unpack", out, "-o", "all.npy", "--quiet")
    (out / "part-00001.bin").unlink()
    data = bytearray((out / "part-00002.bin").read_bytes())
    data[60] ^= 1
    (out / "part-00002.bin").write_bytes(data)
    run_here("info", out, "--json", code=1)
    damage = json.loads(capsys.readouterr().out)["damage"]
    assert damage == [
        "part-00001.bin: is missing: images 40 to 79 are lost",
        "damaged: part-00002.bin, images 80 to 119",
    ]
    run_here("unpack", out, "-o", "x.npz", code=1)
    assert not Path("x.npz").exists()
    assert "part-00001.bin: is missing" in errors(capsys)[0]
    run_here("unpack", out, "-o", "x.npz", "--keep-going", "--quiet", code=1)
    left = np.load("x.npz")
    assert left["numbers"].tolist() == [*range(40), *range(120, 150)]
    assert np.array_equal(left["images"], np.load("all.npy")[left["numbers"]])
    run_here("unpack", out, "-o", "y.npy", "--only", "0-39,149", "--quiet")  # needs neither


def test_packs_that_changed_places_are_noticed(out: Path) -> None:
    (out / "part-00000.bin").rename("x")
    (out / "part-00001.bin").rename(out / "part-00000.bin")
    Path("x").rename(out / "part-00001.bin")
    damage = packs.open_reader(out).damage_in([(0, 150)])
    assert [(item.first, item.images) for item in damage] == [(0, 40), (40, 40)]


def test_a_pack_cut_off_loses_its_images_and_no_others(out: Path) -> None:
    data = (out / "part-00003.bin").read_bytes()
    for cut in (0, 5, 30, 60, len(data) - 20, len(data) - 1):
        (out / "part-00003.bin").write_bytes(data[:cut])
        damage = packs.open_reader(out).damage_in([(0, 150)])
        assert damage
        lost = [n for d in damage for n in range(d.first, d.first + d.images)]
        assert lost == ([] if cut > len(data) - 30 else [*range(120, 150)]), cut


def test_two_threads_read_one_folder_of_packs(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = []

    def opened(path: Path, mode: str = "r") -> Interrupted:
        files.append(Interrupted(io.FileIO(path)))
        return files[-1]

    monkeypatch.setattr(places.Local, "open", opened)
    monkeypatch.setattr(folders, "_OPEN", 1)  # so that the one closes what the other reads
    with packs.open_reader(out) as reader:
        first, *_, last = reader.blocks()
        expected = [reader.read(last), reader.read(first)]
        found = []
        other = threading.Thread(target=lambda: found.append(reader.read(last)))
        files[-1].meanwhile = other
        assert reader.read(first) == expected[1]
        other.join()
    assert found == [expected[0]]


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 1}, {"shards": None}, {"quality": "x"}, {"inverted": 1}, {"request": 3},
        {"file": "../part-00000.bin"}, {"file": "/etc/passwd"}, {"first": 1}, {"images": -1},
        {"images": 2.5}, {"sha256": "x"}, {"messages": 3}, {"messages": "text"}, {"psnr_sum": "x"},
        {"psnr_sum": 10**400}, {"psnr_sum": math.nan}, {"psnr_sum": math.inf}, {"psnr_sum": -1},
        {"psnr_sum": True}, {"poor": True}, {"verified": 2**48},
        {"file": "part-\u0661\u0661\u0661\u0661\u0661.bin"},
        {"quality": -1}, {"quality": 10**400}, {"model_id": -1}, {"model_id": 65536},
    ],
)  # fmt: skip
def test_a_made_up_manifest_is_refused(
    out: Path, changes: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    values = json.loads((out / "manifest.json").read_text())
    target = values if changes.keys() <= values.keys() - {"images"} else values["shards"][0]
    target.update(changes)
    (out / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(FormatError, match=r"manifest\.json"):
        packs.open_reader(out)
    run_here("info", out, "--json", code=1)
    (line,) = capsys.readouterr().err.splitlines()
    assert len(line) < 500


def test_a_manifest_of_more_images_than_can_be_is_refused(out: Path) -> None:
    values = json.loads((out / "manifest.json").read_text())
    most = 2**48 - 1  # that one shard may claim
    values["shards"] = [
        {**values["shards"][0], "first": i * most, "images": most} for i in range(2)
    ]
    (out / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(FormatError, match=r"manifest\.json.*images"):
        packs.open_reader(out)


def test_packs_that_the_client_does_not_see_give_no_manifest(out: Path) -> None:
    found = manifest.read_manifest(places.locate(out))
    (out / "part-00001.bin").unlink()
    with pytest.raises(CvaeError, match=r"part-00001\.bin: expected .* found no such file"):
        manifest.finish(places.locate(out), found)


def resume(made: Path, out: Path, code: int = 0) -> None:
    command = ["pack", made / "x.npy", "-o", out, "--workers", "1", *FAST, "--resume"]
    run_here(*command, code=code)


@pytest.mark.parametrize(
    "damage",
    [
        lambda shards: shards[3].update(images=31, verified=31),
        lambda shards: shards[0].update(file_bytes=shards[0]["file_bytes"] + 1),
        lambda shards: shards[2].update(sha256="0" * 64),
    ],
)
def test_a_manifest_that_is_wrong_about_a_pack_is_not_passed_on(
    made: Path, out: Path, damage: Callable[[list[dict[str, object]]], None]
) -> None:
    expected = contents(out)
    known = json.loads((out / "manifest.json").read_text())
    damage(known["shards"])
    (out / "manifest.json").write_text(json.dumps(known))
    resume(made, out)
    assert contents(out) == expected


@pytest.mark.parametrize("broken", [b"", b"\0" * 500, None])
def test_a_manifest_that_a_power_cut_broke_is_written_again_where_notes_are_left(
    made: Path, out: Path, broken: bytes | None
) -> None:
    expected = contents(out)
    known = manifest.read_manifest(places.locate(out))
    (out / "unfinished.json").write_bytes(records.dump(known.request))
    for part in known.shards:
        note = records.dump({**vars(part), "first": 0})
        (out / manifest.note_name(part.file)).write_bytes(note)
    half = expected["manifest.json"][: len(expected["manifest.json"]) // 2]
    (out / "manifest.json").write_bytes(half if broken is None else broken)
    (out / "part-00001.bin").write_bytes(b"")
    resume(made, out)
    assert contents(out) == expected


@pytest.mark.parametrize("broken", [b"", b"\0" * 500, b"{}"])
def test_without_notes_a_broken_manifest_is_refused_and_nothing_changes(
    made: Path, out: Path, broken: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (out / "manifest.json").write_bytes(broken)
    before = contents(out)
    resume(made, out, code=1)
    assert "expected a manifest of shards" in errors(capsys)[0]
    assert contents(out) == before
    for command in (["info"], ["unpack", "-o", "back"], ["verify"]):
        run_here(*command, out, code=1)
    assert not Path("back").exists()


def test_a_manifest_of_a_later_version_is_not_called_damaged(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = json.loads((out / "manifest.json").read_text())
    (out / "manifest.json").write_text(json.dumps({**known, "format": 7}))
    with pytest.raises(UnsupportedError, match="has format 7, which this cvae does not know"):
        manifest.read_manifest(places.locate(out))


def test_the_manifest_is_on_the_disk_before_the_notes_are_gone(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, remove = os.fsync, places.Local.remove

    def synced(file: int) -> None:
        steps.append(f"sync {Path(f'/proc/self/fd/{file}').readlink().name}")
        fsync(file)

    def removed(place: places.Local) -> None:
        steps.append(f"remove {place.name}")
        remove(place)

    known = manifest.read_manifest(places.locate(made / "out"))
    shutil.copytree(made / "out", "again")
    Path("again/unfinished.json").write_bytes(b"{}")
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(places.Local, "remove", removed)
    manifest.finish(places.locate("again"), known)
    assert steps[0].startswith("sync .cvae-")
    assert steps[1:] == ["sync again", "remove unfinished.json"]


@pytest.mark.parametrize("what", ["manifest.json", "part-00000.bin", "unfinished.json"])
def test_a_pipe_among_packs_is_not_waited_for(
    out: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (out / what).unlink(missing_ok=True)
    os.mkfifo(out / what)
    for command in (["info"], ["unpack", "-o", "back", "--keep-going"], ["verify"]):
        run_here(*command, out, code=0 if what == "unfinished.json" else 1)
    if what == "part-00000.bin":
        assert "part-00000.bin: is a device or a pipe" in capsys.readouterr().err
        assert len(list(Path("back").iterdir())) == 110


def test_no_other_run_is_resumed(out: Path) -> None:
    found = manifest.read_manifest(places.locate(out))
    assert manifest.check(places.locate(out), found.request, resume=True, force=False) == found
    Path("other").mkdir()
    Path("other/x").write_text("")
    with pytest.raises(OutputError, match="found other files"):
        manifest.check(places.locate("other"), found.request, resume=True, force=False)
