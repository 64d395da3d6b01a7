"""`cvae verify`: models that are not there, and standard input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ..conftest import SAMPLES, run_cvae, run_here
from .test_packs import FAST, NAMES, errors
from .test_verify import MODEL, _in_an_empty_folder  # noqa: F401


def test_a_missing_model_is_looked_for_once(
    tiny_model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from cvae.models import registry

    Path("in").mkdir()
    for number in range(4):
        Image.fromarray(np.full((8, 8), 9 * number, np.uint8)).save(f"in/{number}.png")
    run_here("encode", "in", "-o", "coded", "-m", tiny_model, *FAST[2:])
    looked: list[int] = []
    known = registry.known_models
    monkeypatch.setattr(registry, "known_models", lambda: looked.append(1) or known())
    capsys.readouterr()
    run_here("verify", "coded")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("cvae: warning: 4 images: only the check sum was looked at: there is no")
    assert line.endswith(": coded/0.bin, coded/1.bin, coded/2.bin, ...")
    assert len(looked) == 1
    run_here("verify", "coded", "--against", "in", code=1)
    assert errors(capsys)[0].startswith("cvae: error: 4 files: there is no model of id")
    assert len(looked) == 2


def test_standard_input_is_checked_whatever_it_is() -> None:
    run_here("encode", SAMPLES / NAMES[3], "-o", "a.bin", *FAST)
    run_here("pack", SAMPLES, "-o", "x.bin", *FAST)
    for file, kind in (("a.bin", "container"), ("x.bin", "pack"), (MODEL, "model")):
        data = Path(file).read_bytes()
        assert run_cvae("verify", "-", stdin=data).stdout.decode() == f"stdin: {kind}, whole\n"
        said = run_cvae("verify", "-", stdin=data[:-3], code=1).stderr.decode()
        assert said.startswith("cvae: error: stdin: "), said
    said = run_cvae("verify", "-", "--against", SAMPLES, stdin=Path("x.bin").read_bytes()).stdout
    assert said.startswith(b"stdin against ")
    assert b": 10 images, " in said
    assert b"expected a container" in run_cvae("verify", "-", stdin=b"text", code=1).stderr


def test_a_model_that_there_is_not_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    run_here("encode", SAMPLES / NAMES[3], "-o", "a.bin", *FAST)
    capsys.readouterr()
    run_here("verify", "a.bin", "-m", "nosuch", code=2)
    assert capsys.readouterr().err.startswith("cvae: error: there is no model named 'nosuch'")
