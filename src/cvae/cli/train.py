"""`cvae train`: a training run from a preset to a model file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cvae.cli import completion, options, recipes
from cvae.cli.options import Decorator, GroupedCommand, collect, grouped
from cvae.cli.talk import Talk, counted
from cvae.errors import at
from cvae.training import presets
from cvae.training.backend import Machine

if TYPE_CHECKING:
    from cvae.training.datasets import Dataset
    from cvae.training.runs import Run

_SHOWN = [name for name in presets.PRESETS if not name.startswith("tiny")]  # which are for tests
_WIDTH = max(map(len, _SHOWN)) + 2
_EPILOG = (
    f"\b\nPresets:\n  {recipes.AUTO:{_WIDTH}}looks at a folder of images and chooses\n"
    + "\n".join(
        f"  {preset.name:{_WIDTH}}{preset.summary}"
        for preset in presets.PRESETS.values()
        if preset.name in _SHOWN
    )
)
_POSITIVE = click.FloatRange(min=0, min_open=True)
_COUNT = click.IntRange(min=1)
_FOLDER = click.Path(path_type=Path, file_okay=False)
_DEFAULT = "[default: the preset's]"
_RECIPE, _FILES, _MACHINE = "Recipe", "A folder of images as --data", "Machine"


class _Presets(click.Choice[str]):
    """Presets by name; those that are not shown are taken, too."""

    def convert(
        self, value: str, option: click.Parameter | None, context: click.Context | None
    ) -> str:
        return value if value in presets.PRESETS else super().convert(value, option, context)


def _of_recipe(*names: str, help: str = "", **attributes: Any) -> Decorator:
    """An option that changes a field of the preset."""
    return grouped(_RECIPE, *names, help=f"{help}  {_DEFAULT}".strip(), **attributes)


quiet_option = collect(
    "talk", Talk, click.option("--quiet", is_flag=True, help="Print only errors.")
)
_images = collect(
    "images",
    recipes.Images,
    click.option(
        "--data", metavar="DATA",
        help="mnist, fashion_mnist or cifar10 (downloaded), a folder of images, or what else `cvae pack` "
        "takes: an array (.npz, .npy, idx), an archive, a pack, a URL.  [default: the preset's own]",
    ),
    click.option(
        "--key", metavar="NAME",
        help="Which array of an .npz file.  [default: x_train, else images, else the only one of images]",
    ),
    grouped(
        _FILES, "--size", type=click.IntRange(1, 4096), metavar="N",
        help="Resize images to N x N pixels; those with a side below N / 4 are skipped.  " + _DEFAULT,
    ),
    grouped(_FILES, "--grey/--colour", default=None, help=_DEFAULT),
    grouped(
        _FILES, "--crop/--resize", default=None,
        help="Images of another shape: scale the shorter side and crop the centre, or squeeze the "
        "whole.  [default: crop]",
    ),
    options.background("black; white for pictures that keep their sizes", group=_FILES),
    grouped(
        _FILES, "--lossless", is_flag=True, help="With auto: a model that keeps every pixel, for any size.",
    ),
)  # fmt: skip
_wishes = collect(
    "wishes",
    recipes.wishes,
    _of_recipe("--epochs", type=_COUNT, help="Train for at most N epochs."),
    _of_recipe(
        "--minutes", type=_POSITIVE,
        help="Train for M minutes instead, over which learning slows down.", metavar="M",
    ),
    _of_recipe("--latents", "latent_dim", type=_COUNT, help="Latents coded."),
    _of_recipe("--batch-size", type=_COUNT),
    _of_recipe("--learning-rate", type=_POSITIVE),
    _of_recipe(
        "--distortion-weight", type=_POSITIVE, help="Larger: better pictures, larger files."
    ),
    _of_recipe(
        "--patience", type=click.IntRange(min=0),
        help="Stop after N epochs without a better validation loss, and keep the best; 0: never.",
    ),
    _of_recipe(
        "--perceptual-weight", type=click.FloatRange(min=0), help="Weight of the perceptual loss."
    ),
    _of_recipe(
        "--features",
        help="Network of the perceptual loss: cifar10 (comes with cvae), vgg16 (downloaded), or a "
        "file of weights.",
    ),
    grouped(
        _MACHINE, "--mixed-precision/--no-mixed-precision", default=None,
        help="Compute in bfloat16, with weights in float32: faster on recent GPUs.  [default: the "
        "preset's; photo does where the machine has bfloat16]",
    ),
)  # fmt: skip
_machine = collect(
    "machine",
    Machine,
    grouped(
        _MACHINE, "--xla/--no-xla", default=None,
        help="Compile with XLA.  [default: on a single GPU only]",
    ),
    grouped(_MACHINE, "--devices", help="Such as GPU:0,GPU:1 (TensorFlow).  [default: all GPUs]"),
    grouped(
        _MACHINE, "--tensorboard", is_flag=True, help="Write TensorBoard logs to RUN/tensorboard."
    ),
)  # fmt: skip


@click.command("train", epilog=_EPILOG, cls=GroupedCommand)
@click.argument("preset", type=_Presets([*_SHOWN, recipes.AUTO]), metavar="PRESET")
@_images
@click.option(
    "-o",
    "--out",
    "--output",
    "out",
    type=_FOLDER,
    help="The run's folder.  [default: runs/PRESET, or the next free runs/PRESET-2]",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Continue after the last finished epoch; more --epochs or --minutes prolong a run.",
)
@click.option("--name", help="The model's name.  [default: the preset's, or the next free NAME-2]")
@click.option("-f", "--force", is_flag=True, help="Start anew in a folder that holds a run.")
@quiet_option
@_wishes
@grouped(
    _RECIPE, "--fine-tune", metavar="RUN|MODEL", shell_complete=completion.models,
    help="Start from the weights of another run of the same networks, at a tenth of the preset's "
    "learning rate (photo at 0.4 of it); photo and lossless presets also from those of a model, by "
    "its name or file.",
)  # fmt: skip
@grouped(
    _RECIPE, "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True,
    help="Seed for all random numbers.",
)  # fmt: skip
@_machine
def command(
    preset: str, images: recipes.Images, out: Path | None, resume: bool, name: str | None,
    force: bool, talk: Talk, wishes: dict[str, Any], fine_tune: str | None, seed: int,
    machine: Machine,
) -> None:  # fmt: skip
    """Train PRESET and export the model.

    The model is RUN/NAME.cvae; `cvae encode -m RUN` uses it. Needs the extra `train`. The run's
    folder keeps the checkpoint of the last finished epoch. After an interruption, the same command
    with --resume ends with the same weights as an uninterrupted run.

    Every file of a folder is tried, in subfolders, too: JPEG, PNG, WebP, BMP, GIF (the first frame),
    TIFF and PPM. Files that are not images, damaged or far too small are skipped and named. A tenth
    of the images, near-duplicates together, validates, and a tenth is kept for `cvae eval FOLDER
    --split test`. Folders train/, val/ and test/ are used as they are. Of other data than a folder, a
    tenth that is chosen by chance validates, and all of the rest trains.

    `cvae train photo --data FOLDER --fine-tune photo --minutes 30` adapts the codec of photos to
    pictures of your own kind; with large pictures and a model photo at hand, auto does the same.
    """
    from cvae.training import architectures, backend, begin, datasets, runs
    from cvae.training.export import naming

    folder = out or runs.default_folder(preset, again=resume or force)
    if out is None and folder.name != preset:
        talk.say(f"the run's folder is {folder}; others hold runs already")
    with at(f"--fine-tune {fine_tune}"):
        start = begin.find(fine_tune) if fine_tune is not None else None
    runs.check_start(folder, resume, force, start)
    if images.folder and folder.resolve() == images.folder.resolve():
        raise click.UsageError(f"-o {folder}: expected another folder than that of the images")
    before = runs.Run.open(folder) if resume and (folder / runs.RUN).exists() else None
    recipe, start = recipes.choose(preset, images, wishes, folder, talk, start, before)
    architecture = architectures.of(recipe)
    others = {
        "machine": machine != Machine(), "fine_tune": start, "model_file": start and start.model,
    }  # fmt: skip
    options = {*wishes, *images.given, *(name for name, given in others.items() if given)}
    if refusal := architecture.refusal(recipe, options):
        raise click.UsageError(refusal)
    if start:
        start.check(architecture.restores)
    naming.check_name(name, folder)
    recipe, reading = recipes.read_as(recipe, images, before.reading if before else None)
    backend.require("onnx", "matplotlib", "rich")
    if machine.tensorboard:
        backend.require("tensorboard", extra="tensorboard")
    if not architecture.closed_form:  # checked before the run's folder is made or emptied
        backend.load_keras()
        from cvae.training.networks import features

        backend.check_devices(machine.devices)
        recipe = recipes.settled(recipe, before)
        architecture.model(recipe)
        features.perceptual(recipe)
    dataset = datasets.load(
        images.data, recipe.dataset, recipe.image_shape, reading, talk.watch, images.key
    )
    talk.skipped(images.data, list(dataset.skipped), f", in {folder / runs.SKIPPED}")
    talk.say(_describe(dataset))
    recipe = recipes.capped(recipe, len(dataset.train), "latent_dim" in wishes, talk)
    for concern in recipes.concerns(recipe, dataset):
        talk.warning(concern)
    run = runs.start(folder, recipe, dataset, seed, resume, force, start)
    if architecture.closed_form:
        architecture.fit(run, dataset.train)
    else:
        _train(run, dataset, talk, machine)
    finish(run, dataset, talk, name)


def _describe(dataset: Dataset) -> str:
    from cvae.data.photos import Photos
    from cvae.data.reading import CROPPED

    parts = f"{len(dataset.train)} images to train, {len(dataset.validation)} to validate"
    if dataset.folder is None:
        read = f"; read as {dataset.reading}" if dataset.reading else ""
        return f"{dataset.name}: {parts}, chosen by chance{read}"
    test, reading = len(dataset.folder.names["test"]), dataset.folder.reading
    small = dataset.train.small if isinstance(dataset.train, Photos) else 0
    more = f"; {small} smaller than {reading.shape[0]} pixels are reflected" if small else ""
    if cropped := dataset.folder.changed(CROPPED):
        more = f"; the sides of {counted(cropped, 'image')} are cut off, --resize squeezes them in"
    return f"{dataset.name}: {parts}, {test} to test; read as {reading}{more}"


def _train(run: Run, dataset: Dataset, talk: Talk, machine: Machine) -> None:
    from cvae.training import runs, trainer
    from cvae.training.interrupts import Interrupts
    from cvae.training.progress import ProgressBar

    epochs, minutes = run.preset.epochs, run.preset.minutes
    limit = f"{minutes:g} minutes" if minutes else counted(epochs, "epoch")
    history = runs.read_history(run)
    if runs.is_over(run, history):
        option = "--minutes" if minutes else "--epochs"
        talk.say(f"{run.folder} had its {limit}; --resume with more ({option}) goes on")
    else:
        talk.say(f"{limit}, one line an epoch; --resume continues an interrupted run")
    before = runs.seconds(history)
    try:
        bar, stop = ProgressBar(run.preset, before, talk.quiet), Interrupts(talk.quiet)
        with bar as progress, stop as interrupts:
            trainer.train(run, dataset, replace(machine, callbacks=(progress, interrupts)))
    except KeyboardInterrupt:
        ways = f"with --resume continues, `cvae export {run.folder}` makes a model of them"
        done = f"finished epochs are kept; the same command {ways}"
        if not runs.read_history(run):
            done = "no epoch was finished; the same command with --resume starts again"
        talk.say(f"{run.folder}: {done}")
        raise
    history = runs.read_history(run)
    ended = len(history)
    if not runs.is_over(run, history):
        reason = f"no better validation loss for {run.preset.patience}; the best one is exported"
        talk.say(f"stopped after epoch {ended}: {reason}")


def finish(
    run: Run, dataset: Dataset, talk: Talk, name: str | None,
    output: Path | None = None, force: bool = False,
) -> None:  # fmt: skip
    """Exports, draws pictures of validation images, and says what the model reaches."""
    from cvae.training import exporter, pictures

    talk.say("exporting the model; with many latents it takes minutes")
    try:
        exported, kept_id = exporter.export(
            run, dataset, name, output, force, lambda step: talk.say(f"  {step}")
        )
        talk.say("  drawing pictures of validation images")
        pictures.draw(run, dataset, exported.path)
    except KeyboardInterrupt:
        talk.say(f"{run.folder}: training is done; `cvae export {run.folder}` makes the model")
        raise
    manifest, figures = exported.manifest, exported.manifest.figures
    measured = {
        "payload_bytes_mean": "{payload_bytes_mean:,.2f} bytes of payload at {psnr_mean:.2f} dB",
        "denoised_psnr": "{noisy_psnr:.2f} dB with noise, {denoised_psnr:.2f} dB without",
    }
    found = "; ".join(text.format(**figures) for key, text in measured.items() if key in figures)
    kept = " (as before)" if kept_id else ""
    made = f"{exported.path}: model {manifest.name}, id {manifest.id:#06x}{kept}"
    talk.say(f"{made}; validation images: {found}")
