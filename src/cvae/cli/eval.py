"""`cvae eval`: rate and distortion of a model on a data set, and how well it denoises."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cvae.cli import options, tables
from cvae.cli.talk import MODELS_ADVICE, Talk

if TYPE_CHECKING:
    from cvae.codec import Codec
    from cvae.data.images import Pixels
    from cvae.evaluation import noise
    from cvae.evaluation.comparison import Comparison
    from cvae.evaluation.measure import Measured, Part
    from cvae.models.file import Model

_FILE = click.Path(path_type=Path)
_SPLIT_ADVICE = (
    "--split test reads the folder as `cvae train` does, which resizes images and skips files that "
    "are none"
)


@dataclass(frozen=True)
class Outputs:
    """The files that are asked for besides stdout."""

    csv: Path | None
    plot: Path | None
    html: Path | None
    force: bool

    def check(self, data: Path) -> None:
        """Raises OutputError before the long work rather than after it."""
        from cvae import OutputError
        from cvae.data import files

        paths = [path for path in (self.csv, self.plot, self.html) if path is not None]
        for path in paths:
            files.check_writable(path, self.force)
            if path.exists() and data.exists() and path.samefile(data):
                raise OutputError("is input and output at once", where=path)
        if len({path.resolve() for path in paths}) < len(paths):
            raise click.UsageError("--csv, --plot and --html need a file each")

    def write(self, result: dict[str, Any], coding: Coding) -> None:
        from cvae.data import files
        from cvae.evaluation import measure

        if self.csv is not None:
            table = measure.table(coding.measured, coding.names)
            files.write_bytes(self.csv, table.encode("utf-8", "surrogateescape"), self.force)
        if self.plot is not None and coding.comparison is not None:
            from cvae.evaluation import plots

            plot = plots.rate_distortion_plot(coding.comparison.curve, coding.comparison.rivals)
            files.write_bytes(self.plot, plot, self.force)
        if self.html is not None:
            from cvae.evaluation import page

            text = page.render(result, coding.measured, coding.names, coding.comparison)
            files.write_bytes(self.html, text.encode("utf-8", "replace"), self.force)


@dataclass
class Coding:
    """Images through a codec, and through others."""

    measured: Measured
    names: list[str]
    comparison: Comparison | None = None


@click.command("eval")
@click.argument("dataset", metavar="DATA")
@options.model()
@options.quality
@options.effort
@click.option(
    "--split", type=click.Choice(["test", "validation", "train"]),
    help="Which images of an .npz file, or of a folder as training splits one.  "
    "[default: test of an .npz file, all of a folder]",
)  # fmt: skip
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N images.")
@click.option(
    "--against", metavar="CODECS", default="",
    help="Measure other codecs, too: some of linear,png,webp,jpeg,avif,jxl,jpeg2000; with --noise "
    "also tv, total-variation denoising.",
)  # fmt: skip
@click.option(
    "--noise", type=click.FloatRange(min=0, max=10), metavar="FACTOR",
    help="Measure denoising, too: of Gaussian noise of FACTOR (0.3, say) times N(0, 1) on pixels in "
    "[0, 1].",
)  # fmt: skip
@options.collect(
    "outputs",
    Outputs,
    click.option("--csv", type=_FILE, help="Write one row an image."),
    click.option("--plot", type=_FILE, help="Draw rate and distortion as a PNG; needs --against."),
    click.option("--html", type=_FILE, help="Write one page to look at in a browser."),
    options.force,
)
@options.as_json
def command(
    dataset: str,
    model: str | None,
    quality: int | None,
    effort: int,
    split: str | None,
    limit: int | None,
    against: str,
    noise: float | None,
    outputs: Outputs,
    as_json: bool,
) -> None:
    """Measure rate and distortion of a model on a data set.

    \b
      cvae eval mnist.npz
      cvae eval pictures/ --split test -m runs/mine
      cvae eval mnist.npz --limit 300 --against linear,webp --html page.html
      cvae eval photos/ -m photo-dae --noise 0.4 --against tv

    DATA is an .npz file (x_test), a folder of images or one image. With --split, a folder is read
    and split as `cvae train` does it; without it, every image has to fit the model.

    Every image is encoded to a container of its own and decoded again. PSNR is of 8-bit pixels, the
    mean over the images. SSIM needs the extra `eval`, as --against and --plot do.

    --against codes the same images with general codecs around the model's PSNR: as single files,
    and as mosaics of up to 1,000 images beside one block of the model's without headers. `linear`
    is PCA of the model's training images.

    --noise adds the same noise in each run, clips to [0, 1], rounds to 8 bits and denoises as `cvae
    denoise` does. MSE is then of pixels in [0, 1]. A denoiser, which is no codec, gives these
    figures only, of each image at its own size. `tv` has its best weight on these images.
    """
    from cvae import kinds
    from cvae.codec import Codec
    from cvae.evaluation import measure
    from cvae.evaluation import noise as noises
    from cvae.models import registry

    data, talk = Path(dataset), options.make_talk(MODELS_ADVICE)
    rivals = [name for name in against.lower().replace(" ", "").split(",") if name]
    coders = ",".join(name for name in rivals if name != noises.TV)
    if noises.TV in rivals and noise is None:
        raise click.UsageError("--against tv removes noise, which needs --noise")
    if outputs.plot is not None and not coders:
        raise click.UsageError("--plot draws curves, which need --against with other codecs")
    outputs.check(data)
    if noises.TV in rivals:
        noises.check_tv()
    opened = registry.open_model(model or registry.DEFAULT)
    result: dict[str, Any] = {
        "model": opened.manifest.name,
        "dataset": data.stem,
        "split": measure.split_name(data, split),
    }
    coding = None
    with _advising(data, split):
        if noise is not None and not kinds.codes(opened.manifest):
            _refuse_coding(opened.manifest.name, coders)
            images = _photos(data, split, opened, talk)
            result["images"] = noises.count(images, limit)
        else:
            codec = Codec(opened)
            codec.quality(quality)
            others = _others(codec, coders)
            images, names = _images(data, split, codec, limit, talk)
            coding = Coding(measure.measure(codec, images, quality, effort), names)
            result |= measure.summarize(codec, coding.measured)
            if others:
                coding.comparison = _compare(codec, coding, others, talk)
                result |= {"curve": coding.comparison.curve, "rivals": coding.comparison.rivals}
        if noise is not None:
            figures = _denoise(opened, images, noise, limit, noises.TV in rivals, talk)
            result |= {**figures, "rivals": [*result.get("rivals", []), *figures["rivals"]]}
    _show(result, coding, noise is not None, as_json)
    if coding is not None:
        outputs.write(result, coding)


def _show(result: dict[str, Any], coding: Coding | None, noisy: bool, as_json: bool) -> None:
    """Before files are written: what was measured is not lost when one cannot be."""
    if not result.get("rivals", True):
        del result["rivals"]
    if as_json:
        click.echo(json.dumps(result, indent=2))
        return
    if coding is not None:
        tables.show(tables.coding(result))
    if noisy:
        tables.show(tables.noise(result))
    if coding is not None and coding.comparison is not None:
        tables.show(tables.against(result, coding.comparison))


def _refuse_coding(name: str, coders: str) -> None:
    """Raises UsageError when a denoiser is asked for what only codecs do."""
    context = click.get_current_context()
    for option in ("quality", "effort", "csv", "plot", "html"):
        if context.get_parameter_source(option) is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{name} is a denoiser, which has no --{option}")
    if coders:
        raise click.UsageError(f"{name} is a denoiser, which has no --against {coders}")


def _images(
    data: Path, split: str | None, codec: Codec, limit: int | None, talk: Talk
) -> tuple[Pixels, list[str]]:
    """The images (n, h, w, c) of the model's shape, and what each is called."""
    from cvae.evaluation import measure

    if split is not None and data.is_dir():
        part = _part(data, split, codec.model, talk)
        return part.images[: len(part.names[:limit])], part.names[:limit]
    pixels, names = measure.load(data, split or "test", codec.image_shape)
    return pixels[:limit], names[:limit]


