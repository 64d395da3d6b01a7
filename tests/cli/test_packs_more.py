"""Packs on the command line: listed, taken from by patterns, added to and put together."""

from __future__ import annotations

import json
import os
import re
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

import cvae
from cvae.packs import encode as packing
from cvae.packs import reader as readers

from ..conftest import SAMPLES, blobs, run_cvae, run_here

pytestmark = pytest.mark.filterwarnings("ignore::cvae.codec.QualityWarning")  # of blobs

FAST = ["--effort", "0", "--quiet"]
LINEAR = [*FAST, "-m", "linear-mnist"]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(workdir: Path) -> None:
    pass


def folder(name: str = "in") -> None:
    for place, number in (("cats/a", 0), ("cats/b", 1), ("dogs/a", 2), ("c", 3)):
        path = Path(name, f"{place}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(SAMPLES / f"digit_{number}.png", path)


def array(name: str, count: int, seed: int = 0, labels: bool = False) -> None:
    x = blobs(count, side=28, seed=seed)[..., 0]
    np.savez(name, x_test=x, **({"y_test": np.arange(count)} if labels else {}))  # type: ignore[arg-type]


def here() -> list[str]:
    return sorted(path.name for path in Path().iterdir())


def decoded(path: str) -> np.ndarray:
    with cvae.open_pack(path) as pack:
        return np.stack(list(pack))


def listed(path: str) -> list[str]:
    return sorted(p.relative_to(path).as_posix() for p in Path(path).rglob("*.png"))


def damage(path: str, block: int = 1) -> None:
    with cvae.open_pack(path) as pack:
        place = list(pack.reader.blocks())[block]
    data = bytearray(Path(path).read_bytes())
    data[place.offset + place.size - 6] ^= 1
    Path(path).write_bytes(data)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err


def test_a_list_has_a_line_for_each_image(capsys: pytest.CaptureFixture[str]) -> None:
    folder()
    run_here("pack", "in", "--labels", "folder", "--fit", *LINEAR)
    run_here("list", "in.bin")
    assert capsys.readouterr().out.splitlines() == [
        "0\tc.png\tin\t28x28", "1\tcats/a.png\tcats\t28x28", "2\tcats/b.png\tcats\t28x28",
        "3\tdogs/a.png\tdogs\t28x28",
    ]  # fmt: skip
    run_here("list", "in.bin", "--json")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[1] == {
        "number": 1,
        "name": "cats/a.png",
        "label": {"folder": "cats"},
        "size": [28, 28],
    }
    assert lines[0]["label"] == {"folder": "in"}


def test_what_a_list_does_not_know_is_empty(capsys: pytest.CaptureFixture[str]) -> None:
    array("in.npz", 3, labels=True)
    run_here("pack", "in.npz", "-o", "x.bin", *LINEAR)
    data = Path("x.bin").read_bytes()
    assert run_cvae("list", "-", stdin=data).stdout.decode() == "0\t\t0\t\n1\t\t1\t\n2\t\t2\t\n"
    run_here("pack", "in.npz", "-o", "out", "--workers", "1", "--shard-images", "2", *LINEAR)
    run_here("list", "out")
    assert capsys.readouterr().out == "0\t\t0\t\n1\t\t1\t\n2\t\t2\t\n"


def test_names_in_a_list_end_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    names, texts = ["a\tb", "c\nd\x1b[2J"], ["x\ty", "z\n"]
    cvae.encode_pack(blobs(2, side=28), "x.bin", "linear-mnist", names=names, labels=texts)
    run_here("list", "x.bin")
    assert capsys.readouterr().out == "0\ta\\tb\tx\\ty\t\n1\tc\\nd\\x1b[2J\tz\\n\t\n"


def test_of_a_damaged_pack_the_rest_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    array("in.npz", 6)
    run_here("pack", "in.npz", "--block-images", "2", *LINEAR)
    damage("in.bin")
    run_here("list", "in.bin", code=1)
    found = capsys.readouterr()
    assert [line.split("\t")[0] for line in found.out.splitlines()] == ["0", "1", "4", "5"]
    assert "in.bin: is damaged" in found.err
    run_here("list", "in.npz", code=1)


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (["cats/*"], ["cats/a.png", "cats/b.png"]),
        (["*a.png"], ["cats/a.png", "dogs/a.png"]),
        (["?.png", "dogs/[a-c].png"], ["c.png", "dogs/a.png"]),
        (["cats/a.png"], ["cats/a.png"]),
        (["c.png", "--only", "3"], ["c.png", "dogs/a.png"]),
    ],
)  # fmt: skip
def test_images_are_taken_by_patterns(patterns: list[str], names: list[str]) -> None:
    folder()
    run_here("pack", "in", *LINEAR)
    run_here("unpack", "in.bin", *patterns, "-o", "out")
    assert listed("out") == names


