"""The commands and programs that README and docs show, and the files that they speak of.

A block that no test can run says so, and why, in a comment above it, for all of its lines or for
those that hold one of some words:

    <!-- not run: downloads MNIST -->
    <!-- not run (--scheduler, s3://): needs a cluster -->
"""

from __future__ import annotations

import itertools
import json
import re
import shlex
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import cvae
from cvae.models.file import MANIFEST

from .conftest import ROOT

PAGES = sorted(
    [ROOT / "README.md", *(path for path in (ROOT / "docs").rglob("*.md"))],
)
_BLOCK = re.compile(
    r"(?m)(?:^<!-- not run(?: \((?P<words>[^)]*)\))?: (?P<why>.+) -->\n+)?"
    r"(?:^```(?P<language>\w*)\n(?P<fenced>(?s:.*?))^```$|(?P<indented>(?:^    .*\n|^\n(?=    ))+))"
)
# What makes an indented block one of commands; layouts of bytes are indented, too.
_TYPED = re.compile(
    r"(?m)^(?:cvae|python3?|pip|make|dask|export|eval|apt-get|[.]venv/bin/pip)\s|\| cvae "
)


@dataclass(frozen=True)
class Block:
    """Lines to be typed, or a program, as a page shows them."""

    page: str
    line: int
    language: str  # shell or python
    text: str
    why: str  # it is not run, where it is not
    words: tuple[str, ...]  # of the lines that `why` is about; none: of all

    @property
    def name(self) -> str:
        return f"{self.page}:{self.line}"

    def lines(self) -> list[str]:
        """The lines that can be run, without comments."""
        typed = [re.sub(r"(?:^|\s+)#\s.*", "", line) for line in self.text.splitlines()]
        return [line for line in typed if line and not self._is_out(line)]

    def _is_out(self, line: str) -> bool:
        return bool(self.why) and (not self.words or any(word in line for word in self.words))


def blocks(path: Path) -> Iterator[Block]:
    """The blocks of a page that are commands or Python."""
    page, text = str(path.relative_to(ROOT)), path.read_text()
    for found in _BLOCK.finditer(text):
        shown = found["fenced"] if found["indented"] is None else found["indented"]
        shown = re.sub(r"(?m)^    ", "", shown) if found["indented"] else shown
        language = found["language"] or ("shell" if _TYPED.search(shown) else "")
        words = tuple(re.split(r",\s*", found["words"])) if found["words"] else ()
        line = text.count("\n", 0, found.start()) + 1
        if language in ("shell", "python"):
            yield Block(page, line, language, shown, found["why"] or "", words)


BLOCKS = [block for page in PAGES for block in blocks(page)]


@cache
def digits() -> NDArray[np.uint8]:
    """Sixty digits that `mnist` draws: (60, 28, 28)."""
    return cvae.sample(60, seed=1)


def _folder(path: Path) -> None:
    path.mkdir(parents=True)
    for number, digit in enumerate(digits()):
        Image.fromarray(digit).save(path / f"{number:02}.png")
    Image.fromarray(digits()[0]).save(path / "a.png")


def _pictures(path: Path) -> None:
    """A folder with a subfolder."""
    _folder(path)
    (path / "actions").mkdir()
    Image.fromarray(digits()[1]).save(path / "actions" / "edit-copy.png")


def _coded(path: Path) -> None:
    path.mkdir()
    for number, data in enumerate(cvae.open_model("mnist").encode(digits(), effort=0)):
        (path / f"{number:02}.bin").write_bytes(data)
    (path / "a.bin").write_bytes(cvae.encode(digits()[0], effort=0))


def _stacks(path: Path) -> None:
    path.mkdir()
    first, *others = map(Image.fromarray, digits()[:3])
    first.save(path / "x.tif", save_all=True, append_images=others)


def _pack(path: Path) -> None:
    names = [f"{number:02}.png" for number in range(60)] + ["a.png"]
    cvae.encode_pack([*digits(), digits()[0]], path, effort=0, names=names)


def _kennel(path: Path) -> None:
    names = [f"dogs/{number:02}.png" for number in range(60)]
    cvae.encode_pack(digits(), path, effort=0, names=names)


def _damaged(path: Path) -> None:
    _pack(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _tar(path: Path) -> None:
    _folder(path.with_suffix(""))
    shutil.make_archive(str(path.with_suffix("")), "tar", path.with_suffix(""))


def _model(path: Path) -> None:
    """The model `mnist` under another name and id."""
    with zipfile.ZipFile(ROOT / "weights" / "mnist.cvae") as old, zipfile.ZipFile(path, "w") as new:
        for member in old.namelist():
            data = old.read(member)
            if member == MANIFEST:
                data = json.dumps({**json.loads(data), "name": "mine", "id": 1}).encode()
            new.writestr(member, data)


def _run(path: Path) -> None:
    path.mkdir(parents=True)
    _model(path / "mine.cvae")


def _picture(number: int) -> Callable[[Path], None]:
    return lambda path: Image.fromarray(digits()[number]).save(path)


def _arrays(*keys: str) -> Callable[[Path], None]:
    return lambda path: np.savez(path, **dict.fromkeys(keys, digits()[:12]))


# By the names that pages use.
FILES: dict[str, Callable[[Path], object]] = {
    **{f"{name}/": _folder for name in ("scans", "pages", "photos", "noisy", "more")},
    **{f"{name}.png": _picture(n) for n, name in enumerate(["digit", "dark", "shoe", "a", "b", "3", "8"])},
    **{f"{name}/": lambda path, name=name: path.symlink_to(ROOT / name) for name in ("samples", "docs")},
    "pictures/": _pictures,
    "coded/": _coded,
    "stacks/": _stacks,
    "runs/mine": _run,
    "mine.cvae": _model,
    "scan.jpg": lambda path: Image.new("RGB", (40, 30), "grey").save(path),
    "photo.jpg": lambda path: Image.new("RGB", (40, 30), "grey").save(path),
    "small.png": lambda path: Image.fromarray(cvae.sample(1, "cifar", seed=1)[0]).save(path),
    "mnist.npz": _arrays("x_train", "x_test"),
    "data.npz": _arrays("train_images"),
    "back.npz": _arrays("images"),
    "images.tar": _tar,
    **{f"{name}.bin": _kennel for name in ("scans", "monday", "tuesday")},
    "digit.bin": lambda path: path.write_bytes(cvae.encode(digits()[0], effort=0)),
    "digit_3.bin": lambda path: path.write_bytes(cvae.encode(digits()[3], effort=0)),
    "digit.npy": lambda path: np.save(path, np.zeros(16, np.int32)),
    **dict.fromkeys(("digits.bin", "all.bin", "x.bin", "archive.bin", "good.bin"), _pack),
    "damaged.bin": _damaged,
}  # fmt: skip


def make_files(line: str) -> None:
    """Makes what a line reads and what is not there yet, in the current folder."""
    words = shlex.split(re.sub(r"[<>|]", " ", line))
    for before, word in itertools.pairwise(["", *words]):
        for name, make in FILES.items():
            is_named = word == name or (name.endswith("/") and word.startswith(name))
            path = Path(name.rstrip("/"))
            if is_named and before not in ("-o", "--out") and not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                make(path)