def _photos(data: Path, split: str | None, model: Model, talk: Talk) -> noise.Images:
    """The images for a denoiser, each at its own size."""
    from cvae.evaluation import noise

    if split is not None and data.is_dir():
        return noise.of_part(data, _part(data, split, model, talk), model)
    return noise.load(data, split, model)


def _part(folder: Path, split: str, model: Model, talk: Talk) -> Part:
    """A part of a folder, split as it was for training; says what may be wrong with it."""
    from cvae.evaluation import measure

    part = measure.load_part(folder, split, model, talk.watch)
    talk.skipped(folder, part.skipped)
    if part.warning:
        talk.warning(part.warning)
    return part


@contextmanager
def _advising(data: Path, split: str | None) -> Iterator[None]:
    """Adds to an error about an image of a folder what to do about it."""
    from cvae.errors import ImageError, ImageShapeError

    try:
        yield
    except ImageError as error:
        if split is None and data.is_dir():
            models = f"{MODELS_ADVICE}; " if isinstance(error, ImageShapeError) else ""
            error.advice = f"{models}{_SPLIT_ADVICE}"
        raise


def _others(codec: Codec, names: str) -> list[str]:
    """The codecs to compare with. Raises CvaeError when one of them is not here."""
    from cvae.evaluation import comparison

    others = comparison.parse(names) if names else []
    if others:
        comparison.check(codec, others)
    return others


def _compare(codec: Codec, coding: Coding, others: list[str], talk: Talk) -> Comparison:
    from cvae.evaluation import comparison

    with talk.status() as show:
        found = comparison.compare(codec, coding.measured, others, show)
    for text in found.refused:
        talk.warning(text)
    return found


def _denoise(
    model: Model, images: noise.Images, factor: float, limit: int | None, tv: bool, talk: Talk
) -> dict[str, Any]:
    """The figures of noise that is put on images and taken off again."""
    from cvae import kinds
    from cvae.evaluation import noise

    with talk.status() as show:
        show("denoising")
        figures = noise.measure(model, images, factor, limit)
        rivals = [noise.total_variation(images, factor, limit, show)] if tv else []
    if not kinds.of(model.manifest).denoises(model.manifest):
        talk.warning(
            f"{model.manifest.name} was not trained on noisy images; denoised is what its synthesis "
            "makes of its analysis"
        )
    return {**figures, "rivals": rivals}
