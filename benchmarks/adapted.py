"""What half an hour of `cvae train auto` gains: its model beside `photo` and WebP, at WebP's PSNRs.

python benchmarks/adapted.py FOLDER RUN [--effort N] [--limit N]

FOLDER is what RUN was trained on. Bytes are those of all pictures of its held-out part, PSNR is their
mean; a model's bytes at WebP's PSNR lie on the line between two of its qualities.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cvae.codec import Codec, open_model
from cvae.data import metrics
from cvae.data.images import Pixels
from cvae.evaluation import measure, rivals
from cvae.options import EncodeOptions

WEBP = [30, 60, 90]
QUALITIES = [30, 60, 90]

Curve = list[tuple[float, float]]  # bytes of all pictures and their mean PSNR


def of_model(codec: Codec, pictures: Sequence[Pixels], effort: int) -> Curve:
    curve = []
    for quality in QUALITIES:
        options = EncodeOptions(quality=quality, effort=effort)
        coded = [codec.encode_batch(picture[np.newaxis], options)[0] for picture in pictures]
        curve.append(
            (sum(len(item.data) for item in coded), np.mean([item.psnr for item in coded]))
        )
        print(f"{codec.name} {quality}: {curve[-1]}", file=sys.stderr)
    return [(float(size), float(psnr)) for size, psnr in curve]


def of_webp(pictures: Sequence[Pixels]) -> Curve:
    curve = []
    for quality in WEBP:
        found = [
            rivals.code(rivals.RIVALS["webp"], p, {"quality": quality, "method": 6})
            for p in pictures
        ]
        psnr = [
            metrics.psnr(p[np.newaxis], x[np.newaxis])[0]
            for p, (_, x) in zip(pictures, found, strict=True)
        ]
        curve.append((float(sum(size for size, _ in found)), float(np.mean(psnr))))
    return curve


def at(curve: Curve, psnr: float) -> float:
    """The bytes of a curve at a PSNR; the logarithm of bytes is linear between two points."""
    sizes, psnrs = (np.array(values) for values in zip(*curve, strict=True))
    if not psnrs[0] <= psnr <= psnrs[-1]:
        return float("nan")
    return float(np.exp(np.interp(psnr, psnrs, np.log(sizes))))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("run")
    parser.add_argument("--effort", type=int, default=5)
    parser.add_argument("--limit", type=int)
    arguments = parser.parse_args()
    own, photo = open_model(arguments.run), open_model("photo")
    part = measure.load_part(arguments.folder, "test", own.model)
    pictures = part.whole(len(part.names[: arguments.limit]))
    webp = of_webp(pictures)
    curves = {codec: of_model(codec, pictures, arguments.effort) for codec in (own, photo)}
    print(f"{len(pictures)} held-out pictures, effort {arguments.effort}\n")
    print(
        f"| WebP's quality | PSNR | WebP | `photo` | {own.name} | less than WebP | less than `photo` |"
    )
    print("|---|---|---|---|---|---|---|")
    for quality, (size, psnr) in zip(WEBP, webp, strict=True):
        mine, theirs = (at(curves[codec], psnr) for codec in (own, photo))
        print(
            f"| {quality} | {psnr:.2f} dB | {size:,.0f} B | {theirs:,.0f} B | {mine:,.0f} B "
            f"| {1 - mine / size:.1%} | {1 - mine / theirs:.1%} |"
        )


if __name__ == "__main__":
    main()
