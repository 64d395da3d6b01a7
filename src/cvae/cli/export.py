"""`cvae export`: makes the model file of a training run."""

from __future__ import annotations

from pathlib import Path

import click

from cvae.cli.talk import Talk
from cvae.cli.train import finish, quiet_option


@click.command("export")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", metavar="DATA", help="The data of the run.  [default: where it was then]")
@click.option("--name", help="The model's name.  [default: as it was]")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False),
    help="The model file.  [default: RUN/NAME.cvae]",
)  # fmt: skip
@click.option("-f", "--force", is_flag=True, help="Overwrite OUTPUT if it is another model.")
@quiet_option
def command(
    run: Path, data: str | None, name: str | None, output: Path | None, force: bool, talk: Talk
) -> None:
    """Make the model file of a training run.

    RUN is the run's folder; an interrupted run is exported at its last finished epoch. Needs the
    extra `train` and the run's data. The graphs are checked against the trained networks before
    anything is written. The model keeps its id, and files stay readable, if RUN holds an earlier
    export of the same weights that decodes to the same pictures.
    """
    from cvae.data import apart
    from cvae.training import architectures, backend, datasets, runs

    opened = runs.Run.open(run)
    preset = opened.preset
    backend.require("onnx")
    if not architectures.of(preset).closed_form:
        backend.load_keras()
    source = data or opened.source
    if output is not None and apart.read_as_well([output], [source]):
        raise click.UsageError(f"{output} is input and output at once; name another with -o")
    talk.say(f"reading {source}")
    dataset = datasets.load(
        source,
        preset.dataset,
        preset.image_shape,
        opened.reading,
        talk.watch,
        opened.data.get("key"),
    )
    finish(opened, dataset, talk, name, output, force)
