"""`cvae export`: makes the model file of a training run."""

from __future__ import annotations

from pathlib import Path

import click

from cvae.cli.talk import Talk
from cvae.cli.train import finish


@click.command("export")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", metavar="DATA", help="The data of the run.  [default: where it was then]")
@click.option("--name", help="The model's name.  [default: as it was]")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False),
    help="The model file.  [default: RUN/NAME.cvae]",
)  # fmt: skip
@click.option("-f", "--force", is_flag=True, help="Overwrite OUTPUT if it is another model.")
@click.option("--quiet", is_flag=True, help="Only errors on stderr.")
def command(
    run: Path, data: str | None, name: str | None, output: Path | None, force: bool, quiet: bool
) -> None:
    """Make the model file of a training run, as `cvae train` does in the end.

    RUN is the run's folder; of an interrupted run the epochs count that have finished. Needs the
    extra `train`, and the data that the run was trained on. The graphs are checked against the
    trained networks before anything is written. The model keeps its id, and so its files, if RUN
    holds an earlier export of the same weights that decodes to the same pictures.
    """
    from cvae.training import backend, datasets, runs

    opened = runs.Run.open(run)
    backend.require("onnx")
    if opened.preset.architecture != "linear":
        backend.load_keras()
    source = data or opened.source
    talk = Talk(quiet, verbose=False)
    dataset = datasets.load(
        source, opened.preset.dataset, opened.preset.image_shape, opened.reading, talk.watch
    )
    finish(opened, dataset, talk, name, output, force)
