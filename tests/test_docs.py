"""Every command and option explains itself, and the README knows every command."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

import cvae
from cvae.cli import COMMANDS, main, options
from cvae.models import registry
from cvae.training.presets import PRESETS

from .conftest import ROOT

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


PACKS = re.findall(r"(?s)```python\n(.*?)```", SHOWN["docs/packs.md"])


@pytest.mark.parametrize("number", range(len(PACKS)), ids=["sequence", "torch", "tensorflow"])
def test_the_python_of_the_page_on_packs_runs(number: int, workdir: Path) -> None:
    """In a process of its own, which may be forked."""
    for library in ("torch", "tensorflow"):
        if f"{library} " in PACKS[number] or f"{library}." in PACKS[number]:
            pytest.importorskip(library)
    code = PACKS[0] if number == 0 else f"{PACKS[0]}\n{PACKS[number]}"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def command_lines(page: str) -> list[list[str]]:
    """The words behind `cvae` of every line that is to be typed, comments left out."""
    lines = re.findall(r"(?m)(?:^    |\| )cvae ([^#\n|<>]*)", SHOWN[page])
    return [line.split() for line in lines]


@pytest.mark.parametrize("page", SHOWN)
def test_commands_and_options_that_are_shown_exist(page: str) -> None:
    assert command_lines(page)
    for name, *words in command_lines(page):
        command = LOADED[name]
        if isinstance(command, click.Group) and words and words[0] in command.commands:
            command = command.commands[words[0]]
        known = {opt for option in command.params for opt in (*option.opts, *option.secondary_opts)}
        used = {word for word in words if word.startswith("-") and word != "-"}
        assert used <= known, name


def test_every_figure_in_the_readme_is_one_of_the_results() -> None:
    results = (ROOT / "docs" / "results.md").read_text()
    figures = re.findall(r"\d+\.\d\d", README.split("## How small")[1].split("## Five")[0])
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
    for page in (ROOT / "docs").glob("*.md"):
        for link in re.findall(r"!\[.*?\]\((.*?)\)", page.read_text()):
            assert (page.parent / link).is_file(), f"{page.name}: {link}"
