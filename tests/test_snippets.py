"""Every command and every program that README and docs show runs, but those that say why not."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import ROOT, run_here
from .snippets import BLOCKS, Block, make_files

# Where a command is to find something: what is damaged is not whole afterwards.
_FINDS = {"damaged.bin": 1}


def _of(language: str) -> pytest.MarkDecorator:
    found = [block for block in BLOCKS if block.language == language]
    ran = [block for block in found if (block.lines() if language == "shell" else not block.why)]
    return pytest.mark.parametrize("block", ran, ids=lambda block: block.name)


@_of("shell")
def test_commands_run(block: Block, workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVAE_HOME", str(workdir / "home"))
    for line in block.lines():
        make_files(line)
        if re.match(r"cvae [^|<>]*$", line):
            words = shlex.split(line)[1:]
            run_here(*words, *_forced(words), code=max(_FINDS.get(word, 0) for word in words))
        else:
            _typed(line, workdir)


def _forced(words: list[str]) -> list[str]:
    """Lines of a block may write the same file, of which a reader types one."""
    writes = words[0] in ("encode", "decode", "unpack", "sample", "interpolate", "denoise")
    return ["--force"] if writes and "--skip-existing" not in words else []


def _typed(line: str, folder: Path) -> None:
    """A line with pipes or of another program, in a shell that finds `cvae`."""
    tool = folder / "cvae"
    tool.write_text(f'#!/bin/sh\nexec {sys.executable} -m cvae "$@"\n')
    tool.chmod(0o755)
    path = os.pathsep.join([str(folder), str(Path(sys.executable).parent), os.environ["PATH"]])
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "src")}
    line = f"set -euo pipefail; {line}"
    subprocess.run(["bash", "-c", line], check=True, env=env, timeout=300, capture_output=True)


@_of("python")
def test_programs_run(block: Block, workdir: Path) -> None:
    make_files("samples/ docs/")
    exec(compile(block.text, block.name, "exec"), {"__name__": "__main__"})


def test_what_is_not_run_says_why() -> None:
    left = [block for block in BLOCKS if block.why]
    assert left and all(len(block.why.split()) >= 2 for block in left)
    for block in left:  # a marker that is about no line has outlived what it was about
        whole = block.text.count("\n") + 1
        assert len(block.lines()) < whole, block.name
