"""A finished run -> `NAME.cvae`: made, checked against the trained networks, measured, written."""

from __future__ import annotations

import tempfile
from pathlib import Path

from cvae.data import files
from cvae.errors import TrainingError
from cvae.models import registry
from cvae.models.file import SUFFIX, Manifest, Model, member_hashes, write_model
from cvae.training import architectures
from cvae.training.datasets import Dataset
from cvae.training.export.made import Say
from cvae.training.export.naming import WEIGHTS, check_name, free_name, new_id, versions
from cvae.training.runs import Run


def export(
    run: Run,
    dataset: Dataset,
    name: str | None = None,
    output: Path | None = None,
    force: bool = False,
    say: Say = lambda _: None,
) -> tuple[Model, bool]:
    """Makes the model file of a run and checks it before it is written.

    Args:
        run: a finished training run.
        dataset: the data that it was trained on; the tables are counted on it.
        name: the model's name; None for the preset's, or the next free `NAME-2`.
        output: the file to write; None for `NAME.cvae` in the run's folder.
        force: overwrite a file that exists. An earlier export of the same weights always is.
        say: called with a line on each step before it is taken.

    Returns:
        The model, and whether it has the id of an earlier export.

    Raises:
        OutputError: the file exists and `force` is off, or cannot be written.
        TrainingError: no epoch of the run has finished, the data is not what it was trained on, or
            the graphs differ from the trained networks.
    """
    if dataset.describe()["sha256"] != run.data["sha256"]:
        known = f"{run.data['name']}, {run.data['train']} images"
        text = f"expected the data it was trained on ({known}), found other images"
        raise TrainingError(text, where=run.folder)
    check_name(name, run.folder)
    architecture, trained = architectures.of(run.preset), None
    if not architecture.closed_form:
        from cvae.training import backend, checkpoints

        say("loading the trained networks")
        backend.whole_precision()
        trained = checkpoints.load(run)
    made = architecture.make(run, dataset, trained, say)
    previous = made.previous
    if name is None:
        taken = registry.known_models()[0] + registry.models_in(run.folder)[0]
        name = previous.manifest.name if previous else free_name(run.preset.name, taken)
    output = output or run.folder / f"{name}{SUFFIX}"
    force = force or (previous is not None and output.resolve() == previous.path.resolve())
    files.check_writable(output, force)
    manifest = Manifest(
        id=previous.manifest.id if previous else new_id(made.weights_hash, made.qualities),
        name=name,
        image_shape=run.preset.image_shape,
        hashes={**member_hashes(made.graphs, made.qualities), WEIGHTS: made.weights_hash},
        summary=run.preset.summary,
        preset=run.preset.to_json(),
        data=run.data,
        versions=versions(),
        **made.fields,
    )
    with tempfile.TemporaryDirectory() as folder:
        say("measuring the model on validation images")
        draft = Path(folder) / f"draft{SUFFIX}"
        write_model(draft, manifest, made.graphs, made.qualities, True)
        manifest = made.measure(Model(draft))
    say(f"writing {output}")
    write_model(output, manifest, made.graphs, made.qualities, force)
    return Model(output), previous is not None
