"""The command line as people use it, in processes of its own."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cvae
from cvae.cli import encode

from ..conftest import SAMPLES, SHIPPED, blobs, run_cvae
from ..data.test_images import header_only

DIGIT = SAMPLES / "digit_3.png"


@pytest.fixture(autouse=True)
def _in_an_empty_folder(workdir: Path) -> None:
    pass


def names(folder: str = ".") -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in Path(folder).rglob("*") if p.is_file())


def error_line(result: subprocess.CompletedProcess[bytes]) -> str:
    """The one line on stderr that says what is wrong."""
    lines = result.stderr.decode().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("cvae: error: ")
    return lines[0]


def test_encode_and_decode_with_no_flags_and_again_with_force() -> None:
    for force in ([], ["--force"]):
        run_cvae("encode", DIGIT, *force)
        run_cvae("decode", "digit_3.bin", *force)
    assert names() == ["digit_3.bin", "digit_3_reconstructed.png"]
    assert Path("digit_3.bin").stat().st_size <= 17
    assert Image.open("digit_3_reconstructed.png").size == (28, 28)
    assert "exists already" in error_line(run_cvae("encode", DIGIT, code=1))
    assert "exists already" in error_line(run_cvae("decode", "digit_3.bin", code=1))


def test_pipes_give_the_same_picture_as_files() -> None:
    run_cvae("encode", DIGIT)
    run_cvae("decode", "digit_3.bin")
    coded = run_cvae("encode", "-", stdin=DIGIT.read_bytes()).stdout
    assert coded == Path("digit_3.bin").read_bytes()
    picture = run_cvae("decode", "-", "-o", "-", stdin=coded).stdout
    assert picture == Path("digit_3_reconstructed.png").read_bytes()
    assert run_cvae("encode", DIGIT, "-o", "-").stdout == coded


def test_many_images_and_folders_keep_their_names_and_places() -> None:
    Path("in/deep").mkdir(parents=True)
    for name in ("in/a.png", "in/deep/b.png"):
        Path(name).write_bytes(DIGIT.read_bytes())
    run_cvae("encode", "in", DIGIT, "-o", "out")
    assert names("out") == ["a.bin", "deep/b.bin", "digit_3.bin"]
    run_cvae("decode", "out", "-o", "back")
    assert names("back") == [
        "a_reconstructed.png",
        "deep/b_reconstructed.png",
        "digit_3_reconstructed.png",
    ]


def test_a_bad_file_among_good_ones_is_named_and_skipped() -> None:
    Path("bad.png").write_text("this is text")
    good = [SAMPLES / f"digit_{i}.png" for i in (0, 1)]
    result = run_cvae("encode", good[0], "bad.png", good[1], "-o", "out", "--quiet", code=1)
    assert "bad.png" in error_line(result)
    assert names("out") == ["digit_0.bin", "digit_1.bin"]
    Path("out/bad.bin").write_text("this is text")
    result = run_cvae("decode", "out", "-o", "back", "--quiet", code=1)
    assert "bad.bin" in error_line(result)
    assert len(names("back")) == 2


def sealed(data: bytes, **changes: Any) -> bytes:
    """A container with other fields, which is whole."""
    from cvae.bitstream import container

    return container.pack(replace(container.unpack(data), **changes))


def test_whatever_is_wrong_with_some_files_all_others_come_out() -> None:
    run_cvae("encode", DIGIT, "-o", "a.bin", "--quiet")
    run_cvae("pack", SAMPLES, "-o", "pack.bin", "--quiet", "--effort", "0")
    good = Path("a.bin").read_bytes()
    bad = {
        "payload": sealed(good, payload=b"\xff" * 90), "longer": good[:-2], "text": b"text",
        "empty": b"", "pack": Path("pack.bin").read_bytes(), "unknown": sealed(good, model_id=0),
        "large": sealed(good, original_size=(8000, 8000)),
        "wide": sealed(good, original_size=(65535, 65535)), "later": b"\xc4" + good[1:],
        "staged": sealed(good, staged=True, original_size=(9, 9)),
    }  # fmt: skip
    Path("in").mkdir()
    for name, data in bad.items():
        Path(f"in/{name}.bin").write_bytes(data)
    for number in range(300):  # two batches
        Path(f"in/{'a' if number % 2 else 'z'}{number}.bin").write_bytes(good)
    os.mkfifo("pipe.bin")
    result = run_cvae("decode", "in", "pipe.bin", "missing.bin", "-o", "out", "--quiet", code=1)
    assert len(names("out")) == 300
    lines = result.stderr.decode().splitlines()
    named = {Path(line.split(": ")[2]).stem for line in lines}
    assert named == {*bad, "pipe", "missing"}
    assert len(lines) == len(named)


def test_a_model_that_is_damaged_costs_its_own_files_alone(tiny_model: Path) -> None:
    Path("models").mkdir()
    with zipfile.ZipFile(tiny_model) as source, zipfile.ZipFile("models/tiny.cvae", "w") as damaged:
        for item in source.infolist():
            data = source.read(item)
            damaged.writestr(item, b"text" if item.filename == "synthesis.onnx" else data)
    pixels = cvae.open_model(tiny_model).encode(blobs(1)[0])
    run_cvae("encode", DIGIT, "-o", "in/good.bin", "--quiet")
    for number in range(3):
        Path(f"in/bad{number}.bin").write_bytes(pixels)
    env = {"CVAE_MODELS": str(Path("models").absolute())}
    result = run_cvae("decode", "in", "-o", "out", "--quiet", code=1, env=env)
    assert names("out") == ["good_reconstructed.png"]
    lines = result.stderr.decode().splitlines()
    assert [line.split(": ")[2] for line in lines] == [f"in/bad{number}.bin" for number in range(3)]


def test_from_python_the_bad_one_of_many_containers_is_named() -> None:
    codec = cvae.open_model()
    good = codec.encode(np.zeros((28, 28), np.uint8))
    for bad, text in (
        (b"text", "not a cvae container"),
        (sealed(good, payload=b"\xff" * 90), "damaged"),
    ):
        with pytest.raises(cvae.FormatError, match=f"^container 2: {text}"):
            codec.decode([good, good, bad, good])
        with pytest.raises(cvae.FormatError, match=f"^{text}"):
            codec.decode(bad)


def test_a_small_file_is_not_restored_to_any_size_it_claims() -> None:
    good = cvae.open_model().encode(np.zeros((28, 28), np.uint8))
    Path("most.bin").write_bytes(sealed(good, original_size=(4000, 4000)))
    Path("more.bin").write_bytes(sealed(good, original_size=(4000, 4001)))
    peak = run_measured("decode", "most.bin", "-o", "most.png")
    assert peak < 400
    line = error_line(run_cvae("decode", "more.bin", code=1))
    assert line == (
        "cvae: error: more.bin: expected an image of at most 16,000,000 pixels, found 4000x4001; "
        "--max-pixels N allows more"
    )
    run_cvae("decode", "more.bin", "-o", "more.png", "--max-pixels", "16004000")
    with Image.open("more.png") as image:
        assert image.size == (4000, 4001)
    assert "100 pixels" in error_line(run_cvae("decode", "most.bin", "--max-pixels", "100", code=1))
    run_cvae("decode", "more.bin", "--max-pixels", "64000001", code=2)


def run_measured(*arguments: str) -> float:
    """The peak of a command's memory, in megabytes."""
    code = (
        "import resource, subprocess, sys; "
        "subprocess.run([sys.executable, '-m', 'cvae', *sys.argv[1:]], check=True); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, *arguments], check=True, capture_output=True
    )
    return int(found.stdout.split()[-1]) / 1024


