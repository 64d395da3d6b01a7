"""Every command and option explains itself, and the README knows every command."""

from __future__ import annotations

import re

import click
import pytest

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
MODELS = (ROOT / "docs" / "models.md").read_text()


@pytest.mark.parametrize("command", [*LOADED.values(), *BELOW.values()], ids=[*LOADED, *BELOW])
def test_every_command_and_option_has_help(command: click.Command) -> None:
    assert command.help
    for option in command.params:
        if isinstance(option, click.Option) and option.name != "seed":
            assert option.help, option.name


def test_the_default_model_of_commands_is_that_of_the_registry() -> None:
    assert options.MODEL == registry.DEFAULT


@pytest.mark.parametrize("name", COMMANDS)
def test_the_readme_shows_every_command(name: str) -> None:
    assert f"cvae {name}" in README


def test_every_cvae_command_of_the_readme_is_one() -> None:
    used = set(re.findall(r"^\s*cvae (\w+)", README, re.MULTILINE))
    assert used <= set(COMMANDS)


def test_options_that_the_readme_uses_exist() -> None:
    known = {"--help", "--version"}
    for command in LOADED.values():
        for option in command.params:
            known.update(option.opts)
    lines = [line for line in README.splitlines() if line.strip().startswith("cvae ")]
    used = {word for line in lines for word in re.findall(r"(?<!\S)(--[\w-]+)", line)}
    assert used <= known


def test_every_psnr_in_the_readme_is_one_of_the_results() -> None:
    results = (ROOT / "docs" / "results.md").read_text()
    # The transcript at the top is of a sample, which the demo measures.
    figures = re.findall(r"[\d.]+ dB", README.split("\n| ", 1)[1])
    figures = [figure for figure in figures if "." in figure]
    assert len(figures) >= 6
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
