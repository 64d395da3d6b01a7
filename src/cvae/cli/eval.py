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
    from cvae.models import registry

    coders, tv = _rivals(against, noise, outputs)
    outputs.check(Path(dataset))
    opened = registry.open_model(model or registry.DEFAULT)
    run = _Run(Path(dataset), split, limit, opened, options.make_talk(MODELS_ADVICE))
    with run.advising():
        if noise is not None and not kinds.codes(opened.manifest):
            _refuse_coding(opened.manifest.name, coders)
            images = run.photos()
        else:
            images = run.code(quality, effort, coders)
        if noise is not None:
            run.denoise(images, noise, tv)
    # Before files are written: what was measured is not lost when one cannot be.
    run.show(as_json)
    if run.coding is not None:
        outputs.write(run.result, run.coding)


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
    context = click.get_current_context()
    asked = [f"--against {coders}"] if coders else []
    for option in ("quality", "effort", "csv", "plot", "html"):
        if context.get_parameter_source(option) is click.core.ParameterSource.COMMANDLINE:
            asked.append(f"--{option}")
    if asked:
        raise click.UsageError(f"{name} is a denoiser, which has no {asked[0]}")


class _Run:
    """A model on a data set, and what is known of it so far."""

    def __init__(
        self, data: Path, split: str | None, limit: int | None, model: Model, talk: Talk
    ) -> None:
        from cvae.evaluation.measure import split_name

        self.coding: Coding | None = None
        self.result: dict[str, Any] = {
            "model": model.manifest.name,
            "dataset": data.stem,
            "split": split_name(data, split),
        }
        self._data, self._split, self._limit = data, split, limit
        self._model, self._talk = model, talk

    def code(self, quality: int | None, effort: int, coders: str) -> Pixels:
        """Codes the images, and has other codecs code them; returns them. Raises CvaeError."""
        from cvae.codec import Codec
        from cvae.evaluation import comparison, measure

        codec = Codec(self._model)
        codec.quality(quality)
        others = comparison.parse(coders) if coders else []
        if others:
            comparison.check(codec, others)
        part, limit = self._part(), self._limit
        if part is None:
            images, names = measure.load(self._data, self._split or "test", codec.image_shape)
            images, names = images[:limit], names[:limit]
        else:
            names = part.names[:limit]
            images = part.images[: len(names)]
        self.coding = Coding(measure.measure(codec, images, quality, effort), names)
        self.result |= measure.summarize(codec, self.coding.measured)
        if others:
            with self._talk.status() as show:
                found = comparison.compare(codec, self.coding.measured, others, show)
            for text in found.refused:
                self._talk.warning(text)
            self.coding.comparison = found
            self.result |= {"curve": found.curve, "rivals": found.rivals}
        return images

    def photos(self) -> noise.Images:
        """The images for a denoiser, each at its own size."""
        from cvae.evaluation import noise

        part = self._part()
        names = None if part is None else part.names
        images = noise.load(self._data, self._split, self._model, names, self._limit)
        self.result["images"] = len(images)
        return images

    def denoise(self, images: noise.Images, factor: float, tv: bool) -> None:
        """Puts noise on images and takes it off again."""
        from cvae import kinds
        from cvae.evaluation import noise

        with self._talk.status() as show:
            show("denoising")
            self.result |= noise.measure(self._model, images, factor)
            if tv:
                best = noise.total_variation(images, factor, show)
                self.result["rivals"] = [*self.result.get("rivals", []), best]
        manifest = self._model.manifest
        if not kinds.of(manifest).denoises(manifest):
            self._talk.warning(
                f"{manifest.name} was not trained on noisy images; denoised is what its synthesis "
                "makes of its analysis"
            )

    def show(self, as_json: bool) -> None:
        if as_json:
            click.echo(json.dumps(self.result, indent=2))
            return
        if self.coding is not None:
            tables.show(tables.coding(self.result))
        if "noise" in self.result:
            tables.show(tables.noise(self.result))
        if self.coding is not None and self.coding.comparison is not None:
            tables.show(tables.against(self.result, self.coding.comparison))

    @contextmanager
    def advising(self) -> Iterator[None]:
        """Adds to an error about an image of a folder what to do about it."""
        from cvae.errors import ImageError, ImageShapeError

        try:
            yield
        except ImageError as error:
            if self._split is None and self._data.is_dir():
                models = f"{MODELS_ADVICE}; " if isinstance(error, ImageShapeError) else ""
                error.advice = f"{models}{_SPLIT_ADVICE}"
            raise

    def _part(self) -> Part | None:
        """The part of a folder that --split names, split as for training; says what may be wrong."""
        from cvae.evaluation import measure

        if self._split is None or not self._data.is_dir():
            return None
        part = measure.load_part(self._data, self._split, self._model, self._talk.watch)
        self._talk.skipped(self._data, part.skipped)
        if part.warning:
            self._talk.warning(part.warning)
        return part
