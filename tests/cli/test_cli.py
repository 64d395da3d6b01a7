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
    assert "expected a container" in error_line(run_cvae("decode", DIGIT, code=1))


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
        (b"text", "expected a container, found"),
        (sealed(good, payload=b"\xff" * 90), "damaged"),
    ):
        with pytest.raises(cvae.FormatError, match=f"^container 2: {text}"):
            codec.decode([good, good, bad, good])
        with pytest.raises(cvae.FormatError, match=f"^{text}"):
            codec.decode(bad)


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


def test_the_quality_is_written_and_read() -> None:
    run_cvae("encode", DIGIT, "-q", "90", "-o", "q90.bin")
    run_cvae("encode", DIGIT, "-q", "10", "-o", "q10.bin")
    facts = [json.loads(run_cvae("info", f, "--json").stdout) for f in ("q90.bin", "q10.bin")]
    assert [fact["quality"] for fact in facts] == [90, 10]
    assert facts[0]["file_bytes"] > facts[1]["file_bytes"]
    assert facts[0]["model"] == "mnist"


def test_a_quality_that_decode_does_not_need_is_said() -> None:
    run_cvae("encode", DIGIT, "-o", "a.bin")
    run_cvae("encode", DIGIT, "-o", "b.npy", "--quiet")
    said = run_cvae("decode", "a.bin", "-q", "3").stderr.decode()
    assert said.startswith("-q changes nothing: containers name their quality\n")
    mixed = run_cvae("decode", "a.bin", "b.npy", "-m", "mnist", "-q", "50", "-o", "back/")
    assert b"changes nothing" not in mixed.stderr


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
