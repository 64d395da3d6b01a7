"""Packs on the command line: what goes wrong, what is damaged, what is interrupted."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np
import pytest

import cvae
from cvae.bitstream import container
from cvae.options import EncodeOptions
from cvae.packs import layout
from cvae.packs.encode import encode_pack

from ..cli.test_packs import FAST, NAMES, errors, listed, tar_of
from ..conftest import SAMPLES, run_cvae, run_here

pytestmark = pytest.mark.filterwarnings("ignore::cvae.codec.QualityWarning")  # of blobs


@pytest.fixture(autouse=True)
def _in_an_empty_folder(workdir: Path) -> None:
    pass


@pytest.mark.parametrize(
    "arguments",
    [
        ["pack", "digits.npz", "--max-bytes", "9"],
        ["pack", "digits.npz", "-o", "x.npz"],
        ["pack", "digits.npz", "-o", "x.png"],
        ["pack", "digits.npz", "-o", "x.tar.gz"],
        ["pack", "digits.npz", str(SAMPLES)],
        ["pack", "digits.npz", "--workers", "2"],
        ["pack", "digits.npz", "--resume", "-o", "-"],
        ["pack", "-", "--shard-images", "9", "-o", "x"],
        ["encode", str(SAMPLES / NAMES[0]), "--no-names"],
        ["encode", str(SAMPLES / NAMES[0]), "-o", "x.png"],
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
        ("colour.npy", "32x32 with 3 channels; -m photo takes"),
    ],
)
def test_sources_that_cannot_be_read_are_one_line(
    source: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("text.npz", "text.npy", "text.tar.gz"):
        Path(name).write_text("this is text")
    np.save("colour.npy", np.zeros((2, 32, 32, 3), np.uint8))
    run_here("pack", source, "-o", "x.bin", "-m", "mnist", code=1)
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
        run_here("unpack", "bad.bin", "-o", "out.npz", code=1)
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("cvae: error: bad.bin: ")
    assert not Path("out.npz").exists()


def test_several_results_are_counted_with_their_bytes_and_folder(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("in").mkdir()
    data = (SAMPLES / NAMES[0]).read_bytes()
    for i in range(1000):
        Path(f"in/{i}.png").write_bytes(data)
    run_here("encode", "in", "-o", "out", "-m", "linear-mnist", "--effort", "0")
    (line,) = capsys.readouterr().err.splitlines()
    size = sum(path.stat().st_size for path in Path("out").iterdir())
    assert line.startswith(f"1,000 of 1,000 images encoded in {size:,} bytes")
    assert line.endswith("dB on average -> out/")
    run_here("decode", "out", "-o", "back/")
    (line,) = capsys.readouterr().err.splitlines()
    size = sum(path.stat().st_size for path in Path("back").iterdir())
    assert line == f"1,000 of 1,000 files decoded, {size:,} bytes -> back/"
    run_here("denoise", "in/0.png", "in/1.png")
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("2 of 2 images denoised, ")
    assert line.endswith(" bytes -> the current folder")


def test_why_a_pack_gives_no_image_is_said(
    digits: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    cvae.encode_pack([], "empty.bin", "linear-mnist")
    run_here("pack", "digits.npz", *FAST)
    for arguments, message in (
        (["empty.bin"], "empty.bin: holds no images"),
        (
            ["digits.bin", "--only", "000017.png"],
            "'000017.png'; this pack has no names; --only takes numbers",
        ),
    ):
        run_here("unpack", *arguments, "-o", "never", code=1)
        assert message in errors(capsys)[0]
    assert not Path("never").exists()


@pytest.mark.parametrize(
    "command",
    [["pack", "digits.npz"], ["unpack", "x.bin"], ["encode", str(SAMPLES / NAMES[0])],
     ["decode", "y.bin"]],
)  # fmt: skip
@pytest.mark.parametrize("output", ["/dev/stdout", "/dev/null", "pipe"])
def test_devices_and_pipes_are_no_outputs_but_stdout_has_a_name(
    digits: np.ndarray, command: list[str], output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_here("pack", "digits.npz", "-o", "x.bin", *FAST)
    os.mkfifo("pipe")
    run_here(*command, "-o", output, "--force", code=2)
    assert f"-o {output} is a device or a pipe" in capsys.readouterr().err


def test_info_of_a_file_that_is_not_there_speaks_of_files(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("missing.bin", "missing/x", "missing/", "missing.NPZ"):
        run_here("info", name, code=1)
        assert errors(capsys) == [f"cvae: error: {name}: no such file, and no model of that name"]
    run_here("info", "missing", code=2)
    assert "no model named 'missing'; known are" in errors(capsys)[0]


def test_a_missing_model_is_told_from_damage(
    digits: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    with Path("x.bin").open("wb") as file:
        layout.Writer(file, layout.Header(0xFFFE, 50)).close()
    run_here("unpack", "x.bin", "-o", "out", code=1)
    assert "no model of id 0xfffe" in errors(capsys)[0]


def encoding_half_a_tar() -> tuple[subprocess.Popen[bytes], IO[bytes]]:
    """A process that has begun to write a pack and waits for the rest, and where that would go."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cvae", "pack", "-", "-o", "x.bin", *FAST],
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


