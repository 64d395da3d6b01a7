"""What commands send to a terminal: no data, and nothing that a stranger has put into a name or a model."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ..cli.test_inputs import DIGITS, put, stack
from ..conftest import ROOT, photo
from ..models.test_file import edited

DIGIT = DIGITS[3]
pytestmark = pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(workdir: Path) -> None:
    pass


def test_binary_data_is_not_written_to_a_terminal() -> None:
    main, terminal = os.openpty()
    command = [sys.executable, "-m", "cvae", "encode", str(DIGIT), "-o", "-"]
    result = subprocess.run(command, stdout=terminal, stderr=subprocess.PIPE)
    os.close(main)
    os.close(terminal)
    assert result.returncode == 1
    assert b"terminal" in result.stderr


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


def test_a_name_from_a_strangers_file_does_nothing_to_a_terminal() -> None:
    evil = "\x1b]0;title\x07\x9b2J\u202e\n"
    put("in/a.png")
    shutil.copy("in/a.png", f"in/{evil}.png")
    Path(f"in/{evil}b.png").write_text("text")
    Path(f"in/{evil}c.txt").write_text("text")
    Path(f"in/{evil}d").symlink_to(".")
    stack(f"in/{evil}.tif")
    with tarfile.open("x.tar", "w") as archive:
        archive.add("in")
        info = tarfile.TarInfo(f"in/{evil}link.png")
        info.type, info.linkname = tarfile.SYMTYPE, f"{evil}gone"
        archive.addfile(info)
    np.savez("x.npz", **{evil.replace("\n", ""): np.zeros(3), "b": np.zeros(3)})
    Path(f"{evil}.bin").write_bytes(b"text")
    for command in (
        ["encode", "in", "-o", "out", "-v", "--fit"], ["pack", "in", "-o", "a.bin", "-v", "--fit"],
        ["pack", "x.tar", "-o", "b.bin", "-v", "--fit"], ["pack", "x.npz"], ["eval", "in"],
        ["decode", "out", "-o", "back", "-v"], ["verify", "out", f"{evil}.bin"],
        ["info", f"{evil}.bin"], ["info", evil], ["encode", f"--{evil}"], [f"--{evil}"], [evil],
        ["unpack", "b.bin", "--only", evil], ["denoise", "in", "-m", evil], ["models", "add", evil],
        ["models", evil], ["encode", "in", "-q", evil], ["eval", "in", "--split", evil],
    ):  # fmt: skip
        said_there = on_a_terminal(command)
        assert said_there, command
        for sign in ("\x1b", "\x07", "\x9b", "\u202e"):
            assert sign not in said_there, (command, said_there)


def test_a_pack_of_files_shows_how_many_there_are() -> None:
    put("in/a.png", "in/b.png")
    Path("in/notes.txt").write_text("text")
    np.save("x.npy", np.zeros((3, 28, 28), np.uint8))
    assert "2/2" in on_a_terminal(["pack", "in", "--effort", "0"])
    assert "3/3" in on_a_terminal(["pack", "x.npy", "--effort", "0"])


def test_work_on_pictures_of_any_size_shows_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = str(ROOT / "tests/golden/grid.cvae")
    put("digits/a.png", "digits/b.png")
    Path("in").mkdir()
    for width in range(30, 34):  # of one size they would be coded together
        Image.fromarray(photo(20, width)).save(f"in/{width}.png")
    monkeypatch.setenv("CVAE_MODELS", grid)
    for command in (["encode", "in", "-o", "out", "-m", grid], ["decode", "out", "-o", "back"]):
        said = on_a_terminal(command)
        assert all(f" {step}%" in said for step in (0, 25, 50, 75, 100)), said
    assert "%" not in on_a_terminal(["encode", "digits", "-o", "small"])


def on_a_terminal(arguments: list[str]) -> str:
    """What a command sends to a terminal, stdout and stderr together."""
    ours, terminal = os.openpty()
    command = [sys.executable, "-m", "cvae", *arguments]
    process = subprocess.Popen(command, stdout=terminal, stderr=terminal, stdin=subprocess.DEVNULL)
    os.close(terminal)
    data = io.BytesIO()
    try:
        while chunk := os.read(ours, 1 << 16):
            data.write(chunk)
    except OSError:  # the other side is closed
        pass
    finally:
        os.close(ours)
        process.wait(60)
    ours_alone = "\r\x1b[K"  # clears a line of progress
    return data.getvalue().decode(errors="replace").replace(ours_alone, "")


def test_a_strangers_model_does_nothing_to_a_terminal(tmp_path: Path) -> None:
    evil = "\x1b]0;title\x07\x9b2J\u202e\nnext"

    def edit(members: dict[str, bytes]) -> None:
        values = json.loads(members["manifest.json"])
        values["data"] = {**values["data"], "source": evil, evil: [evil, {evil: evil}]}
        members["manifest.json"] = json.dumps(values).encode()

    model = edited(ROOT / "weights/linear-mnist.cvae", tmp_path, edit)
    shutil.copy(model, f"{evil}.cvae")
    for command in (
        ["info", f"{evil}.cvae"], ["info", f"{evil}.cvae", "--json"],
        ["models", "add", f"{evil}.cvae"], ["verify", f"{evil}.cvae"],
        ["encode", str(DIGITS[0]), "-m", f"{evil}.cvae", "-v"],
    ):  # fmt: skip
        said_there = on_a_terminal(command)
        assert "\\x1b" in said_there or "\\u001b" in said_there or "encode" in command
        for sign in ("\x1b", "\x07", "\x9b", "\u202e", "\nnext"):
            assert sign not in said_there, (command, said_there)
