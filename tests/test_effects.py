"""What commands do to the machine beside what was asked for: nothing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import ROOT, SAMPLES

pytestmark = pytest.mark.skipif(os.name != "posix", reason="home folders and tracers of POSIX")

DIGIT = SAMPLES / "digit_3.png"
# What takes from root the right to read and write everywhere.
_PLAIN = [
    "setpriv",
    *(f"--{kind}=-dac_override,-dac_read_search" for kind in ("bounding-set", "inh-caps")),
]
# Every call that makes a socket, or a name in a folder, or opens a file to write it.
_CALLS = (
    "%network,openat,open,creat,mkdir,mkdirat,mknod,mknodat,rename,renameat,renameat2,link,linkat,"
    "symlink,symlinkat,truncate,unlink,unlinkat"
)
_OPENED = re.compile(r'open(?:at)?\((?:\w+, )?"([^"]*)", ([A-Z_|]+)')
_NAMED = re.compile(r'"([^"]*)"')


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that other users may enter, unlike those of pytest."""
    with tempfile.TemporaryDirectory(prefix="effects-") as name:
        folder = Path(name)
        folder.chmod(0o777)
        (folder / "work").mkdir()
        (folder / "work").chmod(0o777)
        (folder / "in").mkdir()
        shutil.copy(DIGIT, folder / "in/a.png")
        shutil.copy(SAMPLES / "digit_5.png", folder / "in/b.png")
        yield folder


def environment(home: Path | str | None) -> dict[str, str]:
    """The environment of a user with this home folder, who has set nothing else."""
    kept = {
        name: os.environ[name] for name in ("PATH", "PYTHONPATH", "TMPDIR") if name in os.environ
    }
    return kept | {"PYTHONDONTWRITEBYTECODE": "1"} | ({} if home is None else {"HOME": str(home)})


def commands(place: Path) -> list[list[str]]:
    """One of each command that needs no training, in an order in which each finds its input."""
    both = str(place / "in")
    a, b = f"{both}/a.png", f"{both}/b.png"
    return [
        ["encode", a, "-o", "x.bin"],
        ["decode", "x.bin", "-o", "x.png"],
        ["pack", a, b, "-o", "p.bin"],
        ["unpack", "p.bin", "-o", "out"],
        ["info", "x.bin"],
        ["info", "mnist"],
        ["verify", "x.bin", "p.bin"],
        ["models"],
        ["eval", both],
        ["eval", both, "--against", "png,webp", "--plot", "plot.png", "--html", "page.html"],
        ["denoise", a, "-m", "fashion-dae", "-o", "clean.png"],
        ["sample", "-o", "s.png"],
        ["interpolate", a, b, "-o", "i.png"],
        ["pack", a, b, "-o", "folder/", "--workers", "1"],
    ]


def below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def run(
    command: list[str], place: Path, home: Path | str | None, plain: bool = False
) -> subprocess.CompletedProcess[bytes]:
    first = _PLAIN if plain and os.geteuid() == 0 else []
    if first and not shutil.which(first[0]):
        pytest.skip("needs setpriv, or another user than root")
    found = subprocess.run(
        [*first, sys.executable, "-m", "cvae", *command],
        cwd=place / "work", env=environment(home), capture_output=True, timeout=120,
    )  # fmt: skip
    assert found.returncode == 0, (command, found.stderr.decode())
    return found


@pytest.mark.parametrize("home", ["closed", "read-only", "/nonexistent", None])
def test_commands_need_no_home_folder_and_do_not_mention_it(place: Path, home: str | None) -> None:
    where: Path | str | None = home
    if home in ("closed", "read-only"):
        where = place / home
        where.mkdir()
        where.chmod(0o000 if home == "closed" else 0o555)
    todo = commands(place)
    if home != "closed":  # they find no home in the same way: those that load most
        todo = [command for command in todo if "--plot" in command or "--workers" in command]
    said = {tuple(command): run(command, place, where, plain=True).stderr for command in todo}
    if isinstance(where, Path):
        where.chmod(0o755)
        assert below(where) == []
    for command, stderr in said.items():
        text = stderr.decode()
        assert str(where) not in text
        assert "arning" not in text, (command, text)
        assert "\x1b" not in text
        assert "atplotlib" not in text


def _strace() -> list[str] | None:
    """strace where it is there and may trace."""
    found = shutil.which("strace")
    if found is None:
        return None
    # The kernel stops a program at the calls that are traced alone.
    strace = [found, "--seccomp-bpf", "-f", "-qq", "-e", f"trace={_CALLS}"]
    tried = subprocess.run([*strace, "-o", "/dev/null", "true"], capture_output=True)
    return strace if tried.returncode == 0 else None


