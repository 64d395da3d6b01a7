"""`cvae eval`: rate and distortion of a model on a data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from cvae.cli import common

_ROWS = [
    ("file", "{file_bytes_mean:.2f} bytes on average, of which {payload_bytes_mean:.2f} payload"),
    ("information", "{information_bits_mean:.2f} bits on average"),
    ("compression ratio", "{compression_ratio:.1f}:1 ({bpp:.4f} bits a pixel)"),
    ("PSNR", "{psnr_mean:.2f} dB, {psnr_of_means:.2f} dB before quantization"),
    ("PSNR of the mean MSE", "{psnr_of_mean_mse:.2f} dB (mean MSE {mse_mean:.1f})"),
    ("SSIM", "{ssim}"),
    ("below expected quality", "{warned} of {images} images"),
    ("encode", "{encode_images_per_second:,.0f} images a second, decoding to check included"),
    ("decode", "{decode_images_per_second:,.0f} images a second"),
]


@click.command("eval")
@click.argument("data", type=click.Path(path_type=Path))
@common.model_option
@common.quality_option
@common.effort_option
@click.option(
    "--split", type=click.Choice(["test", "train"]), default="test", show_default=True,
    help="Which images of an .npz file.",
)  # fmt: skip
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N images.")
@common.json_option
def command(
    data: Path,
    model: str | None,
    quality: int | None,
    effort: int,
    split: str,
    limit: int | None,
    as_json: bool,
) -> None:
    """Measure rate and distortion on a data set.

    DATA is an .npz file (x_test), a folder of images or one image.

    Every image is encoded to a container of its own and decoded again. PSNR is of 8-bit pixels, the
    mean over the images. SSIM needs the extra `eval`.
    """
    from cvae import codec as codecs
    from cvae import evaluation, registry

    codec = codecs.open_model(model or registry.DEFAULT)
    pixels = evaluation.load(data, split, codec.image_shape)[:limit]
    result = {
        "model": codec.name,
        "dataset": data.stem,
        "split": split if data.suffix == ".npz" else "all",
        **evaluation.evaluate(codec, pixels, quality, effort),
    }
    click.echo(json.dumps(result, indent=2) if as_json else _table(result))


def _table(result: dict[str, Any]) -> str:
    ssim = result["ssim_mean"]
    values = {
        **result,
        "ssim": "- (needs the extra eval, and 11x11 pixels)" if ssim is None else f"{ssim:.4f}",
    }
    title = "{model} on {dataset} ({split}, {images} images), quality {quality}, effort {effort}".format(
        **values
    )
    width = max(len(label) for label, _ in _ROWS)
    return "\n".join(
        [title, *(f"  {label:{width}}  {text.format(**values)}" for label, text in _ROWS)]
    )
