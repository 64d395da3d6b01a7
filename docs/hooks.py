"""What `make docs` adds to Markdown: help of commands, formulas as MathML, notebooks."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import click
from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

from cvae.cli import main

DOCS = Path(__file__).parent
_FORMULA = re.compile(r'(?s)<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>')
_ELSEWHERE = re.compile(
    r"<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>"
)
# Between a function's name and what it is of, the converter leaves no space.
_FUNCTION = re.compile(r"\\(?:log|ln)\b(?:_\w)?(?= )")
# Files of the repository that are no pages; where it is hosted, the site does not know.
_OUT = re.compile(r"\[([^\]]+)\]\((?:\.\./)+(?:samples|benchmarks|src|tests|[A-Z])[^)]*\)")


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages that are made of something else."""
    pages = {"reference/commands.md": _commands()}
    for notebook in sorted((DOCS / "notebooks").glob("*.ipynb")):
        pages[f"notebooks/{notebook.stem}.md"] = _page(json.loads(notebook.read_text()))
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(text: str, page: Any, **_: Any) -> str:
    """Takes the links away that lead to files beside docs/."""
    return _OUT.sub(r"\1", text)


def on_page_content(html: str, **_: Any) -> str:
    """Formulas of LaTeX as MathML, which browsers draw by themselves."""
    return _FORMULA.sub(_formula, html)


def on_post_page(html: str, page: Any, **_: Any) -> str:
    """Raises PluginError when a browser would load something from another host."""
    found = _ELSEWHERE.search(html)
    if found:
        raise PluginError(
            f"{page.file.src_uri}: expected nothing from other hosts, found {found[0]}"
        )
    return html


def _formula(found: re.Match[str]) -> str:
    tag, latex = found.groups()
    latex = _FUNCTION.sub(r"\g<0>\\,", unescape(latex).strip())
    return convert(latex, display="block" if tag == "div" else "inline")


def _commands() -> str:
    """A chapter a command: what `--help` prints."""
    root = click.Context(main, info_name="cvae")
    parts = ["# Commands", "What `cvae COMMAND --help` prints."]
    for name in main.list_commands(root):
        command = main.get_command(root, name)
        assert command is not None
        parts += _help(command, root, name, "##")
    return "\n\n".join(parts) + "\n"


def _help(command: click.Command, parent: click.Context, name: str, mark: str) -> list[str]:
    context = click.Context(command, info_name=name, parent=parent, max_content_width=88)
    text = command.get_help(context)
    parts = [f"{mark} {context.command_path}", f"```text\n{text}\n```"]
    if isinstance(command, click.Group):
        for below, found in command.commands.items():
            parts += _help(found, context, below, mark + "#")
    return parts


def _page(notebook: dict[str, Any]) -> str:
    """A notebook with its outputs as Markdown."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        else:
            parts.append(f"```python\n{source}\n```")
            parts += [_output(output) for output in cell["outputs"]]
    return "\n\n".join(parts) + "\n"


def _output(output: dict[str, Any]) -> str:
    data = output.get("data", {})
    if "image/png" in data:
        picture = "".join(data["image/png"]).replace("\n", "")
        return f"![output](data:image/png;base64,{picture})"
    text = output.get("text") or data.get("text/plain") or []
    return f"```text\n{''.join(text).rstrip()}\n```"
