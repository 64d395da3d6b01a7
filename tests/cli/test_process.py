"""The program as a process: signals, and streams that are closed, full, or without a reader."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from PIL import Image

from ..conftest import SAMPLES, run_cvae

pytestmark = [
    pytest.mark.usefixtures("workdir"),
    pytest.mark.skipif(os.name != "posix", reason="shells and signals of POSIX"),
]

DIGIT = str(SAMPLES / "digit_3.png")
CVAE = f"{shlex.quote(sys.executable)} -m cvae"
# Commands that print, or write to stdout; `x.bin` and `p.bin` are there.
PRINTING = [
    "--help",
    "--version",
    "encode --help",
    "info x.bin",
    "info mnist --json",
    "models",
    "models --json",
    f"eval {DIGIT}",
    f"eval {DIGIT} --json",
    "verify x.bin",
    "verify x.bin --json",
    f"encode {DIGIT} -o -",
    "decode x.bin -o -",
    f"pack {DIGIT} -o -",
    "unpack p.bin -o -",
    f"denoise -m fashion-dae {DIGIT} -o -",
    "sample -o -",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    run_cvae("encode", DIGIT, "-o", folder / "x.bin")
    run_cvae("pack", DIGIT, "-o", folder / "p.bin")
    return folder


@pytest.fixture
def coded(made: Path, workdir: Path) -> None:
    shutil.copytree(made, workdir, dirs_exist_ok=True)


def shell(line: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize("command", PRINTING)
def test_a_closed_or_full_stdout_is_one_line(coded: None, command: str) -> None:
    found = shell(f"{CVAE} {command} >&-")
    assert (found.returncode, found.stderr) == (1, "cvae: error: stdout: is closed\n")
    with Path("/dev/full").open("wb") as full:
        stderr = run_cvae(*shlex.split(command), code=1, stdout=full.fileno()).stderr
    assert stderr == b"cvae: error: stdout: cannot be written: No space left on device\n"


@pytest.mark.parametrize("command", PRINTING)
def test_without_a_reader_a_command_ends_as_sigpipe_ends_others(coded: None, command: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    assert run_cvae(*shlex.split(command), code=141, stdout=writer).stderr == b""
    os.close(writer)


@pytest.mark.parametrize(
    "command",
    ["encode - -o y.bin", "decode - -o y.png", "pack - -o y.bin", "unpack - -o y", "info -", "verify -",
     "denoise -m fashion-dae - -o y.png", f"interpolate {DIGIT} - -o y.png"],
)  # fmt: skip
def test_a_closed_stdin_is_one_line(coded: None, command: str) -> None:
    before = sorted(Path().iterdir())
    found = shell(f"{CVAE} {command} <&-")
    assert found.stderr.splitlines() == ["cvae: error: stdin: is closed"]
    assert found.returncode == 1
    assert sorted(Path().iterdir()) == before


@pytest.mark.parametrize("stderr", ["2>&-", "2> /dev/full"])
def test_what_is_said_to_nobody_changes_nothing(coded: None, stderr: str) -> None:
    cases = {
        f"encode {DIGIT} {DIGIT[:-5]}5.png -o out/": 0,
        f"encode {DIGIT} missing.png -o some/": 1,
        f"pack {DIGIT} -o y.bin": 0,
        "decode missing.bin": 1,
        "decode": 2,
        "encode --no-such-option": 2,
        "nonsense": 2,
    }
    for command, code in cases.items():
        assert shell(f"{CVAE} {command} {stderr}").returncode == code
    assert sorted(path.name for path in Path("out").iterdir()) == ["digit_3.bin", "digit_5.bin"]
    assert Path("y.bin").read_bytes() == Path("p.bin").read_bytes()
    assert [path.name for path in Path("some").iterdir()] == ["digit_3.bin"]


def test_stderr_without_a_reader_does_not_end_a_command() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "cvae", "encode", DIGIT, "-o", "x.bin"]
    assert subprocess.run(command, stderr=writer, timeout=60).returncode == 0
    os.close(writer)
    assert Path("x.bin").exists()


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_no_file_is_opened_in_the_place_of_a_closed_stream(coded: None, closed: str) -> None:
    found = shell(f"{CVAE} encode {DIGIT} -o y.bin -v {closed}")
    assert found.returncode == 0
    assert Path("y.bin").read_bytes() == Path("x.bin").read_bytes()
    found = shell(f"{CVAE} pack {DIGIT} -o packs/ --workers 1 {closed}")
    assert found.returncode == 0
    run_cvae("unpack", "packs", "-o", "whole")


# Runs the program, and at the import of a module, or in a callback at that time, does as told.
AT_IMPORT = """
import os, runpy, signal, sys, weakref
target, way, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
del sys.argv[1:4]
def hit(*_):
    os.kill(os.getpid(), number)
