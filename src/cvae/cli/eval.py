"""`cvae eval`: rate and distortion of a model on a data set, and how well it denoises."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cvae.cli import completion, kept, options, tables
from cvae.cli.defaults import TEXT, Models
from cvae.cli.options import say_unused
from cvae.cli.talk import FIT_ADVICE, Talk, echo_json
from cvae.errors import CvaeError, DataError

if TYPE_CHECKING:
    from cvae.codec import Codec
    from cvae.data.sources import Which
    from cvae.evaluation.comparison import Comparison
    from cvae.evaluation.measure import Measured, Part
    from cvae.evaluation.noise import Images
    from cvae.models.file import Model
    from cvae.options import EncodeOptions

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

    def check(self, data: str) -> None:
        """Raises UsageError or OutputError before the long work rather than after it."""
        from cvae.data import files

        paths = [path for path in (self.csv, self.plot, self.html) if path is not None]
        for path in paths:
            files.check_writable(path, self.force)
        kept.refuse_inputs(paths, [data])
        if len({path.resolve() for path in paths}) < len(paths):
            raise click.UsageError("--csv, --plot and --html need a file each")


@click.command("eval")
@click.argument("dataset", metavar="DATA")
@options.model(f"{TEXT}, by the first image")
@options.quality
@options.effort
@options.reading
@click.option(
    "--split", type=click.Choice(["test", "validation", "train"]),
    help="Which images of an .npz file, or of a folder as training splits one.  "
    "[default: test of an .npz file, all of a folder]",
)  # fmt: skip
@options.key
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N images.")
@click.option(
    "--against", metavar="CODECS", default="", shell_complete=completion.coders,
    help="Measure other codecs, too: some of linear,png,webp,jpeg,avif,jxl,jpeg2000; with --noise "
    "also tv, total-variation denoising; of a lossless model some of png,webp,jxl,jpeg2000,lzma,zstd.",
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
@options.list_skipped
@options.as_json
def command(
    dataset: str, model: str | None, quality: int | None, effort: int, reading: EncodeOptions,
    split: str | None, key: str | None, limit: int | None, against: str, noise: float | None,
    outputs: Outputs, as_json: bool,
) -> None:  # fmt: skip
    """Measure rate and distortion of a model on a data set.

    \b
      cvae eval mnist.npz
      cvae eval pictures/ --split test -m runs/mine
      cvae eval mnist.npz --limit 300 --against linear,webp --html page.html
      cvae eval photos/ -m photo-dae --noise 0.4 --against tv

    DATA is what `cvae pack` takes: a folder, an image, an array (.npz, .npy, idx), a tar or ZIP archive,
    or a pack, here or at a URL. PSNR is of 8-bit pixels, the mean over the images, each a file of its
    own. --split reads a folder as `cvae train` does; without it, an image that does not fit the model is
    named and skipped; the exit code is then 1. SSIM, --against and --plot need the extra `eval`.

    --against codes single files, and mosaics of up to 1,000 images beside one block of the model's
    without headers, but for models of any size; `linear` is PCA of the training images. --noise clips
    to [0, 1] and rounds to 8 bits, with a fixed seed; a denoiser gives only these figures. `tv` has its
    best weight.
    """
    from cvae import kinds
    from cvae.data.sources import Which
    from cvae.evaluation import measure
    from cvae.models import registry

    coders, tv = _rivals(against, noise, outputs)
    outputs.check(dataset)
    which = Which(split, key)
    talk, name = options.make_talk(FIT_ADVICE), measure.split_name(dataset, which)
    if model is None:
        opened = Models(None, talk).of_first([dataset], which).model
    else:
        opened = registry.open_model(model)
    result = {"model": opened.manifest.name, "dataset": Path(dataset).stem, "split": name}
    if outputs.plot is not None and kinds.of(opened.manifest).lossless:
        raise click.UsageError(f"--plot draws distortion, and {opened.manifest.name} is lossless")
    run = _Run(dataset, which, limit, reading, opened, talk, result)
    try:
        if noise is not None and not kinds.codes(opened.manifest):
            _refuse_coding(opened.manifest.name, coders)
            images = run.photos()
        else:
            images = run.code(quality, effort, coders)
        if noise is not None:
            run.denoise(images, noise, tv)
    except DataError as error:
        if split is None and Path(dataset).is_dir():
            error.advice = _SPLIT_ADVICE
        raise
    # Before files are written: what was measured is not lost when one cannot be.
    run.show(as_json)
    run.write(outputs)
    if talk.errors:
        talk.finish(len(images) + talk.errors, "images measured")
    talk.end()


def _rivals(against: str, noise: float | None, outputs: Outputs) -> tuple[str, bool]:
    """The codecs to compare with, and whether total variation is. Raises UsageError."""
    from cvae.evaluation import exactly, rivals
    from cvae.evaluation.noise import TV, check_tv

    names = [name.strip().lower() for name in against.split(",") if name.strip()]
    known = ["linear", *rivals.RIVALS, TV, *exactly.BYTES]
    if wrong := [name for name in names if name not in known]:
        raise click.UsageError(f"--against: expected some of {','.join(known)}, found {wrong[0]!r}")
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

    data: str
    which: Which
    limit: int | None
    reading: EncodeOptions  # how pictures are read, where --split does not say it
    model: Model
    talk: Talk
    result: dict[str, Any]  # what --json prints
    measured: Measured | None = None
    names: Sequence[str] = ()  # of the images that are measured
    comparison: Comparison | None = None

    def code(self, quality: int | None, effort: int, coders: str) -> Images:
        """Codes the images, and has other codecs code them; returns them. Raises CvaeError."""
        from cvae.codec import Codec
        from cvae.evaluation import comparison, exactly, measure

        codec = Codec(self.model)
        others = self._others(codec, coders)
        images: Any
        if part := self._part():
            names = part.names[: self.limit]
            for name in names:
                for change in part.changes.get(name, ()):
                    self.talk.changed(name, change)
            images = part.whole(len(names)) if codec.any_size else part.images[: len(names)]
        else:
            reading = codec.reading(self.reading)
            if codec.any_size:
                say_unused(self.reading, codec.name, self.talk)
                images, names = measure.load_pictures(self.data, self.which, reading, self._refuse)
            else:
                images, names = measure.load(self.data, self.which, reading, self._refuse)
            images, names = images[: self.limit], names[: self.limit]
        self.measured, self.names = measure.measure(codec, images, quality, effort), names
        self.result |= measure.summarize(codec, self.measured)
        if others and codec.lossless:
            with self.talk.status() as show:
                rows, refused = exactly.compare(codec, self.measured, others, show)
            for text in refused:
                self.talk.warning(text)
            self.result["rivals"] = rows
        elif others:
            with self.talk.status() as show:
                found = comparison.compare(codec, self.measured, others, show)
            for text in found.refused:
                self.talk.warning(text)
            self.comparison = found
            self.result |= {"curve": found.curve, "rivals": found.rivals}
        found_images: Images = images
        return found_images

    def _others(self, codec: Codec, coders: str) -> list[str]:
        """The codecs to compare with. Raises CvaeError, before any long work begins."""
        from cvae.evaluation import comparison, exactly

        names = [name.strip().lower() for name in coders.split(",") if name.strip()]
        if codec.lossless:
            exactly.check(names)
            return names
        others = comparison.parse(coders) if coders else []
        if others:
            comparison.check(codec, others)
        return others

    def photos(self) -> Images:
        """The images for a denoiser, each at its own size."""
        from cvae.evaluation import noise

        part = self._part()
        names = None if part is None else part.names
        images = noise.load(self.data, self.which, self.model, names, self.limit, self._refuse)
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
            echo_json(self.result)
            return
        if self.measured is not None:
            tables.show(tables.coding(self.result))
        if "noise" in self.result:
            tables.show(tables.noise(self.result))
        if "bits_per_dimension" in self.result and "rivals" in self.result:
            tables.show(tables.exactly(self.result["rivals"]))
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

    @cached_property
    def _refuse(self) -> Callable[[CvaeError], None]:
        """Says what of several images cannot be read. Raises the error of a single one."""
        from cvae.data.contents import What, what_lies_at

        return self.talk.raising if what_lies_at(self.data) is What.FILE else self.talk.error

    def _part(self) -> Part | None:
        """The part of a folder that --split names, split as for training; says what may be wrong."""
        from cvae.evaluation import measure

        folder = Path(self.data)
        if self.which.split is None or not folder.is_dir():
            return None
        part = measure.load_part(folder, self.which.split, self.model, self.talk.watch)
        self.talk.skipped(self.data, part.skipped)
        if part.warning:
            self.talk.warning(part.warning)
        return part