def test_python_has_the_same_bound_and_its_own_words_for_it() -> None:
    data = cvae.open_model().encode(np.zeros((28, 28), np.uint8))
    large = sealed(data, original_size=(5000, 4000))
    with pytest.raises(cvae.FormatError, match="found 5000x4000; max_pixels=N allows more"):
        cvae.decode(large)
    assert cvae.decode(large, max_pixels=20_000_000).shape == (4000, 5000)
    assert cvae.open_model(max_pixels=20_000_000).decode(large).shape == (4000, 5000)
    for wrong in (0, 64_000_001, "many", 1.5):
        with pytest.raises(cvae.CvaeError, match="expected max_pixels of 1 to 64,000,000"):
            cvae.open_model(max_pixels=wrong)  # type: ignore[arg-type]


def test_what_would_not_be_restored_is_not_written() -> None:
    Image.new("L", (4000, 4001)).save("large.png")
    Image.new("L", (40, 40)).save("small.png")
    for command in (["encode"], ["pack", "-o", "x.bin"]):
        result = run_cvae(*command, "large.png", "small.png", "-m", "mnist", "--fit", "-f", code=1)
        (line,) = [line for line in result.stderr.decode().splitlines() if "error" in line]
        assert line.startswith(
            "cvae: error: large.png: expected at most 16,000,000 pixels, found 4000x4001"
        )
        assert line.endswith("--max-pixels N allows more")
        more = ["--max-pixels", "16004000"]
        run_cvae(*command, "large.png", "small.png", "-m", "mnist", "--fit", "-f", *more)
    run_cvae("decode", "large.bin", "-o", "back.png", "--max-pixels", "16004000")
    run_cvae("unpack", "x.bin", "-o", "back", code=1)
    # Nothing of this restores anything.
    for command in (["verify"], ["info"], ["unpack", "-o", "back.npz"]):
        run_cvae(*command, "x.bin")
    for command in (["verify"], ["info"]):
        run_cvae(*command, "large.bin")
    run_cvae("unpack", "x.bin", "-o", "back", "--max-pixels", "16004000")
    for name in ("back.png", "back/large.png"):
        with Image.open(name) as image:
            assert image.size == (4000, 4001)


