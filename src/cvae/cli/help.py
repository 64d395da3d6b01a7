"""`cvae help`: what a command does."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from cvae.cli.talk import echo


def _commands(context: click.Context, option: click.Parameter, typed: str) -> list[CompletionItem]:
    group = context.find_root().command
    assert isinstance(group, click.Group)
    return [CompletionItem(name) for name in group.list_commands(context) if name.startswith(typed)]


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
            raise click.UsageError(f"No such command {name!r}.", found)
        found = click.Context(below, found, name)
    for line in found.get_help().splitlines():
        echo(line)
