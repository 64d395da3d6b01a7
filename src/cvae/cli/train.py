"""`cvae train`: a training run from a preset to a model file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cvae.cli.common import Talk
from cvae.training import presets

if TYPE_CHECKING:
    from cvae.reading import Reading
    from cvae.training.datasets import Dataset
    from cvae.training.runs import Run

_EPILOG = "\b\nPresets:\n" + "\n".join(
    f"  {preset.name:16}{preset.summary}"
    for preset in presets.PRESETS.values()
    if not preset.name.startswith("tiny")  # they are for tests
)


@click.command("train", epilog=_EPILOG)
@click.argument("preset", type=click.Choice(list(presets.PRESETS)), metavar="PRESET")
@click.option(
    "--data", metavar="DATA",
    help="mnist, fashion_mnist or cifar10 (downloaded), an .npz file as keras.datasets has it, or a "
    "folder of images.  [default: the preset's own]",
)  # fmt: skip
@click.option(
    "--size", type=click.IntRange(1, 4096), metavar="N",
    help="Of a folder: bring images to N x N pixels; those less than a quarter of that wide or "
    "high are left out.  [default: the preset's]",
)  # fmt: skip
@click.option("--grey/--colour", default=None, help="Of a folder.  [default: the preset's]")
@click.option(
    "--crop/--resize", default=None,
    help="Of a folder, images of another shape: scale the shorter side and cut out the middle, or "
    "squeeze the whole.  [default: crop]",
)  # fmt: skip
@click.option(
    "--background", metavar="COLOUR",
    help="Of a folder: what transparent images are laid on, a name or '#rrggbb'.  [default: black]",
)  # fmt: skip
@click.option(
    "-o", "--out", type=click.Path(path_type=Path, file_okay=False),
    help="The run's folder.  [default: runs/PRESET]",
)  # fmt: skip
@click.option("--resume", is_flag=True, help="Carry on after the last finished epoch.")
@click.option("--name", help="The model's name.  [default: the preset's, or the next free NAME-2]")
@click.option("--epochs", type=click.IntRange(min=1), help="[default: the preset's]")
@click.option("--batch-size", type=click.IntRange(min=1), help="[default: the preset's]")
@click.option(
    "--learning-rate", type=click.FloatRange(min=0, min_open=True), help="[default: the preset's]"
)
@click.option(
    "--distortion-weight", type=click.FloatRange(min=0, min_open=True),
    help="Larger: better pictures, larger files.  [default: the preset's]",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)
@click.option("-f", "--force", is_flag=True, help="Start anew in a folder that holds a run.")
@click.option("--quiet", is_flag=True, help="Only errors on stderr.")
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
    seed: int,
    force: bool,
    quiet: bool,
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
    from cvae.reading import Reading
    from cvae.training import backend, datasets, export, runs

    recipe = presets.get(preset)
    recipe = replace(
        recipe, **{key: value for key, value in overrides.items() if value is not None}
    )
    if recipe.architecture == "linear" and any(overrides.values()):
        raise click.UsageError(f"{preset} is fitted in closed form; it has no such option")
    folder = out or Path("runs") / preset
    reading = None
    if data is not None and Path(data).is_dir() and data not in datasets.LICENCES:
        before = runs.Run.open(folder).reading if resume and (folder / runs.RUN).exists() else None
        reading = _reading(before or Reading(recipe.image_shape), size, grey, crop, background)
        recipe = replace(recipe, image_shape=reading.shape)
    elif any(wish is not None for wish in (size, grey, crop, background)):
        raise click.UsageError(
            "--size, --grey, --colour, --crop, --resize and --background are for a folder of images "
            "as --data"
        )
    backend.require("onnx", "matplotlib", "rich")
    if recipe.architecture != "linear":
        backend.load_keras()
        from cvae.training import architectures

        architectures.check(recipe)
    talk = Talk(quiet, verbose=False)
    export.check_name(name, folder)
    dataset = datasets.load(data, recipe.dataset, recipe.image_shape, reading, talk.watch)
    talk.skipped(data, dataset.skipped, f", in {folder / runs.SKIPPED}")
    talk.say(_describe(dataset))
    run = runs.start(folder, recipe, dataset, seed, resume, force)
    if recipe.architecture == "linear":
        from cvae.training import linear

        linear.fit(run, dataset.train)
    else:
        _train(run, dataset, talk)
    finish(run, dataset, talk, name)


def _reading(
    reading: Reading,
    size: int | None,
    grey: bool | None,
    crop: bool | None,
    background: str | None,
) -> Reading:
    """`reading` with what the options say otherwise."""
    height, width, channels = reading.shape
    if size is not None:
        height = width = size
    if grey is not None:
        channels = 1 if grey else 3
    reading = replace(reading, shape=(height, width, channels))
    if crop is not None:
        reading = replace(reading, fit="crop" if crop else "resize")
    if background is not None:
        reading = replace(reading, background=_colour(background))
    return reading


def _colour(text: str) -> str:
    """A colour's name as `#rrggbb`."""
    from PIL import ImageColor

    try:
        red, green, blue = ImageColor.getrgb(text)[:3]
    except ValueError as error:
        raise click.BadParameter(
            f"expected a colour such as white or '#ffffff', found {text!r}",
            param_hint="'--background'",
        ) from error
    return f"#{red:02x}{green:02x}{blue:02x}"


def _describe(dataset: Dataset) -> str:
    parts = f"{len(dataset.train)} images to train, {len(dataset.validation)} to validate"
    if dataset.folder is None:
        return f"{dataset.name}: {parts}"
    test = len(dataset.folder.names["test"])
    return f"{dataset.name}: {parts}, {test} to test; read as {dataset.folder.reading}"


def _train(run: Run, dataset: Dataset, talk: Talk) -> None:
    from cvae import report
    from cvae.training import runs
    from cvae.training.progress import ProgressBar
    from cvae.training.trainer import train as train_run

    talk.say(f"{run.preset.epochs} epochs, one line each; an interrupted run goes on with --resume")
    try:
        with ProgressBar(run.preset.epochs, talk.quiet) as progress:
            train_run(run, dataset, progress)
    except KeyboardInterrupt:
        talk.say(
            f"{run.folder}: finished epochs are kept; --resume with the same options goes on after them"
        )
        raise
    history = runs.read_history(run)
    if history:
        report.loss_curves(history, run.folder / "curves.png")


def finish(
    run: Run,
    dataset: Dataset,
    talk: Talk,
    name: str | None = None,
    output: Path | None = None,
    force: bool = False,
) -> None:
    """Exports, draws reconstructions of validation images, and says what came of it."""
    from cvae import report
    from cvae.codec import Codec
    from cvae.model import Model
    from cvae.training import export

    talk.say("exporting and checking the model")
    result = export.export(run, dataset, name, output, force)
    figures = result.manifest.figures
    codec = Codec(Model(result.model))
    shown = dataset.validation[:12]
    quality = codec.quality(None)
    decoded = codec.synthesize(codec.quantize(shown, quality), quality)
    report.image_grid([shown, decoded], run.folder / "reconstructions.png")
    talk.say(
        f"{result.model}: model {result.manifest.name}, id {result.manifest.id:#06x}"
        f"{' (as before)' if result.kept_id else ''}; validation images: "
        f"{figures['payload_bytes_mean']:.2f} bytes of payload at {figures['psnr_mean']:.2f} dB"
    )
