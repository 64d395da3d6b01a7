"""Rate and distortion of the shipped models on whole test splits, as the tables of docs/results.md."""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np

from cvae import comparison, images, open_model, rans, search, tables
from cvae.codec import DEFAULT_EFFORT
from cvae.rivals import RIVALS

MODELS = ["mnist", "mnist-cvae", "linear-mnist"]
EFFORTS = [0, 1, 3, 5, 7]
QUALITIES = [10, 30, 50, 70, 90]
GENERAL = ",".join(RIVALS)


def evaluate(
    data: Path, model: str, quality: int | None = None, effort: int = 0, against: str = ""
) -> dict:
    """What `cvae eval` prints, from a process of its own."""
    command = [sys.executable, "-m", "cvae", "eval", str(data), "-m", model, "--json"]
    command += ["--effort", str(effort)]
    if quality is not None:
        command += ["-q", str(quality)]
    if against:
        command += ["--against", against]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def shipped(data: Path, models: list[str]) -> str:
    """One row a shipped model at its default quality."""
    rows = [
        "| model | file | payload | information | ratio | PSNR | of the means | of the mean MSE | SSIM |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for model in models:
        r = evaluate(data, model)
        rows.append(
            f"| `{model}` | {r['file_bytes_mean']:.2f} B | {r['payload_bytes_mean']:.2f} B "
            f"| {r['information_bits_mean'] / 8:.2f} B | {r['compression_ratio']:.1f}:1 "
            f"| {r['psnr_mean']:.2f} dB | {r['psnr_of_means']:.2f} dB "
            f"| {r['psnr_of_mean_mse']:.2f} dB | {r['ssim_mean']:.4f} |"
        )
    return "\n".join(rows)


def qualities(data: Path) -> str:
    """Files and PSNR over the range of qualities."""
    rows = [
        "| quality | " + " | ".join(f"`{model}`" for model in MODELS) + " |",
        "|---" * (len(MODELS) + 1) + "|",
    ]
    for quality in QUALITIES:
        cells = []
        for model in MODELS:
            r = evaluate(data, model, quality)
            cells.append(f"{r['file_bytes_mean']:.1f} B at {r['psnr_mean']:.2f} dB")
        rows.append(f"| {quality} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def efforts(data: Path, model: str) -> str:
    """What the search gains, and how many syntheses an image it takes."""
    rows = ["| effort | syntheses | payload | PSNR |", "|---|---|---|---|"]
    elements = open_model(model).model.manifest.elements
    for effort in EFFORTS:
        r = evaluate(data, model, effort=effort)
        rows.append(
            f"| {effort} | {search.syntheses(effort, elements)} "
            f"| {r['payload_bytes_mean']:.2f} B | {r['psnr_mean']:.2f} dB |"
        )
    return "\n".join(rows)


def rivals(data: Path, model: str, against: str) -> str:
    """Other codecs on the same images, at the PSNR of a model where they reach it."""
    result = evaluate(data, model, effort=DEFAULT_EFFORT, against=against)
    rows = [
        "| codec | layout | bytes an image | PSNR | times ours | BD-rate |",
        "|---|---|---|---|---|---|",
    ]
    for line in comparison.lines(
        result["curve"], result["rivals"], result["quality"], result["psnr_mean"]
    ):
        psnr = "lossless" if line.psnr is None else f"{line.psnr:.2f} dB"
        rate = "n/a" if line.bd_rate_percent is None else f"{line.bd_rate_percent:+.1f} %"
        rows.append(
            f"| {line.codec} | {line.layout} | {line.bytes:.2f} B | {psnr} "
            f"| {line.times_ours:.2f} | {rate} |"
        )
    return "\n".join(rows)


def coders(pixels: images.Pixels) -> str:
    """How near both coders come to the information content, with the default model."""
    codec = open_model()
    quality = codec.quality(None)
    coded = codec.encode_batch(pixels)
    over = sum(c.payload_bytes > math.ceil(c.information_bits / 8) for c in coded)
    symbols = np.stack([c.symbols for c in coded])
    frequency_tables = codec.model.bank.tables(quality)
    information = tables.information_bits(symbols, frequency_tables).sum() / 8
    block = len(rans.encode_block(symbols, frequency_tables))
    alone = sum(c.payload_bytes for c in coded)
    return "\n".join(
        [
            f"- one image: {over} of {len(coded):,} payloads are longer than their information "
            f"content rounded up to whole bytes; all together {alone / information:.4f} times it",
            f"- a block of {len(coded):,} images: {block:,} bytes, "
            f"{block / information:.4f} times the information content",
        ]
    )


def report(folder: Path) -> str:
    mnist, fashion = folder / "mnist.npz", folder / "fashion_mnist.npz"
    pixels = images.read_npz(mnist, "test")
    return f"""# Results

Made by `make results DATA=FOLDER` (`benchmarks/results.py`), FOLDER holding `mnist.npz` and
`fashion_mnist.npz` in the layout of `keras.datasets`. All {len(pixels):,} test images of each; the networks
never saw them. Each image is a file of its own, with header; PSNR is of 8-bit pixels, the mean over
images. One row is one `cvae eval mnist.npz -m MODEL --json`, with plain rounding (effort 0) where nothing
else is said.

## MNIST, shipped models at their default quality

{shipped(mnist, MODELS)}

`linear-mnist` is the linear codec: PCA through the same tables, coder and container.

## MNIST, over qualities (`-q`)

{qualities(mnist)}

## MNIST, over efforts (`--effort`), model `mnist`

{efforts(mnist, "mnist")}

## General codecs on the same images

`cvae eval mnist.npz --against linear,{GENERAL}`: at the PSNR of `mnist` where a codec reaches it, else
at its nearest setting. Layout `single` is a file an image, `block` all images as one block of the
rANS coder without any header, `mosaic` a picture of 1,000 images. BD-rate is our bytes against the
codec's at equal PSNR.

{rivals(mnist, "mnist", "linear," + GENERAL)}

## Fashion-MNIST

{shipped(fashion, ["fashion"])}

Over efforts, model `fashion`:

{efforts(fashion, "fashion")}

General codecs on the same images:

{rivals(fashion, "fashion", GENERAL)}

## Coders

Model `mnist` at its default quality, on the same images.

{coders(pixels)}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with mnist.npz and fashion_mnist.npz")
    parser.add_argument("--out", type=Path, help="file to write instead of stdout")
    arguments = parser.parse_args()
    text = report(arguments.data)
    if arguments.out:
        arguments.out.write_text(text)
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
