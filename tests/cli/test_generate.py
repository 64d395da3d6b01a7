"""`cvae sample` and `cvae interpolate` as people use them."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ..cli.test_cli import error_line, names
from ..conftest import SAMPLES, run_cvae

THREE, EIGHT = SAMPLES / "digit_3.png", SAMPLES / "digit_8.png"
TILE = (28 + 2) * 3


@pytest.fixture(autouse=True)
def _in_an_empty_folder(workdir: Path) -> None:
    pass


def test_samples_with_no_flags_are_a_grid_that_its_seed_draws_again() -> None:
    said = run_cvae("sample").stderr.decode()
    assert Image.open("mnist_samples.png").size == (4 * TILE + 6, 4 * TILE + 6)
    seed = re.search(r"--seed (\d+) ", said)
    assert seed
    run_cvae("sample", "--seed", seed[1], "-o", "again.png")
    assert Path("again.png").read_bytes() == Path("mnist_samples.png").read_bytes()
    assert "exists already" in error_line(run_cvae("sample", code=1))
    run_cvae("sample", "--force", "--quiet")
    assert Path("again.png").read_bytes() != Path("mnist_samples.png").read_bytes()


def test_stdout_carries_the_same_grid() -> None:
    result = run_cvae("sample", "-n", "3", "--seed", "1", "-o", "-")
    assert Image.open(io.BytesIO(result.stdout)).size == (2 * TILE + 6, 2 * TILE + 6)
    run_cvae("sample", "-n", "3", "--seed", "1", "-o", "x.png")
    assert Path("x.png").read_bytes() == result.stdout


def test_a_folder_gets_a_file_for_each_image() -> None:
    run_cvae("sample", "-n", "3", "--seed", "1", "-o", "many/")
    assert names("many") == ["sample_0000.png", "sample_0001.png", "sample_0002.png"]
    grid = np.asarray(Image.open(io.BytesIO(
        run_cvae("sample", "-n", "3", "--seed", "1", "-o", "-").stdout
    )))[::3, ::3]  # fmt: skip
    assert np.array_equal(np.asarray(Image.open("many/sample_0001.png")), grid[2:30, 32:60])


def test_one_image_alone_has_the_size_of_the_models_images() -> None:
    said = run_cvae("sample", "-n", "1", "--seed", "1", "-o", "x.png").stderr.decode()
    assert "1 image of mnist -> x.png" in said
    run_cvae("sample", "-n", "1", "--seed", "1", "-o", "one/")
    assert Path("x.png").read_bytes() == Path("one/sample_0000.png").read_bytes()
    assert Image.open("x.png").size == (28, 28)


def test_a_file_that_exists_is_seen_before_any_is_written() -> None:
    Path("many").mkdir()
    Path("many/sample_0002.png").touch()
    result = run_cvae("sample", "-n", "3", "-o", "many", code=1)
    assert "many/sample_0002.png: exists already" in error_line(result)
    assert names("many") == ["sample_0002.png"]


def test_a_model_without_a_prior_says_what_it_draws_from() -> None:
    lines = run_cvae("sample", "-m", "linear-mnist").stderr.decode().splitlines()
    assert len(lines) == 2
    assert "linear-mnist is no VAE" in lines[0]
    assert len(run_cvae("sample").stderr.decode().splitlines()) == 1
    assert run_cvae("sample", "-m", "linear-mnist", "--force", "--quiet").stderr == b""


@pytest.mark.parametrize("end", ["x.png", "-"])
def test_a_grid_beyond_what_an_image_may_be_is_refused(end: str) -> None:
    line = error_line(run_cvae("sample", "-n", "1000000000", "-o", end, code=1))
    assert "64,000,000 pixels" in line
    assert "folder" in line
    assert not names()


def test_wrong_numbers_are_wrong_usage() -> None:
    run_cvae("sample", "-n", "0", code=2)
    run_cvae("sample", "--seed", "-1", code=2)
    run_cvae("interpolate", THREE, EIGHT, "-n", "1", code=2)
    run_cvae("interpolate", THREE, code=2)


def test_an_ending_that_is_no_image_is_one_line() -> None:
    assert b"-o x.docx: " in run_cvae("sample", "-n", "1", "-o", "x.docx", code=2).stderr
    assert not names()


def test_interpolation_with_no_flags_is_a_row_from_one_image_to_the_other() -> None:
    run_cvae("interpolate", THREE, EIGHT)
    assert names() == ["digit_3_to_digit_8.png"]
    row = np.asarray(Image.open("digit_3_to_digit_8.png"))[::3, ::3]
    assert row.shape == (32, 8 * 30 + 2)
    for left, image in ((2, THREE), (2 + 7 * 30, EIGHT)):
        error = row[2:30, left : left + 28].astype(float) - np.asarray(Image.open(image))
        assert 10 * np.log10(255**2 / np.mean(error**2)) > 20


def test_interpolation_goes_to_folders_stdout_and_animations() -> None:
    run_cvae("interpolate", THREE, EIGHT, "-n", "3", "-o", "steps/")
    assert names("steps") == ["step_0000.png", "step_0001.png", "step_0002.png"]
    row = run_cvae("interpolate", "-", EIGHT, "-o", "-", stdin=THREE.read_bytes()).stdout
    assert Image.open(io.BytesIO(row)).size == (8 * TILE + 6, TILE + 6)
    run_cvae("interpolate", THREE, EIGHT, "-o", "x.gif")
    with Image.open("x.gif") as file:
        assert file.n_frames == 14
        assert file.size == (84, 84)


def test_containers_are_ends_too_and_name_their_model(tiny_model: Path) -> None:
    run_cvae("encode", THREE, "-m", "linear-mnist", "--quiet")
    said = run_cvae("interpolate", EIGHT, "digit_3.bin", "-o", "steps/").stderr.decode()
    assert "by linear-mnist" in said
    run_cvae("decode", "digit_3.bin")
    end = Path("steps/step_0007.png").read_bytes()
    assert end == Path("digit_3_reconstructed.png").read_bytes()
    line = error_line(run_cvae("interpolate", EIGHT, "digit_3.bin", "-m", "mnist", code=1))
    assert line.startswith("cvae: error: digit_3.bin: written by the model of id")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save("x.png")
    run_cvae("encode", "x.png", "-m", tiny_model, "--quiet")
    line = error_line(run_cvae("interpolate", "x.png", "x.bin", code=1))
    assert line.startswith("cvae: error: x.bin: there is no model of id")


def test_images_of_another_shape_are_told_of_fit() -> None:
    Image.open(THREE).convert("RGB").resize((56, 84)).save("large.png")
    line = error_line(run_cvae("interpolate", EIGHT, "large.png", code=1))
    assert line.startswith("cvae: error: large.png: expected 28x28 grey, found 56x84")
    assert "--fit" in line
    run_cvae("interpolate", EIGHT, "large.png", "--fit", "--quiet")


def test_bad_ends_are_one_line_and_leave_nothing() -> None:
    Path("text.png").write_text("this is text")
    data = run_cvae("encode", THREE, "-o", "-").stdout
    Path("cut.bin").write_bytes(data[:-1])
    for bad in ("text.png", "cut.bin", "nowhere.png"):
        for ends in ((bad, EIGHT), (EIGHT, bad)):
            line = error_line(run_cvae("interpolate", *ends, "-o", "out.png", code=1))
            assert line.startswith(f"cvae: error: {bad}: ")
    assert b"one image from stdin" in run_cvae("interpolate", "-", "-", code=2).stderr
    assert names() == ["cut.bin", "text.png"]


def test_an_end_is_never_overwritten() -> None:
    Path("x.png").write_bytes(THREE.read_bytes())
    said = run_cvae("interpolate", "x.png", EIGHT, "-o", "x.png", "-f", code=2).stderr
    assert b"input and output at once" in said
    assert Path("x.png").read_bytes() == THREE.read_bytes()
