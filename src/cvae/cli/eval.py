"""`cvae eval`: rate and distortion of a model on a data set, and how well it denoises."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cvae.cli import options, tables
from cvae.cli.defaults import TEXT, Models
from cvae.cli.talk import MODELS_ADVICE, Talk
from cvae.errors import ImageError, ImageShapeError

if TYPE_CHECKING:
    from cvae.evaluation.comparison import Comparison
    from cvae.evaluation.measure import Measured, Part
    from cvae.evaluation.noise import Images
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
        from cvae.data import files

        paths = [path for path in (self.csv, self.plot, self.html) if path is not None]
        for path in paths:
            files.check_writable(path, self.force)
            if path.exists() and data.exists() and path.samefile(data):
                raise click.UsageError(f"{path} is input and output at once")
        if len({path.resolve() for path in paths}) < len(paths):
            raise click.UsageError("--csv, --plot and --html need a file each")


@click.command("eval")
@click.argument("dataset", metavar="DATA", type=_FILE)
@options.model(f"{TEXT}, by the first image")
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
    help="Measure denoising, too, of FACTOR (such as 0.3) times N(0, 1) on pixels in [0, 1].",
)  # fmt: skip
@options.collect(
    "outputs", Outputs,
    click.option("--csv", type=_FILE, help="Write one row an image."),
    click.option("--plot", type=_FILE, help="Draw rate and distortion as a PNG; needs --against."),
    click.option("--html", type=_FILE, help="Write one page to look at in a browser."),
    options.force,
)  # fmt: skip
@options.as_json
def command(
    dataset: Path, model: str | None, quality: int | None, effort: int, split: str | None, limit: int | None,
    against: str, noise: float | None, outputs: Outputs, as_json: bool,
) -> None:  # fmt: skip
    """Measure rate and distortion of a model on a data set.

    \b
      cvae eval mnist.npz
      cvae eval pictures/ --split test -m runs/mine
      cvae eval mnist.npz --limit 300 --against linear,webp --html page.html
      cvae eval photos/ -m photo-dae --noise 0.4 --against tv

    DATA is an .npz file (x_test), a folder of images or one image. PSNR is of 8-bit pixels, the mean
    over the images, each a file of its own. --split reads a folder as `cvae train` does; without it,
    every image has to fit the model. SSIM, --against and --plot need the extra `eval`.

    --against codes single files, and mosaics of up to 1,000 images beside one block of the model's
    without headers; `linear` is PCA of the training images. --noise clips to [0, 1] and rounds to 8
    bits, with a fixed seed; a denoiser gives only these figures. `tv` has its best weight.
    """
    from cvae import kinds
    from cvae.evaluation import measure
    from cvae.models import registry

    coders, tv = _rivals(against, noise, outputs)
    outputs.check(dataset)
    talk, name = options.make_talk(MODELS_ADVICE), measure.split_name(dataset, split)
    if model is None:
        opened = Models(None, talk).of_first([str(dataset)], split).model
    else:
        opened = registry.open_model(model)
    result = {"model": opened.manifest.name, "dataset": dataset.stem, "split": name}
    run = _Run(dataset, split, limit, opened, talk, result)
    try:
        if noise is not None and not kinds.codes(opened.manifest):
            _refuse_coding(opened.manifest.name, coders)
            images = run.photos()
        else:
            images = run.code(quality, effort, coders)
        if noise is not None:
            run.denoise(images, noise, tv)
    except ImageError as error:
        if split is None and dataset.is_dir():
            models = f"{MODELS_ADVICE}; " if isinstance(error, ImageShapeError) else ""
            error.advice = f"{models}{_SPLIT_ADVICE}"
        raise
    # Before files are written: what was measured is not lost when one cannot be.
    run.show(as_json)
    run.write(outputs)


def _rivals(against: str, noise: float | None, outputs: Outputs) -> tuple[str, bool]:
    """The codecs to compare with, and whether total variation is. Raises UsageError."""
    from cvae.evaluation.noise import TV, check_tv

    names = [name.strip().lower() for name in against.split(",") if name.strip()]
    coders = ",".join(name for name in names if name != TV)
    if TV in names and noise is None:
        raise click.UsageError("--against tv removes noise, which needs --noise")
    if outputs.plot is not None and not coders:
        raise click.UsageError("--plot draws curves, which need --against with other codecs")
    if TV in names:
        check_tv()
    return coders, TV in names


def _refuse_coding(name: str, coders: str) -> None:
    """Raises UsageError when a denoiser is asked for what only codecs do."""
    source = click.get_current_context().get_parameter_source
    given = [f"--against {coders}"] if coders else []
    for option in ("quality", "effort", "csv", "plot", "html"):
        if source(option) is click.core.ParameterSource.COMMANDLINE:
            given.append(f"--{option}")
    if given:
        raise click.UsageError(f"{name} is a denoiser, which has no {given[0]}")


@dataclass
class _Run:
    """A model on a data set, and what is known of it so far."""

    data: Path
    split: str | None
    limit: int | None
    model: Model
    talk: Talk
    result: dict[str, Any]  # what --json prints
    measured: Measured | None = None
    names: Sequence[str] = ()  # of the images that are measured
    comparison: Comparison | None = None

    def code(self, quality: int | None, effort: int, coders: str) -> Images:
        """Codes the images, and has other codecs code them; returns them. Raises CvaeError."""
        from cvae.codec import Codec
        from cvae.evaluation import comparison, measure

        codec = Codec(self.model)
        others = comparison.parse(coders) if coders else []
        if others and codec.any_size:
            text = f"--against compares images of one size; model {codec.name} takes any"
            raise click.UsageError(text)
        if others:
            comparison.check(codec, others)
        images: Any
        if part := self._part():
            names = part.names[: self.limit]
            images = part.whole(len(names)) if codec.any_size else part.images[: len(names)]
        else:
            split = self.split or "test"
            if codec.any_size:
                images, names = measure.load_pictures(self.data, split, codec.reading())
            else:
                images, names = measure.load(self.data, split, codec.image_shape)
            images, names = images[: self.limit], names[: self.limit]
        self.measured, self.names = measure.measure(codec, images, quality, effort), names
        self.result |= measure.summarize(codec, self.measured)
        if others:
            with self.talk.status() as show:
                found = comparison.compare(codec, self.measured, others, show)
            for text in found.refused:
                self.talk.warning(text)
            self.comparison = found
            self.result |= {"curve": found.curve, "rivals": found.rivals}
        found_images: Images = images
        return found_images

    def photos(self) -> Images:
        """The images for a denoiser, each at its own size."""
        from cvae.evaluation import noise

        part = self._part()
        names = None if part is None else part.names
        images = noise.load(self.data, self.split, self.model, names, self.limit)
        self.result["images"] = len(images)
        return images

    def denoise(self, images: Images, factor: float, tv: bool) -> None:
        """Puts noise on images and takes it off again."""
        from cvae import kinds
        from cvae.evaluation import noise

        with self.talk.status() as show:
            show("denoising")
            self.result |= noise.measure(self.model, images, factor)
            if tv:
                best = noise.total_variation(images, factor, show)
                self.result["rivals"] = [*self.result.get("rivals", []), best]
        manifest = self.model.manifest
        if not kinds.of(manifest).denoises(manifest):
            self.talk.warning(
                f"{manifest.name} was not trained on noisy images; denoised is what its synthesis "
                "makes of its analysis"
            )

    def show(self, as_json: bool) -> None:
        """Prints the figures."""
        if as_json:
            click.echo(json.dumps(self.result, indent=2))
            return
        if self.measured is not None:
            tables.show(tables.coding(self.result))
        if "noise" in self.result:
            tables.show(tables.noise(self.result))
        if self.comparison is not None:
            tables.show(tables.against(self.result, self.comparison))

    def write(self, outputs: Outputs) -> None:
        """Writes the files of a codec. Raises OutputError."""
        from cvae.data import files
        from cvae.evaluation import measure

        if self.measured is None:
            return
        names, force = list(self.names), outputs.force
        if outputs.csv is not None:
            table = measure.table(self.measured, names)
            files.write_bytes(outputs.csv, table.encode("utf-8", "surrogateescape"), force)
        if outputs.plot is not None and self.comparison is not None:
            from cvae.evaluation.plots import rate_distortion_plot

            plot = rate_distortion_plot(self.comparison.curve, self.comparison.rivals)
            files.write_bytes(outputs.plot, plot, force)
        if outputs.html is not None:
            from cvae.evaluation.page import render

            text = render(self.result, self.measured, names, self.comparison)
            files.write_bytes(outputs.html, text.encode("utf-8", "replace"), force)

    def _part(self) -> Part | None:
        """The part of a folder that --split names, split as for training; says what may be wrong."""
        from cvae.evaluation import measure

        if self.split is None or not self.data.is_dir():
            return None
        part = measure.load_part(self.data, self.split, self.model, self.talk.watch)
        self.talk.skipped(self.data, part.skipped)
        if part.warning:
            self.talk.warning(part.warning)
        return part
