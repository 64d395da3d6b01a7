"""Rate and distortion of the shipped models on whole test splits: docs/results.md and its plots."""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anysize
import classifier
import crops
import denoisers
import lossless
import numpy as np
import tiles

from cvae import open_model
from cvae.data import files
from cvae.data.images import Pixels
from cvae.data.sources import Which, array_source
from cvae.evaluation import comparison, plots
from cvae.evaluation.rivals import RIVALS
from cvae.kinds import search
from cvae.models import registry
from cvae.models.file import GRADIENT
from cvae.options import DEFAULT_EFFORT, EncodeOptions

# By tangents and by gradients; the latter take long.
EFFORTS, GRADIENT_EFFORTS = [0, 1, 3, 5, 7], [0, 2, 5]
QUALITIES = comparison.QUALITIES
GENERAL, LINEAR = ",".join(RIVALS), "linear"
COMPARED = (GENERAL, LINEAR, "png")
# Made once for a model and a command; git ignores the folder.
KEPT = Path(__file__).parents[1] / "runs" / "results"

HEAD = f"""# Results

Made by `make results DATA=FOLDER` (`benchmarks/results.py`), FOLDER holding `mnist.npz`,
`fashion_mnist.npz` and `cifar10.npz` in the layout of `keras.datasets`, the PNG files of `tiles/`,
`photos/`, and `kodak/`. All test images of each, which the networks never saw. Each image is a file of its
own, with header; PSNR is of 8-bit pixels, the mean over images. One row of the first tables is one
`cvae eval DATA -m MODEL --json`, at the default effort, {DEFAULT_EFFORT}, where nothing else is said.
PSNR of the latents is before quantization.

Other codecs: `cvae eval DATA -m MODEL --against {LINEAR},{GENERAL}`.
Layout `single` is a file an image, `block` all images as one block of the rANS coder without any
header, `mosaic` a picture of 1,000 images. Bytes are at the model's PSNR where a codec reaches it
(interpolated between its nearest settings), else of its nearest setting. `times ours` compares single
with single, and mosaic with block. BD-rate is our bytes against the codec's at equal PSNR, n/a where the
curves share less than a decibel. The codecs are measured around the PSNR of one model, whose table has no
gaps; at that of the others values are interpolated over several decibels, or missing.
† {comparison.MARKS[comparison.STARTS_ABOVE]}.
‡ {comparison.MARKS[comparison.ENDS_BELOW]}.
`linear` is the linear codec:
PCA of the same training images through the same tables, search, coder and container."""

# Folders of pictures for models of any size: title, folder, what there is to say of it.
ANY_SIZE = [
    (
        "Photographs",
        "kodak",
        "The Kodak pictures (24 of 768x512 or 512x768), which nothing was chosen by.",
    ),
    (
        "Small drawings",
        "tiles/gui",
        "Symbols and buttons of a game, drawn, nearly all 32x32, transparent ones on white: no photographs, "
        "and far smaller than what `photo` is for. Most other formats cannot make files so small that they "
        "come down to a bit a pixel; MS-SSIM needs sides of 176 pixels. There is no plot of means: some "
        "drawings come back exactly in other formats, and a mean of PSNRs would be theirs.",
    ),
]
PLOTTED = "kodak"
ANY_SIZE_HEAD = f"""`{anysize.MODEL}` at the default effort and other codecs, each picture a file of its
own, sizes with all headers; PSNR of the RGB pixels after decoding. Of other codecs all of these settings are
tried on each picture: JPEG optimized and progressive, WebP with method 6, AVIF (aom, tuned to PSNR) at
speed 0, JPEG 2000 as a bare codestream with 3 and 6 resolutions, JPEG XL with effort 9, each over its
qualities; JPEG and AVIF with 4:2:0 and 4:4:4. A curve is the upper convex hull of these points in bits a
pixel and PSNR; that of `{anysize.MODEL}` is all of its points but those that another beats in both.

BD-rate is the mean over the pictures of each one's own: the logarithm of the bytes as a function of PSNR, by
monotone cubic interpolation (PCHIP), ours less the other's, averaged over the PSNRs at which the other codec
takes {anysize.RATES[0]:g} to {anysize.RATES[1]:g} bit a pixel and which both curves reach, then turned into
percent: negative where `{anysize.MODEL}` takes less. A picture is left out where these PSNRs span less than a
decibel. "All rates in common" averages over all PSNRs that both curves reach. MS-SSIM is that of Wang,
Simoncelli and Bovik (2003), the mean over the channels."""

