"""`cvae train`: a training run from a preset to a model file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cvae.cli import recipes
from cvae.cli.options import GroupedCommand, GroupedOption
from cvae.cli.talk import Talk
from cvae.training import presets

if TYPE_CHECKING:
    from cvae.training.datasets import Dataset
    from cvae.training.preset import Preset
    from cvae.training.runs import Run

_EPILOG = "\b\nPresets:\n  auto            looks at a folder of images and chooses\n" + "\n".join(
    f"  {preset.name:16}{preset.summary}"
    for preset in presets.PRESETS.values()
    if not preset.name.startswith("tiny")  # they are for tests
)


def option(group: str, *names: str, **attributes: Any) -> Callable[[Any], Any]:
    """An option under a heading."""
    return click.option(*names, cls=GroupedOption, group=group, **attributes)


_POSITIVE = click.FloatRange(min=0, min_open=True)
_COUNT = click.IntRange(min=1)
_FOLDER = click.Path(path_type=Path, file_okay=False)
_DEFAULT = "[default: the preset's]"
_RECIPE, _FILES, _MACHINE = "Recipe", "A folder of images as --data", "Machine"


@click.command("train", epilog=_EPILOG, cls=GroupedCommand)
@click.argument("preset", type=click.Choice([*presets.PRESETS, recipes.AUTO]), metavar="PRESET")
@click.option(
    "--data", metavar="DATA",
    help="mnist, fashion_mnist or cifar10 (downloaded), an .npz file as keras.datasets has it, or a "
    "folder of images.  [default: the preset's own]",
)  # fmt: skip
@option(
    _FILES, "--size", type=click.IntRange(1, 4096), metavar="N",
    help="Bring images to N x N pixels; those less than a quarter of that wide or high are left "
    "out.  [default: the preset's]",
)  # fmt: skip
@option(_FILES, "--grey/--colour", default=None, help="[default: the preset's]")
@option(
    _FILES, "--crop/--resize", default=None,
    help="Images of another shape: scale the shorter side and cut out the middle, or squeeze the "
    "whole.  [default: crop]",
)  # fmt: skip
@option(
    _FILES, "--background", metavar="COLOUR",
    help="What transparent images are laid on, a name or '#rrggbb'.  [default: black]",
)  # fmt: skip
@click.option("-o", "--out", type=_FOLDER, help="The run's folder.  [default: runs/PRESET]")
@click.option("--resume", is_flag=True, help="Carry on after the last finished epoch.")
@click.option("--name", help="The model's name.  [default: the preset's, or the next free NAME-2]")
@click.option("-f", "--force", is_flag=True, help="Start anew in a folder that holds a run.")
@click.option("--quiet", is_flag=True, help="Only errors on stderr.")
@option(_RECIPE, "--epochs", type=_COUNT, help=f"At most so many.  {_DEFAULT}")
@option(_RECIPE, "--latents", "latent_dim", type=_COUNT, help=f"How many are coded.  {_DEFAULT}")
@option(_RECIPE, "--batch-size", type=_COUNT, help=_DEFAULT)
@option(_RECIPE, "--learning-rate", type=_POSITIVE, help=_DEFAULT)
@option(
    _RECIPE, "--distortion-weight", type=_POSITIVE,
    help=f"Larger: better pictures, larger files.  {_DEFAULT}",
)  # fmt: skip
@option(
    _RECIPE, "--patience", type=click.IntRange(min=0),
    help="Stop after so many epochs without a better validation loss, and keep the best; 0: never.  "
    + _DEFAULT,
)  # fmt: skip
@option(
    _RECIPE, "--perceptual-weight", type=click.FloatRange(min=0),
    help=f"Weight of the difference of features in the loss.  {_DEFAULT}",
)  # fmt: skip
@option(
    _RECIPE, "--features",
    help="Whose features: cifar10 (comes with cvae), vgg16 (downloaded), or a file of weights.  "
    + _DEFAULT,
)  # fmt: skip
@option(
    _RECIPE, "--fine-tune", type=_FOLDER, metavar="RUN",
    help="Begin with the weights of another run of the same networks, at a tenth of the learning "
    "rate where there is no --learning-rate.",
)  # fmt: skip
@option(
    _RECIPE, "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True,
    help="Of all that is random.",
)  # fmt: skip
@option(
    _MACHINE, "--mixed-precision", is_flag=True,
    help="Compute in bfloat16, with weights in float32: faster on recent GPUs.",
)  # fmt: skip
@option(
    _MACHINE, "--xla/--no-xla", default=None,
    help="Compile with XLA.  [default: on a single GPU only]",
)  # fmt: skip
@option(
    _MACHINE, "--devices", help="Such as GPU:0,GPU:1 (TensorFlow).  [default: all GPUs there are]"
)
@option(
    _MACHINE, "--tensorboard", is_flag=True, help="Write logs for TensorBoard to RUN/tensorboard."
)
def command(
    preset: str,
    data: str | None,
    size: int | None,
    grey: bool | None,
    crop: bool | None,
    background: str | None,
    out: Path | None,
    resume: bool,
    name: str | None,
    force: bool,
    quiet: bool,
    seed: int,
    fine_tune: Path | None,
    mixed_precision: bool,
    xla: bool | None,
    devices: str | None,
    tensorboard: bool,
    **overrides: Any,
) -> None:
    """Train PRESET and export the model.

    The model is RUN/NAME.cvae; `cvae encode -m RUN` uses it. Needs the extra `train`. The run's
    folder keeps a checkpoint of every epoch: after an interruption, the same command with --resume
    ends with the same weights as if there had been none.

    In a folder every file is tried, whatever its name: JPEG, PNG, WebP, BMP, GIF (the first
    picture), TIFF and PPM, in subfolders, too. Files that are no images, damaged or far too small
    are left out and named. A tenth of the images, near-identical ones together, validates, and a
    tenth is kept for `cvae eval FOLDER --split test`; if there are folders train/, val/ and test/,
    these are the parts.
    """
    from cvae.training import backend, datasets, runs
    from cvae.training.export import naming

    talk = Talk(quiet, verbose=False)
    folder = out or Path("runs") / preset
    overrides["precision"] = "mixed_bfloat16" if mixed_precision else None
    wishes = {key: value for key, value in overrides.items() if value is not None}
    images = recipes.Images(data, size, grey, crop, background)
    runs.check_start(folder, resume, force, fine_tune)
    recipes.check_place(folder, images)
    recipe = recipes.choose(preset, images, wishes, folder, talk, fine_tune is not None)
    linear = recipe.architecture == "linear"
    if linear and (fine_tune or devices or xla is not None or tensorboard):
        raise click.UsageError(
            f"{preset} is fitted in closed form by numpy; it has no --fine-tune, --devices, --xla or "
            "--tensorboard"
        )
    naming.check_name(name, folder)
    before = runs.Run.open(folder).reading if resume and (folder / runs.RUN).exists() else None
    recipe, reading = recipes.read_as(recipe, images, before)
    backend.require("onnx", "matplotlib", "rich")
    if tensorboard:
        backend.require("tensorboard", extra="tensorboard")
    if not linear:
        _check_networks(recipe, devices)
    dataset = datasets.load(data, recipe.dataset, recipe.image_shape, reading, talk.watch)
    talk.skipped(data, dataset.skipped, f", in {folder / runs.SKIPPED}")
    talk.say(_describe(dataset))
    recipe = recipes.capped(recipe, len(dataset.train), "latent_dim" in wishes, talk)
    run = runs.start(folder, recipe, dataset, seed, resume, force, fine_tune)
    if linear:
        from cvae.training.export import linear as linear_codec

        linear_codec.fit(run, dataset.train)
    else:
        _train(run, dataset, talk, devices, xla, tensorboard)
    finish(run, dataset, talk, name)


def _check_networks(recipe: Preset, devices: str | None) -> None:
    """Finds all that can be wrong before the run's folder is made, or emptied. Raises CvaeError."""
    from cvae.training import backend

    backend.load_keras()
    from cvae.training.networks import architectures, features

    backend.check_devices(devices)
    architectures.check(recipe)
    features.perceptual(recipe)