def test_damage_in_one_payload_spares_the_other_files() -> None:
    from cvae.bitstream import container

    run_cvae("encode", SAMPLES, "-o", "out", "--quiet")
    path = Path("out/digit_3.bin")
    item = container.unpack(path.read_bytes())
    # A container that is whole and whose payload no encoder writes.
    longer = container.Container(item.model_id, item.quality, item.payload + b"\x00")
    path.write_bytes(container.pack(longer))
    result = run_cvae("decode", "out", "-o", "back", "--quiet", code=1)
    assert "digit_3.bin" in error_line(result)
    assert len(names("back")) == 9


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("text.png", b"this is text"),
        ("empty.png", b""),
        ("cut.png", DIGIT.read_bytes()[:100]),
        ("giant.png", header_only(100_000, 100_000)),
        ("large.png", header_only(5_000, 5_000)),
    ],
)
@pytest.mark.parametrize("fit", [[], ["--fit"]])
def test_hostile_images_are_one_line_and_leave_nothing(
    name: str, data: bytes, fit: list[str]
) -> None:
    Path(name).write_bytes(data)
    assert name in error_line(run_cvae("encode", name, *fit, code=1))
    assert names() == [name]


def test_hostile_containers_are_one_line_and_leave_nothing() -> None:
    run_cvae("encode", DIGIT, "--quiet")
    data = Path("digit_3.bin").read_bytes()
    bits = [data[: i // 8] + bytes([data[i // 8] ^ 1 << i % 8]) + data[i // 8 + 1 :]
            for i in range(0, 8 * len(data), 5)]  # fmt: skip
    Path("bad").mkdir()
    damaged = [data[:cut] for cut in range(len(data))] + bits
    for number, item in enumerate(damaged):
        Path(f"bad/{number}.bin").write_bytes(item)
    result = run_cvae("decode", "bad", "-o", "out", "--quiet", code=1)
    lines = result.stderr.decode().splitlines()
    assert len(lines) == len(damaged)
    assert all(line.startswith("cvae: error: bad/") for line in lines)
    assert not names("out")
    Path("one.bin").write_bytes(damaged[-1])
    assert "one.bin" in error_line(run_cvae("decode", "one.bin", code=1))


def test_empty_stdin_is_one_line() -> None:
    assert "stdin" in error_line(run_cvae("encode", "-", code=1))
    assert "stdin" in error_line(run_cvae("decode", "-", code=1))


def test_missing_and_wrong_models_are_one_line() -> None:
    Path("mnist.bin").write_bytes(cvae.encode(np.asarray(Image.open(DIGIT))))
    cvae.encode_pack([Image.open(DIGIT)], "pack.bin")
    for command in (
        ["encode", DIGIT], ["decode", "mnist.bin"], ["pack", DIGIT], ["unpack", "pack.bin"],
        ["eval", DIGIT], ["denoise", DIGIT], ["sample"], ["interpolate", DIGIT, DIGIT],
    ):  # fmt: skip
        line = error_line(run_cvae(*command, "-m", "moon", code=2))
        assert "there is no model named 'moon'; known are: " in line
    Path("mnist.bin").unlink()
    Path("pack.bin").unlink()
    assert "no.cvae" in error_line(run_cvae("encode", DIGIT, "-m", "no.cvae", code=1))
    run_cvae("encode", DIGIT)
    line = error_line(run_cvae("decode", "digit_3.bin", "-m", "linear-mnist", code=1))
    assert "digit_3.bin" in line
    assert "linear-mnist" in line
    assert names() == ["digit_3.bin"]


def test_missing_inputs_and_unwritable_outputs_are_one_line() -> None:
    assert "nowhere.png" in error_line(run_cvae("encode", "nowhere.png", code=1))
    assert "nowhere.bin" in error_line(run_cvae("decode", "nowhere.bin", code=1))
    assert "nowhere" in error_line(run_cvae("eval", "nowhere", code=1))
    assert "nowhere" in error_line(run_cvae("info", "nowhere", code=1))
    Path("file").write_text("")
    result = run_cvae("encode", DIGIT, "-o", "file/x.bin", code=1)
    assert "file" in error_line(result)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["encode", "a.png", "a.bin"], "a.bin is no input; name the output with -o"),
        (["encode", "a.png", "coded.bin"], "coded.bin is no input; name the output with -o"),
        (["encode", "a.png", "text.bin"], "text.bin is no input; name the output with -o"),
        (["encode", "a.png", "a.npy"], "a.npy is no input; name the output with -o"),
        (["decode", "coded.bin", "b.png"], "b.png is no input; name the output with -o"),
        (["decode", "coded.bin", "a.png"], "a.png is no input; name the output with -o"),
        (["pack", "a.png", "new.bin"], "new.bin is no input; name the output with -o"),
        (["encode", "a.png", "b.png", "-o", "x.bin"], "found several images"),
        (["encode", "a.png", "b.png", "-o", "-"], "stdout takes one image"),
        (["decode", "coded.bin", "c.bin", "-o", "x.png"], "several inputs need a folder"),
        (["decode", "coded.bin", "c.bin", "-o", "-"], "one input for stdout"),
        (["decode", "coded.bin", "-o", "coded.bin", "-f"], "input and output at once"),
        (["decode", "x.npy"], "takes -m and -q"),
        (["decode", "x.npy", "-m", "mnist"], "takes -m and -q"),
        (["encode", "http://host/a.png"], "is a URL"),
        (["decode", "coded.bin", "-o", "/dev/null"], "is a device or a pipe"),
        (["unpack", "packed.bin", "--only", "5-3"], "the smaller number first"),
        (["interpolate", "-", "-"], "one image from stdin"),
    ],
)
def test_wrong_usage_exits_with_two_and_says_what_is_right(
    command: list[str], message: str
) -> None:
    Path("a.png").write_bytes(DIGIT.read_bytes())
    run_cvae("encode", "a.png", "-o", "coded.bin", "--quiet")
    run_cvae("pack", "a.png", "-o", "packed.bin", "--quiet")
    Path("text.bin").write_text("text")
    before = names()
    assert message in run_cvae(*command, code=2).stderr.decode()
    assert names() == before


