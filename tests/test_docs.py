"""Every command and option explains itself, and the README knows every command."""

from __future__ import annotations

import contextlib
import itertools
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from PIL import Image

import cvae
from cvae.cli import COMMANDS, main, options
from cvae.models import registry
from cvae.training.presets import PRESETS

from .conftest import ROOT, run_here

CONTEXT = click.Context(main)
LOADED = {name: main.get_command(CONTEXT, name) for name in COMMANDS}
BELOW = {
    f"{name} {below}": command
    for name, group in LOADED.items()
    if isinstance(group, click.Group)
    for below, command in group.commands.items()
}
README = (ROOT / "README.md").read_text()
GUIDE = (ROOT / "docs" / "guide.md").read_text()
PYTHON = (ROOT / "docs" / "python.md").read_text()
SITE = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = {"README.md": README, "docs/guide.md": GUIDE}
SHOWN = {**PAGES, "docs/packs.md": (ROOT / "docs" / "packs.md").read_text()}
MODELS = (ROOT / "docs" / "models.md").read_text()


@pytest.mark.parametrize("command", [*LOADED.values(), *BELOW.values()], ids=[*LOADED, *BELOW])
def test_every_command_and_option_has_help(command: click.Command) -> None:
    assert command.help
    for option in command.params:
        if isinstance(option, click.Option) and option.name != "seed":
            assert option.help, option.name


@pytest.mark.parametrize("command", LOADED.values(), ids=LOADED)
def test_under_options_are_options_alone(command: click.Command) -> None:
    formatter = click.HelpFormatter()
    command.format_options(click.Context(command), formatter)
    text = formatter.getvalue().partition("Commands:")[0]
    assert set(re.findall(r"(?m)^  (\S)", text)) == {"-"}


def test_the_default_model_of_commands_is_that_of_the_registry() -> None:
    assert options.MODEL == registry.DEFAULT


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("name", COMMANDS)
def test_readme_and_guide_show_every_command(name: str, page: str) -> None:
    assert f"cvae {name}" in PAGES[page]


def test_the_page_on_python_has_every_command_and_every_public_name() -> None:
    missing = {*re.findall(r"\bcvae ([a-z]+)", PYTHON)} ^ {*COMMANDS}
    assert not missing
    named = {name for name in cvae.__all__ if re.search(rf"`[^`]*\bcvae\.{name}\b", PYTHON)}
    assert named == {*cvae.__all__}


def test_the_python_of_the_docs_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for block in re.findall(r"(?s)```python\n(.*?)```", PYTHON):
        exec(block, {})


def _files() -> dict[str, Callable[[Path], object]]:
    """What the table's commands read, and how it is made."""
    digits = sorted((ROOT / "samples").glob("digit_*.png"))

    def scans(path: Path) -> None:
        path.mkdir()
        for number in range(50):
            shutil.copy(digits[number % 10], path / f"{number}.png")

    def arrays(path: Path) -> None:
        pixels = np.stack([np.asarray(Image.open(digit)) for digit in digits])
        np.savez(path, x_test=pixels, y_test=np.arange(len(pixels)))

    def pack(path: Path) -> None:
        names = [f"dogs/{number}.png" for number in range(50)]
        cvae.encode_pack([Image.open(digits[0])] * 50, path, names=names)

    images = {name: partial(shutil.copy, digit) for name, digit in zip(
        ["digit.png", "3.png", "8.png"], digits, strict=False
    )}  # fmt: skip
    return {
        **images,
        "scans/": scans,
        "photo.jpg": lambda path: Image.new("RGB", (40, 30)).save(path),
        "images.npz": arrays,
        "mnist.npz": arrays,
        "a.bin": pack,
        "b.bin": pack,
        "digit.bin": lambda path: path.write_bytes(cvae.encode(Image.open(digits[0]))),
        "all.bin": pack,
    }


ROWS = [
    [re.findall(r"`([^`]+)`", cell) for cell in line.strip("| ").split(" | ")]
    for line in PYTHON.split("| to |")[1].split("```")[0].splitlines()[2:]
    if line.startswith("|")
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[1][0] if row[1] else "encode")
def test_both_sides_of_the_page_on_python_run(row: list[list[str]], workdir: Path) -> None:
    _, commands, statements = row
    known = _files()
    lines = [shlex.split(line) for line in commands if line.startswith("cvae ")]
    read = {
        word for line in lines for before, word in itertools.pairwise(line) if before != "-o"
    } & known.keys()
    for folder in ("commands", "python"):
        Path(folder).mkdir()
        for name in read:
            known[name](Path(folder, name.rstrip("/")))
    with contextlib.chdir("commands"):
        for _, *words in lines:
            if words[0] not in ("train", "export"):  # which tests of training run
                for path in Path().glob("*.bin"):  # of another line of the row
                    if path.name not in read:
                        path.unlink()
                run_here(*words)
    image = Image.open(ROOT / "samples" / "digit_3.png")
    codec = cvae.open_model("mnist")
    pixels = np.asarray(image)
    given = {
        "cvae": cvae, "codec": codec, "image": image, "images": [image] * 50, "a": image, "b": pixels,
        "batch": pixels[np.newaxis, ..., np.newaxis], "data": codec.encode(image), "psnr": 0,
        "datas": codec.encode([image] * 2), "x": cvae.latents(image), "y": np.arange(50),
    }  # fmt: skip
    with contextlib.chdir("python"):
        if any(statement.startswith(("pack", "len(pack", "list(pack")) for statement in statements):
            known["all.bin"](Path("pack.bin"))
            given["pack"] = cvae.open_pack("pack.bin")
        for statement in statements:
            exec(statement, given)