def test_a_pattern_that_is_a_name_takes_that() -> None:
    folder()
    for name in ("y [1].png", "y 1.png"):
        shutil.copy("in/c.png", Path("in", name))
    run_here("pack", "in", *LINEAR)
    run_here("unpack", "in.bin", "y [1].png", "-o", "out")
    assert listed("out") == ["y [1].png"]
    run_here("unpack", "in.bin", "y [1-9].png", "-o", "other")
    assert listed("other") == ["y 1.png"]


def test_a_pattern_that_matches_nothing_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    folder()
    run_here("pack", "in", *LINEAR)
    for pattern in ("*.jpg", "cats", "CATS/*"):
        run_here("unpack", "in.bin", "c.png", pattern, "-o", "out", code=1)
        assert f"in.bin: there is no image whose name matches '{pattern}'" in said(capsys)
    for pattern, advice in (
        ("cats", "; 'cats/*' takes those of the folder"), ("cats/", "; 'cats/*' takes those of the folder"),
        ("0", "; --only 0 takes images by number"), ("*.jpg", ""),
    ):  # fmt: skip
        run_here("unpack", "in.bin", pattern, "-o", "out", code=1)
        assert said(capsys).endswith(f"matches '{pattern}'{advice}\n")
    assert not Path("out").exists()
    run_here("pack", "in", "--no-names", "-o", "bare.bin", *LINEAR)
    run_here("unpack", "bare.bin", "*", code=1)
    assert "has no names; --only takes numbers" in said(capsys)


def test_images_are_added_to_a_pack(capsys: pytest.CaptureFixture[str]) -> None:
    array("a.npz", 9, labels=True)
    array("b.npz", 5, seed=1, labels=True)
    run_here("pack", "a.npz", "-o", "all.bin", "-q", "30", "--block-images", "4", *LINEAR)
    before = decoded("all.bin")
    run_here("pack", "b.npz", "-o", "b.bin", "-q", "30", *LINEAR)
    capsys.readouterr()
    run_here("pack", "b.npz", "--append", "-o", "all.bin", "--effort", "0")
    text = said(capsys)
    assert re.search(
        r"all.bin: 5 images added, [0-9.]+ dB on average, 5 labels kept; 14 images in", text
    )
    assert np.array_equal(decoded("all.bin"), np.concatenate([before, decoded("b.bin")]))
    run_here("verify", "all.bin")
    with cvae.open_pack("all.bin") as pack:
        assert pack.reader.header.quality == 30
        assert pack.labels.tolist() == [*range(9), *range(5)]
        assert [place.images for place in pack.reader.blocks()] == [4, 4, 1, 5]
    assert here() == [
        "a.npz",
        "all.bin",
        "b.bin",
        "b.npz",
    ]  # nothing is left beside it


def test_what_is_added_gets_the_columns_of_the_pack() -> None:
    folder()
    array("a.npz", 2)
    run_here("pack", "in", "-o", "all.bin", "--fit", "--invert", *LINEAR)
    run_here("pack", "a.npz", "in", "--append", "-o", "all.bin", "--no-names", *FAST)
    with cvae.open_pack("all.bin") as pack:
        assert pack.names == ["c.png", "cats/a.png", "cats/b.png", "dogs/a.png", "", "",
                              "c.png", "cats/a.png", "cats/b.png", "dogs/a.png"]  # fmt: skip
        assert np.array_equal(pack[:4], pack[6:])
        assert pack.reader.header.inverted
        assert pack.reader.header.sizes
    np.savez("wide.npz", x_test=np.zeros((1, 20, 40), np.uint8))
    run_here("pack", "wide.npz", "--append", "-o", "all.bin", *FAST)  # is fitted as the others were
    with cvae.open_pack("all.bin") as pack:
        (_, block) = ((place, pack.reader.read(place)) for place in list(pack.reader.blocks())[-2:])
        assert block[1].sizes == [(40, 20)]