def traced(command: list[str], place: Path) -> list[str]:
    """The system calls of a command and of all that it starts, in a home folder of its own."""
    strace = _strace()
    if strace is None:
        pytest.skip("needs strace, and the right to trace")
    home, log = place / "home", place / "log"
    home.mkdir(exist_ok=True)
    temporary = place / "tmp"
    temporary.mkdir(exist_ok=True)
    found = subprocess.run(
        [*strace, "-s", "300", "-o", log, "--",
         sys.executable, "-m", "cvae", *command],
        cwd=place / "work", env={**environment(home), "TMPDIR": str(temporary)},
        capture_output=True, timeout=300,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr.decode()
    return log.read_text(errors="replace").splitlines()


def strays(calls: list[str], place: Path) -> list[str]:
    """The calls that reach out, or that write anywhere but in the current and the temporary folder."""
    allowed = (str(place / "work"), str(place / "tmp"), "/dev/null", "/proc/self/", "/dev/shm/")

    def stray(path: str) -> bool:
        return path.startswith("/") and not path.startswith(allowed)

    found = []
    for call in calls:
        text = call.split(maxsplit=1)[1]
        if text.startswith(("socket(", "connect(", "sendto(", "bind(")):
            found.append(call)
        elif match := _OPENED.match(text):
            writes = re.search("O_WRONLY|O_RDWR|O_CREAT|O_TRUNC", match[2])
            if writes and stray(match[1]):
                found.append(call)
        elif text[0].isalpha() and " = -1 " not in text and any(map(stray, _NAMED.findall(text))):
            found.append(call)
    return found


def test_the_tracer_sees_sockets_and_files(place: Path) -> None:
    code = "import socket; socket.socket(); open('/tmp/stray-of-effects', 'w'); open('x', 'w')"
    strace, log = _strace(), place / "log"
    if strace is None:
        pytest.skip("needs strace, and the right to trace")
    subprocess.run(
        [*strace, "-o", log, sys.executable, "-c", code],
        cwd=place / "work", env=environment(place), check=True,
    )  # fmt: skip
    Path("/tmp/stray-of-effects").unlink()
    first, second = strays(log.read_text().splitlines(), place)
    assert "socket(" in first
    assert "stray-of-effects" in second


def test_nothing_leaves_the_machine_and_nothing_is_written_but_the_output(place: Path) -> None:
    for command in commands(place):
        assert strays(traced(command, place), place) == [], command
        assert below(place / "home") == below(place / "tmp") == [], command


def test_a_library_changes_nothing_of_its_process_but_one_variable(tmp_path: Path) -> None:
    code = """
import os, signal, sys, warnings, logging
numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGPIPE]
def state():
    return (
        [signal.getsignal(n) for n in numbers], [str(f) for f in warnings.filters],
        sys.excepthook, sys.unraisablehook, sys.stdin, sys.stdout, sys.stderr,
        logging.getLogger().handlers[:], dict(os.environ), os.getcwd(), os.umask(0o22),
    )
import numpy, PIL.Image
before = state()
import cvae
model = cvae.open_model("mnist")
model.decode(model.encode(numpy.zeros((28, 28), numpy.uint8)))
cvae.encode_pack(numpy.zeros((3, 28, 28), numpy.uint8), "x.bin")
with cvae.open_pack("x.bin") as pack:
    pack.images([0])
after = state()
assert after[-3].pop("ORT_DISABLE_TELEMETRY") == "1"
for one, other in zip(before, after):
    assert one == other, (one, other)
"""
    subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(tmp_path), check=True
    )


def test_who_wants_the_telemetry_of_onnx_runtime_keeps_it() -> None:
    code = "from cvae.models import runtime; runtime.load(); import os; print(os.environ['{}'])"
    command = [sys.executable, "-c", code.format("ORT_DISABLE_TELEMETRY")]
    for value, expected in (("0", "0"), ("", "1"), ("1", "1")):
        env = {**os.environ, "ORT_DISABLE_TELEMETRY": value}
        found = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        assert found.stdout.strip() == expected


def test_what_others_print_while_onnx_runtime_is_imported_is_not_lost(tmp_path: Path) -> None:
    code = (
        "import os; from cvae.models import runtime\n"
        "with runtime._warnings_held_back():\n"
        "    os.write(2, b'\\x1b[0;93m2026-01-01 [W:onnxruntime:Default, x.cc:1] GPU\\x1b[m\\nother\\n')\n"
        "os.write(2, b'later')"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert found.stderr == b"other\nlater"


def test_one_module_alone_imports_onnx_runtime_and_one_matplotlib() -> None:
    importing = re.compile(r"^\s*(?:import|from) (onnxruntime|matplotlib)\b", re.M)
    found = {
        (name, path.name)
        for path in (ROOT / "src").rglob("*.py")
        for name in importing.findall(path.read_text())
    }
    assert found == {("onnxruntime", "runtime.py"), ("matplotlib", "plots.py")}
