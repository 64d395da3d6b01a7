"""`cvae models`: the models that every command finds; add and remove some."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cvae.cli import completion, options, tables
from cvae.cli.talk import Talk, echo, echo_json, harmless

if TYPE_CHECKING:
    from cvae.models.registry import Entry


@click.group("models", invoke_without_command=True)
@options.as_json
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """List, add and remove models.

    \b
      cvae models add runs/mine    copy the model of a training run, say own
      cvae models remove own

    Every command finds the shipped models, those in CVAE_MODELS (files or folders, like PATH) and
    those that were added. --json prints all their paths.
    """
    if context.invoked_subcommand is not None:
        return
    from cvae import kinds

    entries, errors = kinds.known_models()
    talk = Talk()
    for error in errors:
        talk.warning(str(error))
    if as_json:
        echo_json([_facts(entry) for entry in entries])
        return
    width = max((len(entry.manifest.name) for entry in entries), default=0)
    for entry in entries:
        tables.show(_lines(entry, width))
    talk.say("* default; bytes a file and PSNR are of validation images")


@command.command("add")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("-f", "--force", is_flag=True, help="Replace an added model of the same name.")
def add(file: Path, force: bool) -> None:
    """Check FILE and copy it to where every command finds it.

    FILE is a .cvae file, or the folder of a training run. No other model may have its name or its id.
    The copy goes to a folder of your own; CVAE_HOME changes which.
    """
    from cvae import kinds
    from cvae.models import registry

    path, manifest = registry.add(file, kinds.verify, force)
    echo(f"added {manifest.name}, id {manifest.id:#06x}: {path}", err=True)


@command.command("remove")
@click.argument("name", metavar="NAME", shell_complete=completion.added)
def remove(name: str) -> None:
    """Delete the added model NAME.

    Its files cannot be decoded any more. Models that were not added stay.
    """
    from cvae.models import registry

    echo(f"removed {registry.remove(name)}", err=True)


def _facts(entry: Entry) -> dict[str, object]:
    from cvae import kinds

    path, manifest = entry
    return {
        "name": manifest.name,
        "id": f"{manifest.id:#06x}",
        "kind": manifest.kind,
        "denoises": kinds.of(manifest).denoises(manifest),
        "image_shape": manifest.image_shape,
        "latent_shape": manifest.latent_shape,
        "summary": manifest.summary,
        "figures": manifest.figures,
        "path": str(path),
    }


def _lines(entry: Entry, width: int) -> Iterator[str]:
    """What the model codes and how well; its summary; where it is, unless it is shipped."""
    from cvae import kinds
    from cvae.models import registry

    path, manifest = entry
    kind = kinds.of(manifest)
    mark = "*" if manifest.name == registry.DEFAULT else " "
    yield (
        f"{mark} {manifest.name:{width}}  {kind.describe(manifest):12} "
        f"{kind.figures(manifest)}  id {manifest.id:#06x}"
    )
    if manifest.summary:
        yield from click.wrap_text(
            harmless(manifest.summary), tables.COLUMNS, "    ", "    "
        ).splitlines()
    if path.parent != registry.shipped_folder():
        added = path.parent == registry.added_folder()
        yield f"    {'added' if added else registry.SEARCH_PATH}: {path}"
