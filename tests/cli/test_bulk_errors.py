"""Packs on the command line: what goes wrong, what is damaged, what is interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import numpy as np
import pytest

import cvae
from cvae.codec import EncodeOptions
from cvae.packs import layout as pack
from cvae.packs.encode import encode_pack

from ..cli.test_bulk import FAST, NAMES, errors, listed, tar_of
from ..conftest import SAMPLES, run_here


@pytest.fixture(autouse=True)
def _in_an_empty_folder(workdir: Path) -> None:
    pass


@pytest.mark.parametrize(
    "arguments",
    [
        ["encode", "digits.npz", "--max-bytes", "9"],
        ["encode", "digits.npz", "-o", "x.npz"],
        ["encode", "digits.npz", str(SAMPLES)],
        ["encode", str(SAMPLES / NAMES[0]), "--no-names"],
        ["decode", "nothing.bin", "--only", "3"],
    ],
)
def test_what_makes_no_sense_is_wrong_usage(digits: np.ndarray, arguments: list[str]) -> None:
    run_here(*arguments, code=2)
    assert listed(".") == ["digits.npz"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("missing.npz", "missing.npz"),
        ("missing.tar", "missing.tar"),
        ("text.npz", "text.npz"),
        ("text.npy", "text.npy"),
        ("text.tar.gz", "text.tar.gz"),
        ("colour.npy", "32x32 with 3 channels; `cvae models`"),
    ],
)
def test_sources_that_cannot_be_read_are_one_line(
    source: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("text.npz", "text.npy", "text.tar.gz"):
        Path(name).write_text("this is text")
    np.save("colour.npy", np.zeros((2, 32, 32, 3), np.uint8))
    run_here("encode", source, "-o", "x.bin", code=1)
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not Path("x.bin").exists()


def test_every_damaged_pack_is_decoded_right_or_refused_in_one_line(
    digits: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    codec = cvae.open_model("linear-mnist")
    encode_pack(digits[:4], "x.bin", codec, EncodeOptions(quality=10, effort=0, block_images=2))
    data = Path("x.bin").read_bytes()
    damaged = [data[:cut] for cut in range(1, len(data), 17)]
    damaged += [
        data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :] for at in range(0, len(data), 11)
    ]
    capsys.readouterr()
    for item in damaged:
        Path("bad.bin").write_bytes(item)
        run_here("decode", "bad.bin", "-o", "out.npz", code=1)
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("cvae: error: bad.bin: ")
    assert not Path("out.npz").exists()


def test_a_pack_among_other_files_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    run_here("encode", SAMPLES, "-o", "x.bin", *FAST)
    run_here("encode", SAMPLES / NAMES[0], "-o", "y.bin", *FAST)
    capsys.readouterr()
    run_here("decode", "x.bin", "y.bin", "-o", "back", "--quiet", code=1)
    (line,) = errors(capsys)
    advice = "it is a pack; packs are decoded one at a time: cvae decode x.bin"
    assert line == f"cvae: error: x.bin: {advice}"
    assert listed("back") == ["y_reconstructed.png"]


def test_large_counts_of_single_files_are_written_as_those_of_packs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("in").mkdir()
    data = (SAMPLES / NAMES[0]).read_bytes()
    for i in range(1000):
        Path(f"in/{i}.png").write_bytes(data)
    run_here("encode", "in", "-o", "out", "-m", "linear-mnist", "--effort", "0")
    assert "1,000 of 1,000 images encoded in" in capsys.readouterr().err
    run_here("decode", "out", "-o", "back")
    assert "1,000 of 1,000 files decoded" in capsys.readouterr().err


def test_why_a_pack_gives_no_image_is_said(
    digits: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    cvae.encode_pack([], "empty.bin", "linear-mnist")
    run_here("encode", "digits.npz", *FAST)
    for arguments, message in (
        (["empty.bin"], "empty.bin: holds no images"),
        (
            ["digits.bin", "--only", "000017.png"],
            "'000017.png' (this pack has no names; use numbers",
        ),
    ):
        run_here("decode", *arguments, "-o", "never", code=1)
        assert message in errors(capsys)[0]
    assert not Path("never").exists()


@pytest.mark.parametrize("command", [["encode", "digits.npz"], ["decode", "x.bin"]])
@pytest.mark.parametrize("output", ["/dev/stdout", "/dev/null", "pipe"])
def test_devices_and_pipes_are_no_outputs_but_stdout_has_a_name(
    digits: np.ndarray, command: list[str], output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_here("encode", "digits.npz", "-o", "x.bin", *FAST)
    os.mkfifo("pipe")
    run_here(*command, "-o", output, "--force", code=1)
    assert f"{output}: is a device or a pipe" in errors(capsys)[0]


def test_info_of_a_file_that_is_not_there_speaks_of_files(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("missing.bin", "missing/x", "missing/", "missing.NPZ"):
        run_here("info", name, code=1)
        assert errors(capsys) == [f"cvae: error: {name}: no such file, and no model of that name"]
    run_here("info", "missing", code=1)
    assert "no model named 'missing'; known are" in errors(capsys)[0]


def test_pack_options_for_one_image_say_that_it_makes_none(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_here("encode", SAMPLES / NAMES[0], "-o", "x.bin", "--no-verify", code=2)
    assert "one image makes no pack" in capsys.readouterr().err
    run_here("encode", SAMPLES, "--no-verify", code=2)
    assert "name a file with -o" in capsys.readouterr().err


def test_a_missing_model_is_told_from_damage(
    digits: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    with Path("x.bin").open("wb") as file:
        pack.Writer(file, pack.Header(0xFFFE, 50)).close()
    run_here("decode", "x.bin", "-o", "out", code=1)
    assert "no model of id 0xfffe" in errors(capsys)[0]


def encoding_half_a_tar() -> tuple[subprocess.Popen[bytes], IO[bytes]]:
    """A process that has begun to write a pack and waits for the rest, and where that would go."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cvae", "encode", "-", "-o", "x.bin", *FAST],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    data = tar_of(SAMPLES)
    process.stdin.write(data[: len(data) // 2])
    process.stdin.flush()
    deadline = time.monotonic() + 60
    while not list(Path().glob(".cvae-*")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process, process.stdin


def test_a_killed_process_leaves_no_pack_under_the_final_name() -> None:
    process, stdin = encoding_half_a_tar()
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    stdin.close()
    assert not Path("x.bin").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_a_tar_is_awaited_is_no_traceback_and_leaves_nothing(
    number: signal.Signals,
) -> None:
    process, stdin = encoding_half_a_tar()
    process.send_signal(number)
    # The pipe stays open: nobody waits for its end.
    assert process.wait(timeout=60) == 130
    stdin.close()
    assert process.stderr is not None
    stderr = process.stderr.read()
    process.stderr.close()
    assert b"Traceback" not in stderr
    assert b"Fatal" not in stderr
    assert listed(".") == []
