"""Memory while pictures are read: bounded for all threads together, whatever a header says."""

from __future__ import annotations

import subprocess
import sys
import threading
import zlib
from pathlib import Path

import pytest

from cvae.data.memory import Budget

from .pictures import chunk

MOST = 500  # MB, for anything that a small model codes
PEAK = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stderr=subprocess.DEVNULL).returncode
print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
"""


def test_who_asks_for_more_than_is_left_waits() -> None:
    budget, order = Budget(10), list[str]()

    def second() -> None:
        with budget.hold(6):
            order.append("second")

    with budget.hold(5):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.05)
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]
    with budget.hold(1000):  # all there is
        pass


def large(path: Path, width: int, height: int, bits: int, colours: int) -> None:
    """A PNG file of zeros in a few kilobytes."""
    channels = {0: 1, 2: 3, 6: 4}[colours]
    row = b"\0" * (1 + width * channels * bits // 8)
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([bits, colours, 0, 0, 0])
    chunks = [(b"IHDR", head), (b"IDAT", data), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in chunks))


@pytest.mark.parametrize(
    ("sides", "bits", "colours"),
    [((8000, 8000), 16, 0), ((8000, 8000), 8, 6), ((1, 60_000), 8, 2)],
    ids=["16 bits", "alpha", "a line"],
)
def test_a_large_picture_of_a_small_model_takes_little(
    tmp_path: Path, sides: tuple[int, int], bits: int, colours: int
) -> None:
    (tmp_path / "in").mkdir()
    for number in range(2):
        large(tmp_path / f"in/{number}.png", *sides, bits, colours)
    command = ["pack", "in", "-m", "cifar", "--fit", "-o", "x.bin"]
    command += ["--threads", "2", "--max-pixels", "64000000"]
    found = subprocess.run(
        [sys.executable, "-c", PEAK, sys.executable, "-m", "cvae", *command],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    code, peak = map(int, found.stdout.split())
    assert code == 0
    assert peak < MOST