CROPS = f"""Of each [photograph](../samples/README.md) the same
{crops.SIZE[0]}x{crops.SIZE[1]} pixels, enlarged. Whole files at equal bytes: the quality is {crops.QUALITY}
for `{crops.MODEL}`, and of the others the lowest that takes as many bytes or more, with the better of 4:2:0
and 4:4:4; below each the bytes and the PSNR of the whole picture. They are three of the pictures that
`{crops.MODEL}` was validated on. Made by `python benchmarks/crops.py FILE`.

![Crops of three photographs: original, {crops.MODEL}, JPEG, WebP and AVIF]({{link}})"""

# As in the tables of `cvae eval`, but no Markdown.
MARKS = {"": "", comparison.STARTS_ABOVE: "†", comparison.ENDS_BELOW: "‡"}

Row = dict[str, Any]


@dataclass(frozen=True)
class Data:
    """A data set and the models for it; the other codecs are measured around the first one's PSNRs."""

    title: str
    file: str
    models: tuple[str, ...]
    linear: str


DATA = [
    Data("MNIST", "mnist.npz", ("mnist-hq", "mnist", "mnist-cvae", "mnist-ae"), "linear-mnist"),
    Data(
        "Fashion-MNIST",
        "fashion_mnist.npz",
        ("fashion-hq", "fashion", "fashion-ae"),
        "linear-fashion",
    ),
    Data("CIFAR-10", "cifar10.npz", ("cifar", "cifar10"), "linear-cifar"),
    Data("Tiles", "tiles.npz", ("tiles",), "linear-tiles"),
]


def evaluate(data: Path, model: str, *options: str) -> Row:
    """What `cvae eval DATA -m MODEL OPTIONS --json` prints, from a process of its own."""
    command = ["eval", str(data), "-m", model, *options, "--json"]
    path = kept(data, model, *options)
    for more in COMPARED if not options else ():
        # A comparison has all that the plain command prints, and more.
        if (larger := kept(data, model, "--against", more)).exists():
            path = larger
    if not path.exists():
        started = time.monotonic()
        run = [sys.executable, "-m", "cvae", *command]
        printed = subprocess.run(run, check=True, stdout=subprocess.PIPE).stdout
        files.write_bytes(path, printed, force=True)
        print(f"{time.monotonic() - started:.0f} s: cvae {' '.join(command)}", file=sys.stderr)
    result: Row = json.loads(path.read_text())
    return result


def fit(preset: str, data: Path) -> None:
    """Puts a linear codec of the data on the search path of models."""
    run = KEPT / preset
    if not run.exists():
        command = ["train", preset, "--data", str(data), "--out", str(run)]
        subprocess.run([sys.executable, "-m", "cvae", *command], check=True)
    os.environ[registry.SEARCH_PATH] = str(run)


def kept(data: Path, model: str, *options: str) -> Path:
    """Where the result of a command is kept; another model of that name has another place."""
    key = json.dumps([data.name, model, *options, registry.open_model(model).manifest.hashes])
    return KEPT / f"{model}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"


