"""`cvae denoise`: images with less noise."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import click

from cvae import ImageError, ModelNotFoundError
from cvae.cli import files, options
from cvae.cli.files import STDIO, Task
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
@options.background("that of the model's training, else black")
@options.force
@options.skip_existing
@options.list_skipped
@options.talk()
def command(
    images: tuple[str, ...], output: str | None, model: str | None, background: str | None,
    force: bool, skip_existing: bool, talk: Talk,
) -> None:  # fmt: skip
    """Remove noise from images.

    \b
      cvae denoise photo.jpg            -> photo_denoised.png
      cvae denoise photos/ -o clean/    every image of a folder

    IMAGE is a file, a folder, a pattern in quotes, or `-` for stdin; put -- before names that begin
    with a dash. A denoiser takes images of any size. A codec that was trained on noisy images takes
    those of its own size. A bad file is named and skipped; the exit code is then 1.
    """
    from cvae import denoising
    from cvae.data import listing
    from cvae.data.files import Files

    talk.advice = denoising.denoisers
    files.refuse_coded(images)
    _refuse_many(images)
    tasks = files.plan(images, output, "{}_denoised.png".format, listing.images, force, talk)
    files.check_picture(tasks[0].target)  # several have names of our own
    left = files.to_do(tasks, skip_existing, force, talk)
    opened = cache(_open)
    given = opened(model) if model else None
    written = 0  # bytes
    with Files(force, talk.error) as results:
        for (task,) in files.batches(left, talk, 1):  # photos are large
            with talk.trying(task.name):
                task.check(force)
                data = task.read()
                model_for = given or _default(opened, data, task.name)
                written += _denoise(model_for, background, task, data, results, talk)
    where = f", {written:,} bytes -> {files.folder_of(output)}" if written else ""
    talk.finish(len(tasks), f"images denoised{where}")


def _refuse_many(images: tuple[str, ...]) -> None:
    """Raises ImageError when an argument is an array or an archive, of which no file comes out."""
    from cvae.data import places
    from cvae.data.contents import What

    for item in images:
        is_url = places.is_url(item)  # which is refused as such
        if not is_url and files.what(item) in (What.ARRAY, What.TAR, What.ZIP):
            text = "holds many images, expected image files or a folder of them"
            raise ImageError(text, where="stdin" if item == STDIO else item)


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


def _denoise(
    model: Model, background: str | None, task: Task, data: bytes, results: Files, talk: Talk
) -> int:
    """How many bytes the image takes. It stays grey where the model takes images of any size."""
    from cvae import denoising
    from cvae.data import images, pages
    from cvae.data.reading import Reading

    reading = denoising.reading(model, background)
    if reading.keeps:
        talk.slow()
    with images.decoding(task.name):
        picture = reading.picture(data, task.name)
        pixels = reading.pixels(picture)
    if (count := pages.count(data)) > 1:
        talk.error(pages.notice(count, task.name))
    for change in picture.changes:
        talk.changed(task.name, change)
    clean = denoising.denoise(model, pixels[None])[0]
    height, width, channels = clean.shape
    if reading.keeps and picture.grey and channels == 3:
        clean = Reading((0, 0, 1), "own").pixels(images.as_image(clean))
    size = task.write_image(clean, results, picture.profile)
    talk.detail(f"{task.name} -> {task.target_name}: {width}x{height}, model {model.manifest.name}")
    return size