def test_wrong_usage_exits_with_two() -> None:
    run_cvae("encode", code=2)
    run_cvae("encode", DIGIT, "-q", "101", code=2)
    run_cvae("unknown", code=2)


def test_the_quality_is_written_and_read() -> None:
    run_cvae("encode", DIGIT, "-q", "90", "-o", "q90.bin")
    run_cvae("encode", DIGIT, "-q", "10", "-o", "q10.bin")
    facts = [json.loads(run_cvae("info", f, "--json").stdout) for f in ("q90.bin", "q10.bin")]
    assert [fact["quality"] for fact in facts] == [90, 10]
    assert facts[0]["file_bytes"] > facts[1]["file_bytes"]
    assert facts[0]["model"] == "mnist"


def test_fit_converts_resizes_and_restores_the_original_size() -> None:
    Image.open(DIGIT).convert("RGB").resize((56, 84)).save("large.png")
    assert "--fit" in error_line(run_cvae("encode", "large.png", "-m", "mnist", code=1))
    run_cvae("encode", "large.png", "-m", "mnist", "--fit")
    run_cvae("decode", "large.bin", "-o", "back.png")
    assert Image.open("back.png").size == (56, 84)


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [(-128, 127, np.int8), (-129, 0, np.int16), (0, 128, np.int16), (5, 5, np.int8)],
)
def test_symbols_as_npy_keep_their_values(low: int, high: int, dtype: type) -> None:
    symbols = np.array([low, high], np.int32)
    found = np.load(io.BytesIO(encode._npy(symbols)))
    assert found.dtype == dtype
    assert found.tolist() == [low, high]


def test_a_dark_digit_on_white_gets_the_hint_and_invert_brings_it_back() -> None:
    dark = 255 - np.asarray(Image.open(DIGIT))
    Image.fromarray(dark).save("dark.png")
    assert b"--invert" in run_cvae("encode", "dark.png").stderr
    assert b"warning" not in run_cvae("encode", "dark.png", "--invert", "--force").stderr
    run_cvae("decode", "dark.bin", "-o", "back.png")
    back = np.asarray(Image.open("back.png")).astype(float)
    assert 10 * np.log10(255**2 / np.mean((back - dark) ** 2)) > 22


