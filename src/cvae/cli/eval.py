"""`cvae eval`: rate and distortion of a model on a data set."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cvae.cli import common

if TYPE_CHECKING:
    from cvae.codec import Codec
    from cvae.evaluation.comparison import Comparison
    from cvae.evaluation.measure import Measured, Part
    from cvae.models.file import Model

_FILE = click.Path(path_type=Path)

_ROWS = [
    ("file", "{file_bytes_mean:.2f} bytes on average, of which {payload_bytes_mean:.2f} payload"),
    ("information", "{information_bits_mean:.2f} bits on average"),
    ("compression ratio", "{compression_ratio:.1f}:1 ({bpp:.4f} bits a pixel)"),
    ("PSNR", "{psnr_mean:.2f} dB, {psnr_of_means:.2f} dB before quantization and search"),
    ("PSNR of the mean MSE", "{psnr_of_mean_mse:.2f} dB (mean MSE {mse_mean:.1f})"),
    ("SSIM", "{ssim}"),
    ("below expected quality", "{warned:,} of {images:,} images"),
    ("encode", "{encode_images_per_second:,.0f} images a second, decoding to check included"),
    ("decode", "{decode_images_per_second:,.0f} images a second"),
]

_SPLIT_ADVICE = (
    "--split test reads the folder as `cvae train` does, which resizes images and leaves out files "
    "that are none"
)


@click.command("eval")
@click.argument("dataset", metavar="DATA")
@common.model_option
@common.quality_option
@common.effort_option
@click.option(
    "--split", type=click.Choice(["test", "validation", "train"]),
    help="Which images of an .npz file, or of a folder as training splits one.  "
    "[default: test of an .npz file, all of a folder]",
)  # fmt: skip
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N images.")
@click.option(
    "--against", metavar="CODECS",
    help="Measure other codecs, too: some of linear,png,webp,jpeg,avif,jxl,jpeg2000. With --noise: "
    "tv, total-variation denoising.",
)  # fmt: skip
@click.option(
    "--noise", type=click.FloatRange(min=0, max=10), metavar="FACTOR",
    help="Measure denoising, too: of Gaussian noise of FACTOR (0.3, say) times N(0, 1) on pixels in "
    "[0, 1].",
)  # fmt: skip
@click.option(
    "--coded", metavar="PACK",
    help="Encode nothing: measure a pack, or a folder of packs, that was made of DATA.",
)  # fmt: skip
@click.option("--csv", "csv_file", type=_FILE, help="Write one row an image.")
@click.option("--plot", "plot_file", type=_FILE, help="Draw rate and distortion as a PNG.")
@click.option("--html", "html_file", type=_FILE, help="Write one page to look at in a browser.")
@click.option("-f", "--force", is_flag=True, help="Overwrite files that exist.")
@common.json_option
def command(
    dataset: str,
    model: str | None,
    quality: int | None,
    effort: int,
    split: str | None,
    limit: int | None,
    against: str | None,
    noise: float | None,
    coded: str | None,
    csv_file: Path | None,
    plot_file: Path | None,
    html_file: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Measure rate and distortion on a data set.

    DATA is an .npz file (x_test), a folder of images or one image.

    With --split, the images of a folder are read and split as `cvae train` does it, and files that
    are no images are left out; without it, images that do not fit the model are refused.

    Every image is encoded to a container of its own and decoded again. PSNR is of 8-bit pixels, the
    mean over the images. SSIM needs the extra `eval`, as --against and --plot do.

    --against codes the same images with general codecs, each at settings around the model's PSNR: as
    single files, and as mosaics of up to 1,000 images beside which the model's images are one
    block without headers. `linear` is PCA of the images that the model was trained on.

    --noise puts noise on every image, the same in each run, clips to [0, 1], rounds to 8 bits and
    takes it off again as `cvae denoise` does. MSE is then of pixels in [0, 1], PSNR of 8-bit
    pixels; both are means over the images. A denoiser, which is no codec, gives these figures only,
    of each image at its own size. `tv` has the weight, of a grid, of its best PSNR on these images.

    --coded takes bytes and pictures from a pack; the images of an array are matched by number, others by
    name. DATA may then be a tar archive, a pattern or a URL, too.
    """
    if coded is not None:
        if noise is not None or against or quality or limit or csv_file or plot_file or html_file:
            raise click.UsageError("--coded goes with --model, --split and --json only")
        from cvae.cli import coded as packs

        packs.evaluate(dataset, coded, model, split, as_json)
        return
    from cvae import codec as codecs
    from cvae.evaluation import measure as evaluation
    from cvae.models import registry

    data = Path(dataset)
    if noise is not None:
        from cvae.cli import noisy

        if csv_file or plot_file or html_file:
            raise click.UsageError(
                "--csv, --plot and --html are of coding; leave them or --noise out"
            )
        noisy.evaluate(data, model, quality, effort, split, limit, against, noise, as_json)
        return
    if against is not None and "tv" in against.split(","):
        raise click.UsageError("--against tv removes noise, which needs --noise")
    if plot_file is not None and against is None:
        raise click.UsageError("--plot draws curves, which need --against")
    outputs = _Outputs(csv_file, plot_file, html_file, force)
    outputs.check(data)
    codec = codecs.open_model(model or registry.DEFAULT)
    codec.quality(quality)
    others = _others(codec, against)
    with advising(data, split):
        if split is not None and data.is_dir():
            part = load_part(data, split, codec.model)
            names = part.names[:limit]
            pixels = part.images[: len(names)]
        else:
            pixels, names = evaluation.load(data, split or "test", codec.image_shape)
            pixels, names = pixels[:limit], names[:limit]
    measured = evaluation.measure(codec, pixels, quality, effort)
    result = {
        "model": codec.name,
        "dataset": data.stem,
        "split": evaluation.split_name(data, split),
        **evaluation.summarize(codec, measured),
    }
    comparison = None
    if others is not None:
        from cvae.evaluation import comparison as comparisons

        with progress() as say:
            comparison = comparisons.compare(codec, measured, others, say)
        result |= {"curve": comparison.curve, "rivals": comparison.rivals}
        for text in comparison.refused:
            common.Talk(quiet=False, verbose=False).warning(text)
    # Before the files: what was measured is not lost when one cannot be written.
    if as_json:
        click.echo(json.dumps(result, indent=2))
    else:
        click.echo(table(result))
        if comparison is not None:
            click.echo("\n" + _against_table(result, comparison))
    outputs.write(result, measured, names, comparison)


