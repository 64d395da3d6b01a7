"""`cvae eval --coded`: packs that exist against their originals."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from cvae import CvaeError, FormatError
from cvae.cli import common
from cvae.cli.common import Talk
from cvae.cli.packed import opened
from cvae.errors import at

_ROWS = [
    ("file", "{file_bytes_mean:.2f} bytes an image"),
    ("compression ratio", "{compression_ratio:.1f}:1 ({bpp:.4f} bits a pixel)"),
    ("PSNR", "{psnr_mean:.2f} dB"),
    ("PSNR of the mean MSE", "{psnr_of_mean_mse:.2f} dB (mean MSE {mse_mean:.1f})"),
    ("SSIM", "{ssim}"),
    ("below expected quality", "{warned:,} of {images:,} images"),
    ("decode", "{decode_images_per_second:,.0f} images a second"),
]


def evaluate(data: str, source: str, model: str | None, split: str | None, as_json: bool) -> None:
    """Measures a pack, or a folder of packs, against the images that it was made of."""
    from cvae.evaluation import verify as coded

    talk = Talk(quiet=False, verbose=False)

    def refuse(error: CvaeError) -> None:
        # Damage is of the pack; originals have their names already.
        talk.error(
            FormatError(f"{error}", where=source) if isinstance(error, FormatError) else error
        )

    with at(source), opened(source, model) as packed, talk.bar(len(packed)) as bar:
        found = coded.compare(packed, data, split, bar.update, refuse)
    stem = Path(data.rstrip("/")).stem
    result = {"dataset": stem, "split": found.pop("split"), "coded": source, **found}
    if found["missing"]:
        images = common.counted(found["missing"], "coded image")
        talk.warning(f"{data}: has no original of {images}")
    if as_json:
        click.echo(json.dumps(result, indent=2))
    else:
        ssim = result["ssim_mean"]
        shown = {**result, "ssim": "- (needs the extra eval)" if ssim is None else f"{ssim:.4f}"}
        click.echo(
            "{coded} against {dataset}: {images:,} images, quality {quality}".format(**shown)
        )
        width = max(len(label) for label, _ in _ROWS)
        for label, text in _ROWS:
            click.echo(f"  {label:{width}}  {text.format(**shown)}")
    sys.stdout.flush()
    if talk.errors:
        raise click.exceptions.Exit(1)
