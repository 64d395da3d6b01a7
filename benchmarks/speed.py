"""Speed as ratios of things measured in the same run, as the tables of docs/benchmarks.md."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import access
import growth
import losslessspeed
import networks
import numpy as np
import packs
import photospeed
import timing

from cvae import open_model, sampling
from cvae.data.images import Pixels
from cvae.data.sources import Which, array_source

COUNT = 10_000
BARE = "import numpy, PIL.Image, click, onnxruntime"
SAMPLE = Path(__file__).parents[1] / "samples" / "digit_3.png"


def cold_start() -> str:
    cvae = [sys.executable, "-m", "cvae"]
    commands = {
        f'`python -c "{BARE}"`': [sys.executable, "-c", BARE],
        "`cvae encode digit_3.png`": [*cvae, "encode", str(SAMPLE), "-o", "x.bin", "--force"],
        "`cvae decode digit_3.bin`": [*cvae, "decode", "x.bin", "-o", "x.png", "--force"],
        "`cvae --help`": [*cvae, "--help"],
    }
    with tempfile.TemporaryDirectory() as folder:
        measured = timing.processes(commands, Path(folder), repeats=3 * timing.REPEATS)
    bare = next(iter(measured.values()))[0]
    rows = [
        "| process, start to exit | seconds | over the bare imports | resident |",
        "|---|---|---|---|",
    ]
    for name, (wall, memory) in measured.items():
        rows.append(f"| {name} | {wall:.3f} | {wall / bare:.2f} | {memory:.0f} MB |")
    return "\n".join(rows)


def coders(pixels: Pixels) -> str:
    codec = open_model()
    coding, quality = codec.coding, codec.quality(None)
    symbols = codec.quantize(pixels, quality, effort=0)
    payloads = coding.encode_each(symbols, quality)
    block = coding.encode_block(symbols, quality)
    information = float(coding.information_bits(symbols, quality).sum()) / 8
    exact, packed = sum(map(len, payloads)) / information, len(block) / information
    works = {
        ("exact coder, one payload an image: encode", exact): lambda: coding.encode_each(
            symbols, quality
        ),
        ("exact coder: decode", exact): lambda: [
            coding.decode_each(payload, quality) for payload in payloads
        ],
        ("rANS, one block: encode", packed): lambda: coding.encode_block(symbols, quality),
        ("rANS: decode", packed): lambda: coding.decode_block(block, len(pixels), quality),
    }
    times = timing.seconds({name: work for (name, _), work in works.items()})
    rows = [
        f"| coder, {len(pixels):,} images of {symbols.shape[1]} symbols | symbols a second "
        "| bytes over the information |",
        "|---|---|---|",
    ]
    rows += [f"| {name} | {symbols.size / times[name]:,.0f} | {over:.4f} |" for name, over in works]
    return "\n".join(rows)


def apart(script: ModuleType, pixels: Pixels | None = None) -> str:
    """What a script prints, of these images, in a small process.

    What a child has resident counts from what its parent had, and workers of PyTorch are forks of it.
    """
    with tempfile.NamedTemporaryFile(suffix=".npy") as file:
        command = [sys.executable, str(script.__file__)]
        if pixels is not None:
            np.save(file, pixels)
            file.flush()
            command.append(file.name)
        result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return result.stdout.rstrip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="file to write instead of stdout")
    parser.add_argument("--data", type=Path, help="an .npz file with an x_test of 28x28 images")
    arguments = parser.parse_args()
    if arguments.data:
        pixels, which = (
            array_source(arguments.data, Which("test")).all()[:COUNT],
            arguments.data.name,
        )
    else:
        pixels = sampling.sample(open_model(), COUNT, seed=0)
        which = "drawn by the model"
    text = f"""# Speed

Made by `make bench` (`benchmarks/speed.py`). Ratios travel from machine to machine, seconds do not: these
are of one with {os.cpu_count()} cores. Medians of {timing.REPEATS} or more, measured turn by turn; model
`mnist`, images {which}.

## Cold start

{cold_start()}

## Photographs

Cold processes from a PNG file to a coded one and back to PNG, at the default quality and effort of each, but
AVIF at speed {photospeed.OTHERS["AVIF"][1]["speed"]}; the files are not of equal quality. The pictures are
photographs side by side, mirrored; the large one is measured once.

{apart(photospeed)}

## Networks

{networks.report()}

## Packs and single images

{packs.report(pixels)}

## Single images of packs

Effort 0. "Again" is of an image that is kept, which `pack[number]` copies.

{apart(access, pixels)}

## Entropy coders

{coders(pixels)}

## From a thousand images to a million

Effort 0, without verification.

{apart(growth, pixels)}

## Lossless

Processes from files to files; a block of a pack has 4,096 images.

{apart(losslessspeed, pixels)}
"""
    print(text, end="")
    if arguments.out:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