class Finder:
    def find_spec(self, name, *_):
        if name == target:
            sys.meta_path.remove(self)
            if way == "callback":
                class Thing: pass
                thing = Thing()
                kept = weakref.ref(thing, hit)
                del thing
            else:
                hit()
sys.meta_path.insert(0, Finder())
runpy.run_module("cvae", run_name="__main__", alter_sys=True)
"""


MODULES = ["click", "cvae.cli.encode", "cvae.codec", "numpy", "numpy._core", "PIL.Image"]
# Behind these, little is left to do: what a callback loses may come when all is done.
LATE = ["onnxruntime", "onnxruntime.capi._pybind_state"]


@pytest.mark.parametrize(
    ("module", "way"),
    [(m, "import") for m in MODULES + LATE] + [(m, "callback") for m in MODULES],
)
def test_an_interrupt_during_imports_is_one_line(module: str, way: str) -> None:
    found = subprocess.run(
        [sys.executable, "-c", AT_IMPORT, module, way, str(int(signal.SIGINT)), "encode", DIGIT],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert found.stderr == "cvae: interrupted\n"
    assert found.returncode == 130
    assert not list(Path().iterdir())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_that_end_programs_do_as_ctrl_c(number: signal.Signals) -> None:
    found = subprocess.run(
        [sys.executable, "-c", AT_IMPORT, "numpy", "import", str(int(number)), "encode", DIGIT],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (found.returncode, found.stderr) == (130, "cvae: interrupted\n")


def packing() -> subprocess.Popen[bytes]:
    """A command that has begun to write a pack and waits for more images."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cvae", "pack", "-", "-o", "y.bin"],
        stdin=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    with tarfile.open("x.tar", "w") as archive:
        archive.add(DIGIT, "digit.png")
    data = Path("x.tar").read_bytes()
    Path("x.tar").unlink()
    process.stdin.write(data[:4096])
    process.stdin.flush()
    deadline = time.monotonic() + 60
    while not list(Path().glob(".cvae-*")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_leave_no_temporary_file(number: signal.Signals) -> None:
    process = packing()
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (130, b"cvae: interrupted\n")
    assert not list(Path().iterdir())


def test_a_large_photograph_is_left_in_the_middle() -> None:
    """Between two steps of the search: a whole one takes minutes."""
    Image.effect_noise((4000, 3000), 90).convert("RGB").save("x.bmp")
    command = ["pack", "x.bmp", "-m", "photo", "-o", "y.bin", "--effort", "9"]
    process = subprocess.Popen([sys.executable, "-m", "cvae", *command], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not list(Path().glob(".cvae-*")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(3)  # the picture is read, and its search has begun
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (130, b"cvae: interrupted\n")
    assert [path.name for path in Path().iterdir()] == ["x.bmp"]


def test_under_nohup_a_closed_terminal_ends_nothing() -> None:
    command = [
        sys.executable,
        "-c",
        AT_IMPORT,
        "numpy",
        "import",
        str(int(signal.SIGHUP)),
        "encode",
        DIGIT,
    ]
    found = shell(f"trap '' HUP; {shlex.join([*command, '-o', 'x.bin'])}")
    assert found.returncode == 0, found.stderr
    assert Path("x.bin").exists()