def load_part(folder: Path, split: str, model: Model) -> Part:
    """A part of a folder, split as it was for training, and what may be wrong with it on stderr."""
    from cvae.evaluation import measure as evaluation

    talk = common.Talk(quiet=False, verbose=False)
    part = evaluation.load_part(folder, split, model, talk.watch)
    talk.skipped(folder, part.skipped)
    if part.warning:
        talk.warning(part.warning)
    return part


@contextmanager
def advising(data: Path, split: str | None) -> Iterator[None]:
    """Adds to an error that an image of `data` causes what to do about it."""
    from cvae.errors import ImageError, ImageShapeError

    try:
        yield
    except ImageError as error:
        advice = [common.MODELS_ADVICE] if isinstance(error, ImageShapeError) else []
        if split is None and data.is_dir():
            advice.append(_SPLIT_ADVICE)
        error.advice = "; ".join(advice)
        raise


def _others(codec: Codec, against: str | None) -> list[str] | None:
    """The codecs to compare with, all of them here; None without --against."""
    if against is None:
        return None
    from cvae.evaluation import comparison

    names = comparison.parse(against)
    comparison.check(codec, names)
    return names


@dataclass(frozen=True)
class _Outputs:
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

    def write(
        self,
        result: dict[str, Any],
        measured: Measured,
        names: list[str],
        comparison: Comparison | None,
    ) -> None:
        from cvae.data import files
        from cvae.evaluation import measure as evaluation

        if self.csv is not None:
            table = evaluation.table(measured, names)
            files.write_bytes(self.csv, table.encode("utf-8", "surrogateescape"), self.force)
        if self.plot is not None and comparison is not None:
            from cvae.evaluation import plots as report

            plot = report.rate_distortion_plot(comparison.curve, comparison.rivals)
            files.write_bytes(self.plot, plot, self.force)
        if self.html is not None:
            from cvae.evaluation import page

            text = page.render(result, measured, names, comparison)
            files.write_bytes(self.html, text.encode("utf-8", "replace"), self.force)


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Says on a terminal, in one line that is written over, what is being measured."""
    shown = sys.stderr is not None and sys.stderr.isatty()

    def say(text: str) -> None:
        if shown:
            click.echo(f"\r\x1b[K{text[:78]}", nl=False, err=True)

    try:
        yield say
    finally:
        say("")


def _against_table(result: dict[str, Any], comparison: Comparison) -> str:
    """One line a codec and layout, beside ours."""
    from cvae.evaluation.comparison import MARKS, lines

    found = lines(comparison.curve, comparison.rivals, result["quality"], result["psnr_mean"])
    width = max(len("codec"), *(len(line.codec) for line in found))
    rows = [f"{'codec':{width}}  layout  bytes an image  at PSNR      times ours  BD-rate"]
    for line in found:
        psnr = "lossless" if line.psnr is None else f"{line.psnr:.2f} dB"
        psnr = f"{psnr} {line.mark}".rstrip()
        rate = line.bd_rate_percent
        rows.append(
            f"{line.codec:{width}}  {line.layout:6}  {line.bytes:14.2f}  {psnr:11}  "
            f"{line.times_ours:10.2f}  {'n/a' if rate is None else f'{rate:+.1f} %'}"
        )
    rows.append("BD-rate: our bytes against the codec's at equal PSNR; n/a: curves too far apart")
    used = {line.mark for line in found}
    rows += [f"{mark} {text}" for mark, text in MARKS.items() if mark in used]
    return "\n".join(rows)


def table(result: dict[str, Any]) -> str:
    """The figures of `evaluation.summarize` for people."""
    ssim = result["ssim_mean"]
    values = {
        **result,
        "ssim": "- (needs the extra eval, and 11x11 pixels)" if ssim is None else f"{ssim:.4f}",
    }
    title = "{model} on {dataset} ({split}, {images:,} images), quality {quality}, effort {effort}".format(
        **values
    )
    width = max(len(label) for label, _ in _ROWS)
    return "\n".join(
        [title, *(f"  {label:{width}}  {text.format(**values)}" for label, text in _ROWS)]
    )
