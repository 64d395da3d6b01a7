"""Batches of files: repeated, with many that fail alike, and with a list of what was skipped."""

from __future__ import annotations

import shutil
import tarfile
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cvae

from ..conftest import SAMPLES, run_cvae, run_here
from .test_cli import error_line, names
from .test_packs import FAST

DIGITS = [SAMPLES / f"digit_{number}.png" for number in range(3)]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(workdir: Path) -> None:
    pass


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_a_batch_is_continued_where_it_ended(capsys: pytest.CaptureFixture[str]) -> None:
    run_here("encode", DIGITS[0], "-o", "coded/", *FAST)
    before = Path("coded/digit_0.bin").stat().st_mtime_ns
    capsys.readouterr()
    run_here("encode", *DIGITS, "-o", "coded/", "--effort", "0", "--skip-existing")
    (line,) = said(capsys)
    assert line.startswith("2 of 3 images encoded in ")
    assert line.endswith("; 1 skipped, as their results exist")
    assert Path("coded/digit_0.bin").stat().st_mtime_ns == before
    for command, source, output in (
        ("decode", "coded", "pictures"), ("denoise", "pictures", "clean"),
    ):  # fmt: skip
        for count in (3, 0):
            run_here(command, source, "-o", output, "--skip-existing")
            assert said(capsys)[-1].startswith(f"{count} of 3 ")
        assert len(names(output)) == 3
    run_here("encode", DIGITS[0], "-o", "coded/", "--skip-existing", "--force", code=2)


def test_many_files_that_fail_alike_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Path("in").mkdir()
    for number in range(5):
        shutil.copy(DIGITS[0], f"in/{number}.png")
    run_here("encode", "in", "-o", "out", *FAST)
    capsys.readouterr()
    run_here("encode", "in", "-o", "out", *FAST, code=1)
    (line,) = said(capsys)
    start = "cvae: error: 5 files: exists already: out/0.bin, out/1.bin, out/2.bin and 2 more; "
    assert line.startswith(start)
    assert "--skip-existing" in line
    run_here("encode", "in", "-o", "out", "-v", code=1)
    assert len(said(capsys)) == 6  # a line each, and the summary
    run_here("encode", "in", "-m", "tiles", "-o", "other", "--quiet", code=1)
    (line,) = said(capsys)
    assert line.startswith("cvae: error: 5 images: expected 32x32 RGB, found 28x28 grey: in/0.png")
    assert line.count("--fit") == 1


