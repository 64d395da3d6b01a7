"""What the commands load: starting fast means importing little."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import SAMPLES

DIGIT = str(SAMPLES / "digit_3.png")


def modules_after(*arguments: str) -> set[str]:
    """The top-level modules loaded when the command line has run."""
    code = (
        "import sys\n"
        "from cvae.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "except SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "print('modules:', *{name.split('.')[0] for name in sys.modules})\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    return set(result.stdout.splitlines()[-1].split()[1:])


@pytest.mark.parametrize(
    "command", ["encode", "decode", "eval", "sample", "interpolate", "info", "models"]
)
def test_coding_never_loads_keras(workdir: Path, command: str) -> None:
    modules_after("encode", DIGIT, "-o", "x.bin")
    arguments = {
        "encode": [DIGIT, "-o", "y.bin"],
        "decode": ["x.bin", "-o", "x.png"],
        "eval": [DIGIT],
        "sample": [],
        "interpolate": [DIGIT, "x.bin"],
        "info": ["x.bin"],
        "models": [],
    }[command]
    loaded = modules_after(command, *arguments)
    assert ("onnxruntime" in loaded) == (command not in ("info", "models"))
    assert not loaded & {"tensorflow", "keras", "jax", "onnx", "matplotlib", "h5py"}
    assert not loaded & {"dask", "distributed", "fsspec", "s3fs"}
    if command != "eval":
        assert not loaded & {"skimage", "scipy"}


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["encode", "--help"], ["eval", "--help"], ["train", "--help"]],
)
def test_help_loads_only_click(arguments: list[str]) -> None:
    loaded = modules_after(*arguments)
    assert not loaded & {"numpy", "PIL", "onnxruntime", "tensorflow", "keras", "rich"}