def test_an_append_that_fails_leaves_the_pack_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    array("a.npz", 6)
    np.savez("bad.npz", x_test=np.zeros((3, 9, 9), np.uint8))
    run_here("pack", "a.npz", "-o", "all.bin", "--block-images", "2", *LINEAR)
    before = Path("all.bin").read_bytes()
    cases = [
        (["a.npz", "-q", "3"], "all.bin: expected quality 50 of all images, found quality 3"),
        (["a.npz", "--invert"], "all.bin: expected no inversion of all images, found --invert"),
        (["a.npz", "--fit"], "all.bin: expected the size of the model of all images, found --fit"),
        (["a.npz", "-m", "mnist"], "all.bin: written by the model of id"),
        (["bad.npz"], "a pack has one model: without --append"),
        (["no.npz"], "no.npz"),
    ]
    for arguments, message in cases:
        run_here("pack", *arguments, "--append", "-o", "all.bin", "--effort", "0", code=1)
        assert message in said(capsys)
        assert Path("all.bin").read_bytes() == before
    damage("all.bin")
    run_here("pack", "a.npz", "--append", "-o", "all.bin", *FAST, code=1)
    assert "all.bin: damaged: block 1, images 2 to 3" in said(capsys)
    assert here() == ["a.npz", "all.bin", "bad.npz"]


@pytest.mark.parametrize(
    "output", [[], ["-o", "-"], ["-o", "out", "--workers", "1"], ["-o", "all.bin", "--force"]]
)
def test_append_needs_one_pack(output: list[str]) -> None:
    array("a.npz", 2)
    run_here("pack", "a.npz", "-o", "all.bin", *LINEAR)
    run_here("pack", "a.npz", "--append", *output, code=2)