def test_invert_that_is_wrong_gets_the_hint_to_leave_it_out() -> None:
    assert b"leaving out --invert" in run_cvae("encode", DIGIT, "--invert").stderr


def test_odd_names_are_one_line() -> None:
    assert "error" in error_line(run_cvae("encode", "x" * 300, code=1))
    assert "error" in error_line(run_cvae("encode", DIGIT, "-o", "x" * 300, code=1))
    Path("c").write_text("text")
    assert "error: c:" in error_line(run_cvae("decode", "c", code=1))


def test_programs_are_not_started_for_images() -> None:
    Path("evil.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 28 28\n")
    assert "evil.png" in error_line(run_cvae("encode", "evil.png", code=1))


def test_several_inputs_do_not_make_a_folder_named_like_a_file() -> None:
    run_cvae("encode", SAMPLES, "-o", "coded", "--quiet")
    result = run_cvae("decode", "coded", "-o", "many.png", code=2)
    assert b"several inputs need a folder" in result.stderr
    assert not Path("many.png").exists()


def test_symbols_as_npy_need_model_and_quality() -> None:
    run_cvae("encode", DIGIT, "-o", "digit.npy")
    symbols = np.load("digit.npy")
    assert symbols.shape == (16,)
    assert symbols.dtype == np.int8
    assert b"takes -m and -q" in run_cvae("decode", "digit.npy", code=2).stderr
    run_cvae("decode", "digit.npy", "-m", "mnist", "-q", "50", "-o", "a.png")
    run_cvae("encode", DIGIT)
    run_cvae("decode", "digit_3.bin", "-o", "b.png")
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    np.save("wide.npy", np.zeros(17, np.int8))
    assert "wide.npy" in error_line(
        run_cvae("decode", "wide.npy", "-m", "mnist", "-q", "50", code=1)
    )


def test_decode_finds_models_on_the_search_path(tiny_model: Path) -> None:
    pixels = np.zeros((8, 8), np.uint8)
    Image.fromarray(pixels).save("x.png")
    run_cvae("encode", "x.png", "-m", tiny_model)
    line = error_line(run_cvae("decode", "x.bin", code=1))
    assert "no model of id" in line
    assert "CVAE_MODELS" in line
    run_cvae("decode", "x.bin", env={"CVAE_MODELS": str(tiny_model.parent)})
    assert Image.open("x_reconstructed.png").size == (8, 8)


def test_quiet_says_nothing_and_stdout_carries_data_only() -> None:
    result = run_cvae("encode", DIGIT, "--quiet")
    assert result.stderr == result.stdout == b""
    result = run_cvae("decode", "digit_3.bin")
    assert result.stdout == b""


def test_models_lists_the_shipped_ones() -> None:
    listed = json.loads(run_cvae("models", "--json").stdout)
    assert [m["name"] for m in listed] == SHIPPED
    assert b"* mnist " in run_cvae("models").stdout


def test_info_describes_models(tiny_model: Path) -> None:
    facts = json.loads(run_cvae("info", tiny_model, "--json").stdout)
    assert facts["name"] == "tiny"
    assert facts["data"]["train"] == 360


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal")
def test_binary_data_is_not_written_to_a_terminal() -> None:
    main, terminal = os.openpty()
    command = [sys.executable, "-m", "cvae", "encode", str(DIGIT), "-o", "-"]
    result = subprocess.run(command, stdout=terminal, stderr=subprocess.PIPE)
    os.close(main)
    os.close(terminal)
    assert result.returncode == 1
    assert b"terminal" in result.stderr


def test_a_closed_pipe_is_no_traceback() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "cvae", "models", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    process.wait(timeout=60)
    assert process.stderr is not None
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()


def test_ctrl_c_is_no_traceback_and_leaves_nothing() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "cvae", "encode", "-", "-o", "x.bin"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    time.sleep(1.5)  # it waits for its input
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in stderr
    assert b"interrupted" in stderr
    assert not names()


@pytest.mark.skipif(os.name == "nt", reason="has no pseudo-terminals")
def test_wrong_usage_moves_no_cursor_of_a_terminal() -> None:
    ours, terminal = os.openpty()
    command = [sys.executable, "-m", "cvae", "encode", str(DIGIT), "-o", "\x1b[2Jx.png"]
    found = subprocess.run(command, stderr=terminal, timeout=60)
    said = os.read(ours, 10_000).decode()
    os.close(ours)
    os.close(terminal)
    assert found.returncode == 2
    assert "-o \\x1b[2Jx.png would be" in said
    assert "\x1b[2J" not in said
