"""How large an image a small file may ask for, on the command line and from Python."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cvae

from ..cli.test_cli import error_line, sealed
from ..conftest import run_cvae


@pytest.fixture(autouse=True)
def _in_an_empty_folder(workdir: Path) -> None:
    pass


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
