"""What the commands load: starting fast means importing little."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cvae.cli import COMMANDS

from .conftest import SAMPLES, run_cvae

DIGIT = str(SAMPLES / "digit_3.png")


def modules_after(*arguments: str, whole: bool = False) -> set[str]:
    """The top-level modules loaded when the command line has run; all of them if `whole`."""
    code = (
        "import sys\n"
        "from cvae.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "except SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "print('modules:', *sys.modules)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    loaded = result.stdout.splitlines()[-1].split()[1:]
    return set(loaded) if whole else {name.split(".")[0] for name in loaded}


@pytest.mark.parametrize(
    "command",
    [
        "encode",
        "decode",
        "pack",
        "unpack",
        "verify",
        "eval",
        "sample",
        "interpolate",
        "info",
        "models",
    ],
)
def test_coding_never_loads_keras(workdir: Path, command: str) -> None:
    run_cvae("encode", DIGIT, "-o", "x.bin")
    run_cvae("pack", DIGIT, "-o", "p.bin")
    arguments = {
        "encode": [DIGIT, "-o", "y.bin"],
        "decode": ["x.bin", "-o", "x.png"],
        "pack": [DIGIT, "-o", "y.bin"],
        "unpack": ["p.bin", "-o", "x.png"],
        "verify": ["x.bin", "p.bin"],
        "eval": [DIGIT],
        "sample": [],
        "interpolate": [DIGIT, "x.bin"],
        "info": ["x.bin"],
        "models": [],
    }[command]
    loaded = modules_after(command, *arguments)
    assert ("onnxruntime" in loaded) == (command not in ("verify", "info", "models"))
    assert not loaded & {"tensorflow", "keras", "jax", "onnx", "matplotlib", "h5py"}
    assert not loaded & {"dask", "distributed", "fsspec", "s3fs"}
    if command != "eval":
        assert not loaded & {"skimage", "scipy"}


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], *([command, "--help"] for command in COMMANDS)],
)
def test_help_loads_only_click(arguments: list[str]) -> None:
    loaded = modules_after(*arguments)
    assert not loaded & {"numpy", "PIL", "onnxruntime", "tensorflow", "keras", "rich"}


@pytest.mark.parametrize("command", ["encode", "decode"])
def test_single_images_load_nothing_of_packs(workdir: Path, command: str) -> None:
    run_cvae("encode", DIGIT, "-o", "x.bin")
    arguments = {"encode": [DIGIT, "-o", "y.bin"], "decode": ["x.bin", "-o", "x.png"]}[command]
    loaded = modules_after(command, *arguments, whole=True)
    assert "cvae.codec" in loaded
    slow = {"multiprocessing", "tarfile", "cvae.data.sources", "cvae.data.folders"}
    if command == "decode":  # the search of encode has threads
        slow.add("concurrent.futures")
    assert not loaded & slow
    assert not [name for name in loaded if name.startswith(("cvae.packs", "cvae.evaluation"))]
