"""Batches of files: repeated, with many that fail alike, and with a list of what was skipped."""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

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
        heading, *rows = Path("skipped.tsv").read_text().splitlines()
        assert heading == "name\treason"
        found = dict(row.split("\t") for row in rows)
        assert found.pop("notes.txt") == "is no image"
        assert [name.rsplit("in/", 1)[1] for name in found] == [
            f"bad\\t{number}.png" for number in range(5)
        ]
        assert set(found.values()) == {"expected an image, found something else"}
    shutil.rmtree("out")
    run_here("encode", "in/good.png", *FAST, "--list-skipped", "skipped.tsv")
    assert Path("skipped.tsv").read_text() == "name\treason\n"


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