PACKS = re.findall(r"(?s)```python\n(.*?)```", SHOWN["docs/packs.md"])


@pytest.mark.parametrize("number", range(len(PACKS)), ids=["sequence", "torch", "tensorflow"])
def test_the_python_of_the_page_on_packs_runs(number: int, workdir: Path) -> None:
    """In a process of its own, which may be forked."""
    for library in ("torch", "tensorflow"):
        if f"{library} " in PACKS[number] or f"{library}." in PACKS[number]:
            pytest.importorskip(library)
    code = PACKS[0] if number == 0 else f"{PACKS[0]}\n{PACKS[number]}"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_the_data_set_of_the_page_on_packs_takes_labels_of_every_origin(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without PyTorch, of which it is but a base class."""
    torch = types.ModuleType("torch.utils.data")
    torch.Dataset, torch.DataLoader = object, None  # type: ignore[attr-defined]
    for name in ("torch", "torch.utils", torch.__name__):
        monkeypatch.setitem(sys.modules, name, torch)
    given: dict[str, Any] = {}
    exec(PACKS[1].split("data = Labelled")[0], given)
    images = cvae.sample(4, seed=1)
    with tarfile.open("cls.tar", "w") as tar:
        for number, image in enumerate(images):
            folder = Path("folders", "ab"[number % 2])
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{number}.png")
            (folder / f"{number}.cls").write_text(str(number))
            for ending in ("png", "cls"):
                tar.add(folder / f"{number}.{ending}", f"{number}.{ending}")
    cvae.encode_pack(images, "ints.bin", effort=0, labels=[0, 1, 2, 3])
    run_here("pack", "cls.tar", "--effort", "0", "--quiet")
    run_here("pack", "folders", "--labels", "folder", "--effort", "0", "--quiet")
    for name, expected in (("ints", [3, 0]), ("cls", [3, 0]), ("folders", ["b", "a"])):
        data = given["Labelled"](f"{name}.bin")
        assert len(data) == 4
        assert [label for _, label in data.__getitems__([3, 0])] == expected
        image, label = data[3]
        assert (image.shape, label) == ((28, 28), expected[0])


def command_lines(page: Path) -> list[list[str]]:
    """The words behind `cvae` of every line that is to be typed, and in sentences; no comments."""
    lines = re.findall(r"(?m)(?:^    |\| |`)cvae ([a-z][^#\n|<>`]*)", page.read_text())
    return [line.split() for line in lines]


@pytest.mark.parametrize("page", SITE, ids=lambda page: page.stem)
def test_commands_and_options_that_are_shown_exist(page: Path) -> None:
    """Also those that no test runs."""
    for name, *words in command_lines(page):
        command = LOADED[name]
        if isinstance(command, click.Group) and words and words[0] in command.commands:
            command = command.commands[words[0]]
        known = {opt for option in command.params for opt in (*option.opts, *option.secondary_opts)}
        used = {word for word in words if word.startswith("-") and word != "-"}
        assert used <= known, name


def test_every_figure_in_the_readme_is_one_of_the_results() -> None:
    results = (ROOT / "docs" / "results.md").read_text()
    figures = re.findall(r"\d+\.\d\d", README.split("## How small")[1].split("## Six")[0])
    assert len(figures) >= 30
    assert [figure for figure in figures if figure not in results] == []


@pytest.mark.parametrize("name", [name for name in PRESETS if not name.startswith("tiny")])
def test_every_preset_has_a_row_in_the_docs(name: str) -> None:
    rows = [line for line in MODELS.splitlines() if line.startswith("| `")]
    assert any(f"`{name}`" in row.split("|")[1] for row in rows)


def test_figures_of_models_are_those_of_the_results() -> None:
    results = (ROOT / "docs" / "results.md").read_text()
    section = MODELS.split("## Figures and pictures")[1].split("The pictures are made")[0]
    figures = re.findall(r"[\d.]+ (?:dB|B)\b", section)
    assert len(figures) > 30
    assert [figure for figure in figures if figure not in results] == []


def test_pictures_in_the_docs_exist() -> None:
    for page in SITE:
        for link in re.findall(r"!\[.*?\]\((.*?)\)", page.read_text()):
            assert (page.parent / link).is_file(), f"{page.name}: {link}"


def test_every_public_name_and_every_page_is_in_the_site() -> None:
    names = re.findall(r"(?m)^::: (\S+)$", (ROOT / "docs" / "reference" / "python.md").read_text())
    shown = {
        f"{found.__module__}.{found.__name__}" for found in map(_public, cvae.__all__) if found
    }
    assert {*names} == shown
    listed = re.findall(r"\b[\w/-]+\.md\b", (ROOT / "mkdocs.yml").read_text())
    pages = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    made = {f"notebooks/{path.stem}.md" for path in (ROOT / "docs" / "notebooks").glob("*.ipynb")}
    assert {*listed} == {*pages, *made, "reference/commands.md"}


def _public(name: str) -> Any:
    found = getattr(cvae, name)
    return None if isinstance(found, str) else found
