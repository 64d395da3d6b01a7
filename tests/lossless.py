"""Lossless models built by hand: networks of random whole numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import cvae
from cvae.bitstream.container import LOSSLESS
from cvae.codec import Codec
from cvae.data.images import Pixels, Shape
from cvae.kinds.causal import Causal
from cvae.kinds.sight import Window
from cvae.kinds.trees import balanced
from cvae.models.file import Manifest, member_hashes, write_model
from cvae.models.lossless import LosslessTables

HIDDEN = 6
WIDTH = {True: 1, False: 8}  # how far leaves lie from the likeliest: no difference, or black


def dark(picture: Pixels) -> Pixels:
    """A picture that models of grey ones expect, so that decisions take fewer bytes than values."""
    return picture // 6


def tables(shape: Shape, any_size: bool, seed: int = 0, **others: Any) -> LosslessTables:
    """Those of a model for images (h, w, c); grey ones are not predicted."""
    rng, (height, width, channels) = np.random.default_rng(seed), shape
    predicts, up, side = channels == 3, 2, 3
    inputs = Window(up, side, predicts).inputs(channels)
    rows, weights, biases = [], [], []
    sizes = [[inputs, HIDDEN], [HIDDEN, HIDDEN]]
    for turn in range(channels):
        sizes += [[HIDDEN, *([turn] if turn else []), HIDDEN], [HIDDEN, 255]]
    for number, (*given, outputs) in enumerate(sizes):
        last = outputs == 255
        for count in given:
            rows.append([number, 1, count, outputs, -1 if last else 6])
            # Last ones are small: decisions are rather as the trees have them, which suits pictures.
            most = 3 if last else 30
            weights.append(rng.integers(-most, most + 1, count * outputs))
        biases.append(rng.integers(-500, 500, outputs))
    ones = np.rint(65536 / (1 + np.exp(-np.arange(-184, 184) / 16))).clip(2, 65532)
    values = np.arange(256)
    arrays: dict[str, Any] = {
        "bank": np.stack([ones * 0 + 1, 65534 - ones, ones, ones * 0 + 1], 1).astype(np.uint16),
        "window": np.array([up, side, predicts], np.uint8),
        "companding": (16 * np.sqrt(values)).astype(np.uint8),
        "trees": np.stack(
            [balanced(1.0 / (WIDTH[predicts] + abs(values - 128 * predicts)))] * channels
        ),
        "positions": rng.integers(
            -900, 900, (0 if any_size else height * width, HIDDEN), dtype=np.int32
        ),
        "layers": np.array(rows, np.int32),
        "weights": np.concatenate(weights).astype(np.int8),
        "biases": np.concatenate(biases).astype(np.int32),
        **others,
    }
    untested = LosslessTables(**arrays, check=np.zeros(0, np.int64))
    return LosslessTables(**arrays, check=Causal(untested).check())


def write(
    path: Path, shape: Shape, any_size: bool = False, made: LosslessTables | None = None, **fields: Any
) -> Path:  # fmt: skip
    """A model file of such tables, or of others."""
    made = made or tables(shape, any_size)
    values: dict[str, Any] = {
        "id": 0xF0 + shape[2],
        "name": path.stem,
        "image_shape": shape,
        "latent_shape": shape[2:] if any_size else shape,
        "default_quality": LOSSLESS,
        "expected_psnr": (),
        "kind": "lossless-any" if any_size else "lossless",
        "hashes": member_hashes({}, made),
        **fields,
    }
    write_model(path, Manifest(**values), {}, made, True)
    return path


def codec(folder: Path, shape: Shape, any_size: bool = False) -> Codec:
    return cvae.open_model(write(folder / "exactly.cvae", shape, any_size))