def resealed(number: int, payload: bytes, source: str = "x.bin") -> bytes:
    """A pack with another payload in one block, whose checks hold."""
    with cvae.open_pack(source) as pack:
        blocks = [pack.reader.read(place) for place in pack.reader.blocks()]
        buffer = io.BytesIO()
        writer = layout.Writer(buffer, pack.reader.header)
    blocks[number] = replace(blocks[number], payload=payload)
    for block in blocks:
        writer.write(block)
    writer.close()
    return buffer.getvalue()


@pytest.mark.parametrize("payload", [b"", b"text", b"\x01\x00" + bytes(300), b"\xff" * 90])
@pytest.mark.parametrize("output", ["back.npz", "back.npy", "back.tar", "back"])
def test_a_block_that_was_made_up_costs_itself_alone(
    digits: np.ndarray, payload: bytes, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    codec = cvae.open_model("linear-mnist")
    names = [f"{number}.png" for number in range(8)]
    options = EncodeOptions(quality=10, effort=0, block_images=2)
    encode_pack(digits[:8], "x.bin", codec, options, names)
    Path("bad.bin").write_bytes(resealed(1, payload))
    capsys.readouterr()
    run_here("unpack", "bad.bin", "-o", output, code=1)
    (line,) = errors(capsys)
    assert line.startswith("cvae: error: bad.bin: damaged: block 1, images 2 to 3: ")
    assert not Path(output).exists()
    run_here("unpack", "bad.bin", "-o", output, "--keep-going", code=1)
    (line,) = errors(capsys)
    assert "images 2 to 3" in line
    with cvae.open_pack("x.bin") as pack:
        expected = pack.images([0, 1, 4, 5, 6, 7])[..., 0]
    if output == "back.npz":
        assert np.array_equal(np.load(output)["images"], expected)
    if output == "back":
        assert listed("back") == [f"{number}.png" for number in (0, 1, 4, 5, 6, 7)]


def test_a_made_up_block_of_a_lossless_pack_leaves_nothing_behind(digits: np.ndarray) -> None:
    codec = cvae.open_model("lossless-mnist")
    names = [f"{number}.png" for number in range(6)]
    encode_pack(digits[:6], "x.bin", codec, EncodeOptions(block_images=2), names)
    Path("bad.bin").write_bytes(resealed(1, b""))
    for output in ("back.tar", "back.npz", "back", "-"):
        result = run_cvae("unpack", "bad.bin", "-o", output, code=1)
        assert result.stdout == b""
        assert b"block 1, images 2 to 3: " in result.stderr
        assert b"--keep-going decodes what is whole" in result.stderr
        assert not Path(output).exists()
    run_here("unpack", "bad.bin", "-o", "back", "--keep-going", code=1)
    assert listed("back") == [f"{number}.png" for number in (0, 1, 4, 5)]


def test_a_block_that_was_made_up_is_lost_to_measurements_alone(
    digits: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    codec = cvae.open_model("linear-mnist")
    encode_pack(digits[:8], "x.bin", codec, EncodeOptions(quality=10, effort=0, block_images=2))
    np.save("originals.npy", digits[:8])
    Path("bad.bin").write_bytes(resealed(1, b"text"))
    capsys.readouterr()
    run_here("verify", "bad.bin", "x.bin", "--against", "originals.npy", "--json", code=1)
    said = capsys.readouterr()
    assert [result["lost"] for result in json.loads(said.out)] == [2, 0]
    (line,) = said.err.splitlines()
    assert "bad.bin: damaged: block 1" in line


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_info_of_what_is_damaged_tells_all_it_knows_and_exits_with_one(
    digits: np.ndarray, as_json: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run_here("pack", "digits.npz", "-o", "x.bin", *FAST)
    run_here("pack", "digits.npz", "-o", "packs", "--shard-images", "40", *FAST)
    run_here("encode", SAMPLES / NAMES[0], "-o", "y.bin", *FAST)
    data = bytearray(Path("x.bin").read_bytes())
    data[100] ^= 1
    Path("x.bin").write_bytes(data)
    Path("packs/part-00001.bin").unlink()
    Path("cut.bin").write_bytes(data[:-20])
    Path("y.bin").write_bytes(Path("y.bin").read_bytes()[:-1])
    for file in ("x.bin", "packs", "cut.bin", "y.bin"):
        capsys.readouterr()
        run_here("info", file, *as_json, code=1)
        said = capsys.readouterr()
        (line,) = said.err.splitlines()
        assert line.startswith(f"cvae: error: {file}: ")
        assert "damaged" in line
        assert ("quality" in said.out) == (file != "y.bin")


def test_of_several_files_that_are_checked_a_bad_one_costs_itself_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_here("encode", SAMPLES / NAMES[0], "-o", "a.bin", *FAST)
    Path("in").mkdir()
    good = Path("a.bin").read_bytes()
    later = b"\xc4" + good[1:-2]
    os.mkfifo("pipe")
    for name, data in (
        ("a", good), ("b", good[:-1]), ("c", later + container._check(later, 0)), ("z", good),
    ):  # fmt: skip
        Path(f"in/{name}.bin").write_bytes(data)
    capsys.readouterr()
    run_here("verify", "in", "pipe", "in/c.bin", "missing", "in/z.bin", code=1)
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        "in: 2 of 4 files, damaged", "pipe: unknown kind of file, not checked",
        "in/c.bin: container, not checked", "in/z.bin: container, whole",
    ]  # fmt: skip
    later_line = (
        "in/c.bin: has version 1 and kind 0, which this cvae does not know; a later one may"
    )
    lines = [line.removeprefix("cvae: error: ") for line in said.err.splitlines()]
    assert [line.split(":")[0] for line in lines] == [
        "in/b.bin",
        "in/c.bin",
        "in/c.bin",  # what is alike stands together
        "pipe",
        "missing",
    ]
    assert lines[1] == lines[2] == later_line


def test_stdin_that_is_no_pack_is_not_kept_on_disk(tmp_path: Path) -> None:
    with Path("/dev/zero").open("rb") as endless:
        result = subprocess.run(
            [sys.executable, "-m", "cvae", "unpack", "-", "-o", "back"],
            stdin=endless, capture_output=True, timeout=60, check=False,
        )  # fmt: skip
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1


def test_advice_is_in_the_words_of_who_asked(
    digits: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    cvae.encode_pack(digits[:2], "x.bin", "linear-mnist")
    with pytest.raises(
        cvae.OutputError, match="exists already; another name keeps it, force=True over"
    ):
        cvae.encode_pack(digits[:2], "x.bin", "linear-mnist")
    data = cvae.encode(digits[0])
    packed = Path("x.bin").read_bytes()
    with pytest.raises(cvae.FormatError, match=r"`cvae\.open_pack`"):
        cvae.decode(packed)
    assert data
    run_here("pack", "digits.npz", "-o", "x.bin", *FAST, code=1)
    wrong = "exists already; -o elsewhere keeps it, --force overwrites it"
    assert errors(capsys)[0] == f"cvae: error: x.bin: {wrong}"
    Path("x.csv").touch()
    run_here("eval", "digits.npz", "--csv", "x.csv", code=1)
    wrong = "exists already; another name keeps it, --force overwrites it"
    assert errors(capsys)[0] == f"cvae: error: x.csv: {wrong}"