def test_a_list_names_everything_that_was_skipped_and_why(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("in").mkdir()
    shutil.copy(DIGITS[0], "in/good.png")
    for number in range(5):
        Path(f"in/bad\t{number}.png").write_text("text")
    Path("in/notes.txt").write_text("text")
    for command in (["encode", "in", "-o", "out"], ["pack", "in", "-o", "x.bin"]):
        run_here(*command, *FAST, "--list-skipped", "skipped.tsv", code=1)
        found = listed()
        assert found.pop("in/notes.txt") == "is no image"
        assert [name.rsplit("in/", 1)[1] for name in found] == [
            f"bad\\t{number}.png" for number in range(5)
        ]
        assert set(found.values()) == {"expected an image, found something else"}
    shutil.rmtree("out")
    run_here("encode", "in/good.png", *FAST, "--list-skipped", "skipped.tsv")
    assert Path("skipped.tsv").read_text() == "name\treason\n"


def test_many_that_come_back_badly_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Path("in").mkdir()
    for number in range(5):
        noise = np.random.default_rng(number).integers(0, 256, (28, 28), np.uint8)
        Image.fromarray(noise).save(f"in/{number}.png")
    command = "encode", "in", "--effort", "0", "-m", "mnist"
    run_here(*command, "-o", "out")
    line, _ = said(capsys)
    assert line.startswith("cvae: warning: 5 images: comes back at ")
    named, _, advice = line.rpartition("; ")
    assert named.endswith(" or alike: in/0.png, in/1.png, in/2.png and 2 more")
    assert advice.startswith("models fashion, ")
    run_here(*command, "-o", "more", "-v")
    assert sum("warning: in/" in line for line in said(capsys)) == 5


def listed() -> dict[str, str]:
    heading, *rows = Path("skipped.tsv").read_text().splitlines()
    assert heading == "name\treason"
    return dict(row.split("\t") for row in rows)


def test_several_workers_list_what_they_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    Path("in").mkdir()
    for number in range(120):
        Path(f"in/bad{number}.png").write_text("text")
    shutil.copy(DIGITS[0], "in/good.png")
    with tarfile.open("a.tar", "w") as archive:
        archive.add(DIGITS[0], "good.png")
        archive.add(__file__, "notes.txt")
    command = ["pack", "in", "a.tar", "-o", "out", "--workers", "1", "--shard-images", "200", *FAST]
    run_here(*command, "--list-skipped", "skipped.tsv", code=1)
    found = listed()
    assert found.pop(f"{Path.cwd()}/a.tar: notes.txt") == "is no image"
    assert len(found) == 120
    assert set(found.values()) == {"expected an image, found something else"}
    (error,) = said(capsys)
    assert error.startswith("cvae: error: 120 images: expected an image, found something else: ")
    run_here(*command, "--resume", "--list-skipped", "skipped.tsv", code=1)
    rows = Path("skipped.tsv").read_text().splitlines()[1:]  # what the manifest keeps
    assert len([row for row in rows if row.startswith("part-00000.bin\t")]) == 101
    assert rows[100] == "part-00000.bin\t20 more skipped"


def test_what_is_measured_or_checked_lists_what_is_skipped_damaged_or_missing() -> None:
    Path("in").mkdir()
    for path in DIGITS:
        shutil.copy(path, "in")
    run_here("encode", "in", "-o", "coded", *FAST)
    run_here("pack", "in", "-o", "x.bin", *FAST)
    Path("in/digit_0.png").unlink()
    Path("in/bad.png").write_text("text")
    Path("coded/digit_1.bin").write_bytes(Path("coded/digit_1.bin").read_bytes()[:-1])
    Path("x.bin").write_bytes(Path("x.bin").read_bytes()[:-1])
    lists = "--list-skipped", "skipped.tsv"
    run_here("eval", "in", *lists, code=1)
    assert listed() == {"in/bad.png": "expected an image, found something else"}
    run_here("verify", "coded", *lists, code=1)
    assert list(listed()) == ["coded/digit_1.bin"]
    run_here("verify", "coded", "--against", "in", *lists, code=1)
    found = listed()
    assert set(found) == {"coded/digit_1.bin", "digit_0.bin", "bad.png"}
    assert found["digit_0.bin"] == "in: has no original that can be read of it"
    assert found["bad.png"] == "in: there is no coded image of it"
    run_here("unpack", "x.bin", "--keep-going", *lists, code=1)
    assert list(listed()) == ["x.bin"]


def test_a_file_that_is_no_such_list_is_not_replaced() -> None:
    Path("a.png").write_bytes(DIGITS[0].read_bytes())
    result = run_cvae("encode", "a.png", "--list-skipped", "a.png", code=1)
    assert "a.png: exists already, and is no list" in error_line(result)
    assert names() == ["a.png"]


def test_what_a_failed_attempt_held_is_gone_when_files_are_tried_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("in").mkdir()
    for path in DIGITS[:2]:
        shutil.copy(path, "in")
    held: list[weakref.ref[np.ndarray]] = []

    def trying(method: str) -> None:
        before = getattr(cvae.Codec, method)

        def attempt(self: cvae.Codec, given: Sequence[object], *more: object) -> object:
            assert not any(item() is not None for item in held)
            made = given if isinstance(given, np.ndarray) else np.zeros(9)
            held.append(weakref.ref(made))
            if len(given) > 1:
                raise MemoryError
            return before(self, given, *more)

        monkeypatch.setattr(cvae.Codec, method, attempt)

    trying("encode_batch")
    run_here("encode", "in", "-o", "out", *FAST)
    trying("synthesized")
    run_here("decode", "out", "-o", "back")
    assert len(held) == 6
