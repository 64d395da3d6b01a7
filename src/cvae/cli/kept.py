"""What no command overwrites, whatever is forced: its inputs, and the model that it uses."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cvae.cli.options import MODEL_GIVEN
from cvae.errors import CvaeError

if TYPE_CHECKING:
    from cvae.data.places import Location


def refuse_inputs(targets: Iterable[Location], inputs: Iterable[str]) -> None:
    """Raises UsageError when a file that would be written is one that is read.

    `inputs` are paths, URLs, patterns and `-`; the model that the command uses is one, too.
    """
    from cvae.data import apart

    there = [target for target in targets if apart.key(target) is not None]
    if not there:
        return
    items = [item for item in inputs if item != "-"]
    target = apart.read_as_well(there, [*items, *map(str, models())])
    if target is not None:
        raise click.UsageError(f"{target} is input and output at once; name another with -o")


def models() -> list[Path]:
    """The file of the model that -m names; without it those of all known ones, as any may be used."""
    from cvae.models import registry

    name = click.get_current_context().meta.get(MODEL_GIVEN)
    if name is None:
        return [entry.path for entry in registry.known_models()[0]]
    with suppress(CvaeError):  # who opens it says what is wrong
        return [registry.open_model(name).path]
    return []