def _describe(dataset: Dataset) -> str:
    parts = f"{len(dataset.train)} images to train, {len(dataset.validation)} to validate"
    if dataset.folder is None:
        return f"{dataset.name}: {parts}"
    test = len(dataset.folder.names["test"])
    return f"{dataset.name}: {parts}, {test} to test; read as {dataset.folder.reading}"


def _train(
    run: Run, dataset: Dataset, talk: Talk, devices: str | None, xla: bool | None, tensorboard: bool
) -> None:
    from cvae.training import runs, trainer
    from cvae.training.interrupts import Interrupts
    from cvae.training.progress import ProgressBar, tensorboard_log

    epochs = run.preset.epochs
    talk.say(
        f"{epochs} epoch{'s' if epochs > 1 else ''}, one line each; "
        "an interrupted run goes on with --resume"
    )
    try:
        with ProgressBar(epochs, talk.quiet) as progress, Interrupts() as interrupts:
            callbacks: list[Any] = [progress, interrupts]
            if tensorboard:
                callbacks.append(tensorboard_log(run.folder / "tensorboard"))
            trainer.train(run, dataset, trainer.Machine(devices, xla, tuple(callbacks)))
    except KeyboardInterrupt:
        talk.say(
            f"{run.folder}: finished epochs are kept; --resume with the same options goes on after "
            f"them, `cvae export {run.folder}` makes a model of them"
        )
        raise
    ended = len(runs.read_history(run))
    if ended < epochs:
        talk.say(
            f"ended after epoch {ended}: no better validation loss for {run.preset.patience}; "
            "the best one is exported"
        )


def finish(
    run: Run,
    dataset: Dataset,
    talk: Talk,
    name: str | None = None,
    output: Path | None = None,
    force: bool = False,
) -> None:
    """Exports, draws reconstructions of validation images, and says what came of it."""
    from cvae.training import pictures
    from cvae.training.export import model as export

    talk.say("exporting and checking the model; with many latents it takes minutes")
    try:
        result = export.export(run, dataset, name, output, force)
        pictures.draw(run, dataset, result.model)
    except KeyboardInterrupt:
        talk.say(f"{run.folder}: training has ended; `cvae export {run.folder}` makes the model")
        raise
    figures = result.manifest.figures
    measured = {
        "payload_bytes_mean": "{payload_bytes_mean:.2f} bytes of payload at {psnr_mean:.2f} dB",
        "denoised_psnr": "{noisy_psnr:.2f} dB with noise, {denoised_psnr:.2f} dB without",
    }
    found = "; ".join(text for name, text in measured.items() if name in figures)
    talk.say(
        f"{result.model}: model {result.manifest.name}, id {result.manifest.id:#06x}"
        f"{' (as before)' if result.kept_id else ''}; validation images: " + found.format(**figures)
    )
