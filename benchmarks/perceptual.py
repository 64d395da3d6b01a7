"""What a perceptual loss changes: two models of one architecture at equal bytes, as Markdown.

    python benchmarks/perceptual.py cifar10.npz MODEL WITHOUT

MODEL at its default quality; WITHOUT, trained with `--perceptual-weight 0`, at the quality whose files
are nearest in size; all test images.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from cvae import open_model
from cvae.codec import Codec
from cvae.data import images
from cvae.data.images import Pixels
from cvae.data.sources import Which, array_source
from cvae.evaluation.measure import Measured, measure
from cvae.options import EncodeOptions
from cvae.training import backend

_SAMPLE = 1000  # images that qualities are compared on
_BATCH = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("model")
    parser.add_argument("without")
    arguments = parser.parse_args()
    backend.load_keras()
    from cvae.training.networks import features
    from cvae.training.preset import Preset

    pixels = array_source(arguments.data, Which("test")).all()
    with_it, without = open_model(arguments.model), open_model(arguments.without)
    first = measure(with_it, pixels)
    second = measure(without, pixels, nearest(without, pixels, float(first.file_bytes.mean())))
    difference = features.perceptual(Preset.from_json(with_it.model.manifest.preset))
    print("| model | quality | file | PSNR | SSIM | feature distance |\n|---|---|---|---|---|---|")
    for codec, measured in ((with_it, first), (without, second)):
        print(row(codec, measured, difference))


def nearest(codec: Codec, pixels: Pixels, size: float) -> int:
    """The quality whose files have a mean size nearest to `size`, by a sample."""
    sample = pixels[:_SAMPLE]

    def off(quality: int) -> float:
        coded = codec.encode_batch(sample, EncodeOptions(quality=quality))
        return abs(float(np.mean([len(item.data) for item in coded])) - size)

    return min(range(20, 81, 2), key=off)


def row(codec: Codec, measured: Measured, difference: Any) -> str:
    x, x_hat = images.as_floats(measured.pixels), images.as_floats(measured.decoded)
    distances = [
        np.asarray(difference(x[i : i + _BATCH], x_hat[i : i + _BATCH]))
        for i in range(0, len(x), _BATCH)
    ]
    weight = codec.model.manifest.preset["perceptual_weight"]
    ssim = measured.ssim
    return (
        f"| squared error{f' + {weight:g} x features' if weight else ' alone'} | {measured.quality} "
        f"| {measured.file_bytes.mean():.2f} B | {measured.psnr.mean():.2f} dB "
        f"| {'-' if ssim is None else f'{ssim.mean():.4f}'} "
        f"| {np.concatenate(distances).mean():.4f} |"
    )


if __name__ == "__main__":
    main()
