"""`cvae help`: what a command does."""

from __future__ import annotations

from collections.abc import Iterable

import click
from click.shell_completion import CompletionItem

from cvae.cli.talk import echo


def _commands(context: click.Context, option: click.Parameter, typed: str) -> list[CompletionItem]:
    group = context.find_root().command
    assert isinstance(group, click.Group)
    return [CompletionItem(name) for name in group.list_commands(context) if name.startswith(typed)]


def meant(name: str, names: Iterable[str]) -> str:
    """` Did you mean 'encode'?` where one of the names is like the one that was typed."""
    import difflib

    found = difflib.get_close_matches(name, list(names), 1)
    return f" Did you mean {found[0]!r}?" if found else ""


@click.command("help")
@click.argument("names", nargs=-1, metavar="[COMMAND]", shell_complete=_commands)
@click.pass_context
def command(context: click.Context, names: tuple[str, ...]) -> None:
    """Show what COMMAND does, as `cvae COMMAND --help` does."""
    found = context.find_root()
    for name in names:
        group = found.command
        below = group.get_command(found, name) if isinstance(group, click.Group) else None
        if below is None:
            known = group.list_commands(found) if isinstance(group, click.Group) else []
            raise click.UsageError(f"No such command {name!r}.{meant(name, known)}", found)
        found = click.Context(below, found, name)
    for line in found.get_help().splitlines():
        echo(line)