@pytest.mark.parametrize("more", [["--workers", "2"], ["--shard-images", "1"]])
def test_an_archive_that_is_not_cut_is_named(
    more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder()
    with tarfile.open("in.tar", "w") as tar:
        tar.add("in", ".")
    run_here("pack", "in.tar", "-o", "out", *more, *FAST[:2], "-m", "linear-mnist")
    text = said(capsys)
    whole = "an archive or a pack is not cut: one worker makes one pack of it"
    assert f"cvae: warning: in.tar: {whole}\n" in text
    assert "\nout: 1 pack: " in text  # as it was typed
    for arguments in (["in", *more], ["in.tar", "--workers", "1"]):
        run_here("pack", *arguments, "-o", "out", "--force", *FAST[:2], "-m", "linear-mnist")
        assert whole not in said(capsys)


@pytest.mark.parametrize("name", ["none.bin", "a.npz", "."])
def test_append_needs_a_pack(name: str) -> None:
    array("a.npz", 2)
    run_here("pack", "a.npz", "--append", "-o", name, code=1)
    assert here() == ["a.npz"]


def parts() -> list[str]:
    for name, count, seed in (("a", 5, 0), ("b", 1, 1), ("c", 7, 2)):
        array(f"{name}.npz", count, seed, labels=True)
        run_here("pack", f"{name}.npz", "--block-images", "3", *LINEAR)
    return ["a.bin", "b.bin", "c.bin"]


def test_packs_are_put_together(capsys: pytest.CaptureFixture[str]) -> None:
    sources = parts()
    run_here("merge", *sources, "-o", "all.bin")
    assert "all.bin: 13 images in" in said(capsys)
    assert np.array_equal(decoded("all.bin"), np.concatenate([decoded(name) for name in sources]))
    run_here("verify", "all.bin")
    with cvae.open_pack("all.bin") as pack:
        assert pack.labels.tolist() == [*range(5), 0, *range(7)]
    Path("all.bin").write_bytes(data := Path("all.bin").read_bytes()[:-1])
    run_here("verify", "all.bin", code=1)
    assert data
    run_here("merge", *sources, "-o", "all.bin", code=1)
    assert "exists already" in said(capsys)
    run_here("merge", *sources, "-o", "all.bin", "--force")
    run_here("verify", "all.bin")


def test_nothing_is_coded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = parts()
    for name in ("find_codec", "open_model"):
        monkeypatch.setattr(f"cvae.codec.{name}", lambda *_: pytest.fail("a model was opened"))
    monkeypatch.setattr(packing, "encode", lambda *_, **__: pytest.fail("images were coded"))
    run_here("merge", *sources, "-o", "all.bin", "--quiet")
    payloads = []
    for name in (*sources, "all.bin"):
        with Path(name).open("rb") as file:
            reader = readers.open_file(file)
            payloads += [reader.read_packed(place) for place in reader.blocks()]
    half = len(payloads) // 2
    assert payloads[:half] == payloads[half:]


def test_a_flipped_byte_of_a_merged_pack_is_found() -> None:
    run_here("merge", *parts(), "-o", "all.bin", "--quiet")
    data = Path("all.bin").read_bytes()
    for at in range(0, len(data), 37):
        flipped = bytearray(data)
        flipped[at] ^= 4
        Path("all.bin").write_bytes(flipped)
        run_here("verify", "all.bin", code=1)


def test_a_folder_of_packs_becomes_one(capsys: pytest.CaptureFixture[str]) -> None:
    array("a.npz", 9, labels=True)
    run_here("pack", "a.npz", "-o", "out", "--workers", "1", "--shard-images", "4", *LINEAR)
    run_here("merge", "out", "-o", "all.bin")
    assert np.array_equal(decoded("all.bin"), decoded("out"))
    run_here("merge", "out", "-o", "out", code=2)
    folder()
    run_here("pack", "a.npz", "in", "-o", "mixed", "--workers", "1", *LINEAR)
    run_here("merge", "mixed", "-o", "no.bin", code=1)
    assert "mixed: part-00001.bin: expected no names as in mixed, found names" in said(capsys)


def test_packs_that_differ_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    array("a.npz", 3)
    array("l.npz", 3, labels=True)
    folder()
    run_here("pack", "a.npz", *LINEAR)
    cases = [
        (["a.npz", "-q", "9"], "quality 50", "quality 9"),
        (["a.npz", "--invert"], "images as they are", "inverted images"),
        (["a.npz", "--fit"], "no original sizes", "original sizes"),
        (["in"], "no names", "names"),
        (["l.npz"], "no labels", "labels"),
    ]
    for number, (arguments, expected, found) in enumerate(cases):
        run_here("pack", *arguments, "-o", f"{number}.bin", *LINEAR)
        run_here("merge", "a.bin", f"{number}.bin", "-o", "all.bin", code=1)
        assert f"{number}.bin: expected {expected} as in a.bin, found {found}" in said(capsys)
    run_here("pack", "a.npz", "-o", "other.bin", *FAST, "-m", "mnist")
    run_here("merge", "a.bin", "other.bin", "-o", "all.bin", code=1)
    assert "other.bin: expected model 0x" in said(capsys)
    assert not Path("all.bin").exists()


def test_a_damaged_part_is_named_and_nothing_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    sources = parts()
    damage("c.bin")
    run_here("merge", *sources, "-o", "all.bin", code=1)
    assert "c.bin: damaged: block 1, images 3 to 5" in said(capsys)
    os.truncate("b.bin", Path("b.bin").stat().st_size - 3)
    run_here("merge", *sources, "-o", "all.bin", code=1)
    assert "b.bin: damaged: the index" in said(capsys)
    run_here("merge", "a.bin", "no.bin", "-o", "all.bin", code=1)
    run_here("merge", "a.bin", "-o", "a.bin", "--force", code=2)
    run_here("merge", "a.bin", code=2)
    assert not Path("all.bin").exists()
