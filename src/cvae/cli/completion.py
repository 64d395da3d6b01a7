"""What a shell completes: files where nothing else is known, and names of models."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem


class _Text(click.types.StringParamType):
    """Any text, for which a shell offers files, as it does for programs that it knows nothing of."""

    def shell_complete(
        self, context: click.Context, option: click.Parameter, typed: str
    ) -> list[CompletionItem]:
        return [_files(typed)]


def offer_files(command: click.Command) -> None:
    """Arguments and options of a command, or of those below it, that take any text offer files."""
    for option in command.params:
        if isinstance(option.type, click.types.StringParamType):
            option.type = _Text()
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        offer_files(below)


def models(context: click.Context, option: click.Parameter, typed: str) -> list[CompletionItem]:
    """The names of models that there are; files where none begins so."""
    from cvae.models import registry

    names = sorted({entry.manifest.name for entry in registry.known_models()[0]})
    found = [CompletionItem(name) for name in names if name.startswith(typed)]
    return [_files(typed), *found]


def _files(typed: str) -> CompletionItem:
    """Tells a shell to offer the files that begin so."""
    return CompletionItem(typed, type="file")