def shipped(data: Path, models: list[str]) -> str:
    """One row a shipped model at its default quality."""
    rows = [
        "| model | file | payload | information | ratio | PSNR | of the latents | of the mean MSE | SSIM |",
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


def compared(data: Path, model: str) -> Row:
    """A comparison of the model, whatever with: its curve is in each."""
    for against in COMPARED:
        if kept(data, model, "--against", against).exists():
            return evaluate(data, model, "--against", against)
    return evaluate(data, model, "--against", "png")


def at_quality(data: Path, model: str, quality: int) -> Row:
    """Single files at one of the qualities of curves."""
    for row in compared(data, model)["curve"]:
        if row["layout"] == "single" and row["settings"].startswith(f"quality={quality} "):
            found: Row = row
            return found
    raise ValueError(f"expected one of {QUALITIES}, found {quality}")


def qualities(data: Path, models: list[str]) -> str:
    """Files and PSNR over the range of qualities."""
    rows = [
        "| quality | " + " | ".join(f"`{model}`" for model in models) + " |",
        "|---" * (len(models) + 1) + "|",
    ]
    for quality in QUALITIES:
        cells = []
        for model in models:
            r = at_quality(data, model, quality)
            cells.append(f"{r['file_bytes_mean']:.1f} B at {r['psnr_mean']:.2f} dB")
        rows.append(f"| {quality} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def efforts(data: Path, model: str) -> str:
    """What the search gains, and what it takes: syntheses, or gradients of one."""
    manifest = open_model(model).model.manifest
    by_gradient = GRADIENT in manifest.hashes
    work = "gradients" if by_gradient else "syntheses"
    rows = [f"| `{model}`, effort | {work} | payload | PSNR |", "|---|---|---|---|"]
    for effort in GRADIENT_EFFORTS if by_gradient else EFFORTS:
        chosen = [] if effort == DEFAULT_EFFORT else ["--effort", str(effort)]
        r = evaluate(data, model, *chosen)
        count = search.TRIALS[effort] + 1 if by_gradient else None
        rows.append(
            f"| {effort} | {(count or search.syntheses(effort, manifest.elements)) if effort else 0} "
            f"| {r['payload_bytes_mean']:.2f} B | {r['psnr_mean']:.2f} dB |"
        )
    return "\n".join(rows)


def rivals(data: Path, model: str, others: list[Row], measured_here: bool) -> str:
    """Other codecs on the same images, at the PSNR of a model where they reach it.

    Args:
        data: the images.
        model: ours.
        others: rows of the other codecs.
        measured_here: whether they were measured around this model's PSNR; where they were not, a
            curve that ends below says nothing of its codec.
    """
    result = compared(data, model)
    psnr, curve = result["psnr_mean"], result["curve"]
    rows = [
        f"| at the PSNR of `{model}` | layout | bytes an image | PSNR | times ours | BD-rate |",
        "|---|---|---|---|---|---|",
    ]
    for line in comparison.lines(
        curve, comparison.seen_from(curve, psnr, others), result["quality"], psnr
    ):
        lossy = any(row["codec"] == line.codec and not row["lossless"] for row in others)
        if (
            lossy
            and (line.psnr is None or line.mark == comparison.ENDS_BELOW)
            and not measured_here
        ):
            rows.append(f"| {line.codec} | {line.layout} | not measured | | | |")
            continue
        reached = "lossless" if line.psnr is None else f"{line.psnr:.2f} dB"
        reached = f"{reached} {MARKS[line.mark]}".strip()
        rate = "n/a" if line.bd_rate_percent is None else f"{line.bd_rate_percent:+.1f} %"
        rows.append(
            f"| {line.codec} | {line.layout} | {line.bytes:.2f} B | {reached} "
            f"| {line.times_ours:.2f} | {rate} |"
        )
    return "\n".join(rows)


def coders(pixels: Pixels) -> str:
    """How near both coders come to the information content, with the default model."""
    codec = open_model()
    coding, quality = codec.coding, codec.quality(None)
    coded = codec.encode_batch(pixels, EncodeOptions(effort=0))
    over = sum(c.payload_bytes > math.ceil(c.information_bits / 8) for c in coded)
    symbols = np.stack([c.symbols for c in coded])
    information = coding.information_bits(symbols, quality).sum() / 8
    block = len(coding.encode_block(symbols, quality, lanes=64))
    alone = sum(c.payload_bytes for c in coded)
    return "\n".join(
        [
            f"- one image: {over} of {len(coded):,} payloads are longer than their information "
            f"content rounded up to whole bytes; all together {alone / information:.4f} times it",
            f"- a block of {len(coded):,} images: {block:,} bytes, "
            f"{block / information:.4f} times the information content",
        ]
    )


def section(item: Data, folder: Path, figures: Path) -> str:
    """All tables of a data set; its plot is written beside them."""
    data = folder / item.file
    models = sorted(item.models)
    # Apart, because a linear codec that is fitted anew changes nothing about the others.
    others = [
        row
        for names in (LINEAR, GENERAL)
        for row in evaluate(data, item.models[0], "--against", names)["rivals"]
    ]
    plot = figures / f"{Path(item.file).stem}.png"
    curves = [row for model in item.models for row in compared(data, model)["curve"]]
    files.write_bytes(plot, plots.rate_distortion_plot(curves, others), force=True)
    return "\n\n".join(
        [
            f"## {item.title}",
            shipped(data, [*models, item.linear]),
            f"![PSNR over bytes an image]({figures.name}/{plot.name})",
            *(rivals(data, model, others, model == item.models[0]) for model in models),
            "Over qualities (`-q`):",
            qualities(data, models),
        ]
    )


def any_size(folder: Path, figures: Path, jobs: int, left_out: str) -> dict[str, str]:
    """Heading -> section of pictures of any size; none without the model or the pictures."""
    found: dict[str, str] = {}
    if not anysize.is_there():
        print(f"left out: there is no model {anysize.MODEL}", file=sys.stderr)
        return found
    for title, name, text in ANY_SIZE:
        if not (folder / name).is_dir():
            print(f"left out: there is no folder {folder / name}", file=sys.stderr)
            continue
        plot = figures / f"{name}.png" if name == PLOTTED else None
        head = [] if found else [ANY_SIZE_HEAD, *([left_out] if left_out else [])]
        tables = anysize.report(folder / name, plot, jobs)
        found[f"{title}: `{name}`"] = "\n\n".join([*head, text, tables])
    if crops.write(figures / "crops.png"):
        found["Photographs side by side"] = CROPS.format(link=f"{figures.name}/crops.png")
    return found


def with_sections(text: str, sections: dict[str, str]) -> str:
    """A document whose sections of these headings are replaced; those that it lacks come last."""
    head, *parts = text.rstrip().split("\n\n## ")
    known = dict(part.partition("\n")[::2] for part in parts)
    known |= {title: f"\n{section}" for title, section in sections.items()}
    return "\n\n## ".join([head, *(f"{title}\n{part}" for title, part in known.items())])


def document(folder: Path, figures: Path) -> str:
    with_tiles = {**{item.file: folder for item in DATA}, "tiles.npz": KEPT}
    if not (KEPT / "tiles.npz").exists():
        tiles.write(folder / "tiles", KEPT / "tiles.npz")
    # Not shipped, for its size.
    fit("linear-tiles", KEPT / "tiles.npz")
    pixels = array_source(folder / "mnist.npz", Which("test")).all()
    sections = [section(item, with_tiles[item.file], figures) for item in DATA]
    return "\n\n".join(
        [
            HEAD,
            *sections,
            "## Efforts (`--effort`), MNIST",
            efforts(folder / "mnist.npz", "mnist"),
            efforts(folder / "mnist.npz", "mnist-hq"),
            "## Coders\n\nModel `mnist` at its default quality with plain rounding, all MNIST test images.",
            coders(pixels),
            classifier.report(folder, "mnist"),
            denoisers.report(folder, KEPT, evaluate),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with the data sets")
    parser.add_argument("--out", type=Path, required=True, help="file to write; plots go beside it")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes for any-size")
    parser.add_argument(
        "--without", action="append", default=[], choices=[*anysize.RIVALS], metavar="CODEC",
        help="leave out a codec for pictures of any size; avif takes hours",
    )  # fmt: skip
    parser.add_argument(
        "--any-size", action="store_true", help="only pictures of any size; the rest of --out stays"
    )
    arguments = parser.parse_args()
    out: Path = arguments.out
    figures = out.parent / out.stem
    names = ", ".join(anysize.TITLES[name] for name in dict.fromkeys(arguments.without))
    for name in dict.fromkeys(arguments.without):
        del anysize.RIVALS[name]
    left_out = f"Not measured yet: {names}." if names else ""
    sections = any_size(arguments.data, figures, arguments.jobs, left_out)
    if lossless.is_there() and not arguments.any_size:
        sections["Lossless"] = lossless.report(arguments.data, evaluate)
    if arguments.any_size:
        text = HEAD + "".join(out.read_text().partition("\n\n## ")[1:])
    else:
        text = document(arguments.data, figures)
    out.write_text(with_sections(text, sections) + "\n")


if __name__ == "__main__":
    main()
