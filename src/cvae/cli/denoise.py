"""`cvae denoise`: images with less noise."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import click

from cvae import ModelNotFoundError
from cvae.cli import files, options
from cvae.cli.files import Task
from cvae.cli.talk import Talk

if TYPE_CHECKING:
    from cvae.data.files import Files
    from cvae.models.file import Model


@click.command("denoise")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@options.output(
    "File, or folder for several images; `-` is stdout. Its ending chooses the image format.  "
    "[default: NAME_denoised.png in the current folder]"
)
@options.model("fashion-dae for 28x28 grey images, else photo-dae")
@options.force
@options.talk()
def command(
    images: tuple[str, ...], output: str | None, model: str | None, force: bool, talk: Talk
) -> None:
    """Remove noise from images.

    \b
      cvae denoise photo.jpg            -> photo_denoised.png
      cvae denoise photos/ -o clean/    every image of a folder

    IMAGE is a file, a folder, or `-` for stdin; put -- before names that begin with a dash. A
    denoiser takes images of any size, on black where they are transparent. A codec that was trained
    on noisy images takes those of its own size. A bad file is named and skipped; the exit code is
    then 1.
    """
    from cvae import denoising
    from cvae.data.files import Files
    from cvae.data.names import SUFFIXES

    talk.advice = denoising.denoisers
    files.refuse_coded(images)
    tasks = files.plan(images, output, "{}_denoised.png".format, SUFFIXES, force)
    opened = cache(_open)
    given = opened(model) if model else None
    with Files(force, talk.error) as results:
        for (task,) in files.batches(tasks, talk, 1):  # photos are large
            with talk.trying(task.name):
                data = task.read()
                task.check(force)
                _denoise(given or _default(opened, data, task.name), task, data, results, talk)
    talk.finish(len(tasks), "images denoised")


def _open(name: str) -> Model:
    """Raises ModelError when the model is not there, or does not denoise."""
    from cvae import denoising
    from cvae.models import registry

    model = registry.open_model(name)
    denoising.check(model.manifest)
    return model


def _default(opened: Callable[[str], Model], data: bytes, name: str) -> Model:
    """The model for an image file. Raises CvaeError when it is no image, or has no model."""
    from cvae import denoising
    from cvae.data import images

    image = images.open_image(data, name)
    default = denoising.default(image.size, image.mode)
    try:
        return opened(default)
    except ModelNotFoundError as error:
        text = f"the default, {default}, is not here; name another with -m"
        raise ModelNotFoundError(text, advice=denoising.denoisers()) from error


def _denoise(model: Model, task: Task, data: bytes, results: Files, talk: Talk) -> None:
    """Grey images stay grey where the model takes images of any size."""
    from cvae import denoising, kinds
    from cvae.data import images
    from cvae.data.reading import Reading

    manifest = model.manifest
    any_size = kinds.of(manifest, model.path).any_size
    shape = manifest.image_shape
    reading = Reading((0, 0, shape[2]), "own") if any_size else Reading(shape, "exact")
    picture = reading.picture(data, task.name)
    if any_size and picture.changed:
        mode = "grey" if manifest.image_shape[2] == 1 else "RGB"
        talk.warning(f"{task.name}: converted to {mode} of 8 bits, transparent parts made black")
    clean = denoising.denoise(model, reading.pixels(picture.image)[None])[0]
    height, width, channels = clean.shape
    if any_size and picture.grey and channels == 3:
        clean = Reading((0, 0, 1), "own").pixels(images.as_image(clean))
    task.write_image(clean, results)
    talk.detail(f"{task.name} -> {task.target_name}: {width}x{height}, model {manifest.name}")
