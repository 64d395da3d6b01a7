"""Commands that are given models of strangers: one line or a result, in little time and memory."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cvae.models.file import ANALYSIS, SYNTHESIS
from cvae.training.export.graph import Graph

from ..conftest import ROOT, SAMPLES
from ..graphs import floats, model, node, replaced, whole
from ..models.test_graph import body, external

_MEASURED = """
import sys
from cvae.cli import main
try:
    main(sys.argv[1:])
finally:
    # Unlike `getrusage`, this knows nothing of what the process was before it began this program.
    with open("/proc/self/status") as status:
        print(next(line.split()[1] for line in status if line.startswith("VmHWM")), file=sys.stderr)
"""
DIGIT = SAMPLES / "digit_3.png"
SHIPPED = ROOT / "weights" / "mnist.cvae"


def synthesis(nodes: list[Any], constants: dict[str, Any] | None = None, **others: Any) -> bytes:
    return model(nodes, constants, (16,), (28, 28, 1), **others)


def legal_but_heavy() -> bytes:
    """As much of a kernel, on as many channels, as is nearly refused."""
    graph = Graph()
    x = graph.add("Gemm", "x", np.zeros((16, 784), np.float32))
    x = graph.shape(x, 1, 28, 28)
    x = graph.add("Conv", x, np.full((104, 1, 3, 3), 1e-3, np.float32), pads=[1] * 4)
    for _ in range(2):
        x = graph.add("Conv", x, np.full((104, 104, 3, 3), 1e-3, np.float32), pads=[1] * 4)
    x = graph.add("Conv", x, np.full((1, 104, 1, 1), 1e-3, np.float32))
    return graph.to_bytes("s", {"x": (16,)}, graph.clip(graph.shape(x, 28, 28, 1)), (28, 28, 1))


LINE = [node("Relu", "x")]
MODELS: dict[str, tuple[dict[str, bytes], dict[str, Any], int]] = {
    "a loop that never ends": ({SYNTHESIS: synthesis([node("Loop", ["", "", "x"])], edit=body())}, {}, 1),
    "weights in another file": ({ANALYSIS: synthesis(LINE, edit=external("/proc/self/environ"))}, {}, 1),
    "gigabytes when it is opened": ({SYNTHESIS: synthesis(
        [node("Add", "ab", "c"), node("ReduceSum", "cn", "d", keepdims=0), node("Add", "xd")],
        {"a": floats(1 << 15, 1), "b": floats(1, 1 << 15), "n": whole(0, 1)})}, {}, 1),
    "gigabytes when it is run": ({SYNTHESIS: synthesis(
        [node("Reshape", "xr", "a"), node("Conv", "ak", "b", pads=[1 << 13] * 4),
         node("ReduceSum", "bn", "c", keepdims=0), node("Add", "xc")],
        {"r": whole(-1, 1, 4, 4), "k": floats(1, 1, 2, 2), "n": whole(1, 2, 3)})}, {}, 1),
    "no numbers": ({SYNTHESIS: synthesis(
        [node("Gemm", "xw", "g"), node("Reshape", "gs")],
        {"w": np.full((16, 784), np.nan, np.float32), "s": whole(-1, 28, 28, 1)})}, {}, 1),
    "images of gigabytes": ({}, {"image_shape": [8000, 8000, 1]}, 1),
    "millions of latents": ({}, {"latent_shape": [1 << 24]}, 1),
    "a search of a synthesis a latent": ({}, {"latent_shape": [4096]}, 1),
    "an endless name": ({}, {"name": "a" * 10**5}, 1),
    "heavy and allowed": ({SYNTHESIS: legal_but_heavy()}, {}, 0),
}  # fmt: skip


def run(*arguments: str | Path, cwd: Path) -> tuple[int, list[str], int]:
    """The exit code, the lines of stderr, and the most memory, in MB."""
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, *map(str, arguments)],
        capture_output=True, cwd=cwd, timeout=60, text=True,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    *lines, most = done.stderr.splitlines()
    return done.returncode, lines, int(most) // 1024


@pytest.mark.skipif(sys.platform != "linux", reason="measures memory as Linux counts it")
@pytest.mark.parametrize(("graphs", "changes", "code"), MODELS.values(), ids=MODELS.keys())
@pytest.mark.parametrize("command", ["encode", "models"])
def test_a_model_from_a_stranger_is_refused_in_one_line_or_codes(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, command: str,
    graphs: dict[str, bytes], changes: dict[str, Any], code: int,
) -> None:  # fmt: skip
    monkeypatch.setenv("CVAE_HOME", str(workdir))
    path = replaced(SHIPPED, workdir / "stranger.cvae", graphs, **changes)
    arguments = {
        "encode": ["encode", DIGIT, "-m", path, "-o", "x.bin"],
        "models": ["models", "add", path],
    }
    started = time.perf_counter()
    found, lines, most = run(*arguments[command], cwd=workdir)
    assert found == code, lines
    if code:
        assert len(lines) == 1
        assert "stranger.cvae" in lines[0]
        assert lines[0].isprintable()
        assert not (workdir / "x.bin").exists()
    assert time.perf_counter() - started < 10  # on a busy machine
    assert most < 500
