"""What a shell completes: files where nothing else is known, and names of models."""

from __future__ import annotations

from typing import Any

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class

_MODEL = "-m"


class _Bash(BashComplete):
    """As click's; values that stand right behind their option are completed, too."""

    name = "bash"

    def get_completion_args(self) -> tuple[list[str], str]:
        """What was typed; bash takes `--model=photo` for three words."""
        words, typed = super().get_completion_args()
        return [word for word in words if word != "="], typed

    def get_completions(self, words: list[str], typed: str) -> list[CompletionItem[Any]]:
        options = super().get_completions(words, _MODEL if typed.startswith(_MODEL) else typed)
        if typed == _MODEL or all(item.value != _MODEL for item in options):
            return options
        found = super().get_completions([*words, _MODEL], typed.removeprefix(_MODEL))
        return [CompletionItem(_MODEL + item.value, item.type) for item in found]


add_completion_class(_Bash)


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
    from pathlib import Path

    from cvae.models import registry

    names = sorted({entry.manifest.name for entry in registry.known_models()[0]})
    found = [name for name in names if name.startswith(typed)]
    # Beside names a shell offers no files by itself.
    here = sorted(path.name for path in Path().iterdir()) if found and typed else []
    found += [name for name in here if name.startswith(typed)]
    return [_files(typed), *map(CompletionItem, found)]


def coders(context: click.Context, option: click.Parameter, typed: str) -> list[CompletionItem]:
    """The codecs that a model is compared with, the last of a list."""
    from cvae.evaluation import exactly, rivals
    from cvae.evaluation.noise import TV

    before, comma, last = typed.rpartition(",")
    names = ["linear", *rivals.RIVALS, TV, *exactly.BYTES]
    taken = before.split(",")
    fits = [name for name in names if name.startswith(last) and name not in taken]
    return [CompletionItem(before + comma + name) for name in fits]


def added(context: click.Context, option: click.Parameter, typed: str) -> list[CompletionItem]:
    """The names of models that were added, which alone can be removed."""
    from contextlib import suppress

    from cvae.models import registry

    names = []
    with suppress(OSError):  # a home folder of somebody else
        names = [path.stem for path in registry.models_below(registry.added_folder())]
    return [CompletionItem(name) for name in names if name.startswith(typed)]


def _files(typed: str) -> CompletionItem:
    """Tells a shell to offer the files that begin so."""
    return CompletionItem(typed, type="file")
