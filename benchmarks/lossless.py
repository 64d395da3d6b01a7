"""Lossless models on whole test splits beside other codecs: the section of docs/results.md.

python benchmarks/lossless.py DATA   prints it; DATA as for `make results`
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cvae import kinds
from cvae.evaluation.exactly import BYTES

Row = dict[str, Any]
Evaluate = Callable[..., Row]

# Data, its file or folder, the model, and the codecs beside it.
SMALL = "png,webp,jxl," + ",".join(BYTES)
DATA = [
    ("MNIST", "mnist.npz", "lossless-mnist", SMALL),
    ("Fashion-MNIST", "fashion_mnist.npz", "lossless-fashion", SMALL),
    ("CIFAR-10", "cifar10.npz", "lossless-cifar", SMALL),
    ("Kodak", "kodak", "lossless-photo", "png,webp,jxl"),
]
HEAD = """Every pixel comes back. Bits a dimension are 8 x bytes over values, whole test splits. `single` is a
file an image with its header; `block` all images as blocks of packs, without headers; `mosaic` pictures of
1,000 images. PNG optimized, WebP with method 6, JPEG XL with its best effort of 5, 7, 9 and 10
on a sample, `lzma -9e` and `zstd -19` of the bare pixels. One table is
`cvae eval DATA -m MODEL --against CODECS --json`."""


def is_there() -> bool:
    names = {manifest.name for _, manifest in kinds.known_models()[0]}
    return all(model in names for _, _, model, _ in DATA)


def report(folder: Path, evaluate: Evaluate) -> str:
    parts = [HEAD]
    for title, name, model, codecs in DATA:
        if not (folder / name).exists():
            print(f"left out: there is no {folder / name}", file=sys.stderr)
            continue
        parts.append(table(title, evaluate(folder / name, model, "--against", codecs)))
    return "\n\n".join(parts)


def table(title: str, result: Row) -> str:
    lines = [
        f"{title}, {result['images']:,} images; {result['images_that_differ']} come back otherwise.",
        "",
        f"| {title} | layout | bytes an image | bits a dimension | times ours |",
        "|---|---|---|---|---|",
    ]
    ours = {row["layout"]: row["file_bytes_mean"] for row in result["rivals"][:2]}
    for row in result["rivals"]:
        size = row["file_bytes_mean"]
        times = size / ours["single" if row["layout"] == "single" else "block"]
        lines.append(
            f"| {row['codec']} | {row['layout']} | {size:,.2f} B | {row['bits_per_dimension']:.3f} "
            f"| {times:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with the data sets")

    def evaluate(data: Path, model: str, *options: str) -> Row:
        command = [sys.executable, "-m", "cvae", "eval", str(data), "-m", model, *options, "--json"]
        row: Row = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        return row

    print(report(parser.parse_args().data, evaluate))


if __name__ == "__main__":
    main()
