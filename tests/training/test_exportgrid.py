"""A trained grid as a model file: it computes what the networks compute, and commands know it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cvae
from cvae.codec import Codec
from cvae.kinds.context import Entropy
from cvae.kinds.grid import GridCoding
from cvae.training import checkpoints
from cvae.training.export import gridgraphs
from cvae.training.runs import Run

from ..conftest import photo

QUALITY = 58


@pytest.fixture(scope="module")
def trained(tiny_grid_run: Path) -> Any:
    """The networks as they were exported, with rounded weights."""
    model = checkpoints.load(Run.open(tiny_grid_run))
    gridgraphs.prepare(model)
    return model


@pytest.fixture(scope="module")
def model_file(tiny_grid_run: Path) -> Path:
    return tiny_grid_run / "tiny-grid.cvae"


@pytest.fixture(scope="module")
def codec(model_file: Path) -> Codec:
    return cvae.open_model(model_file)


def entropy_of(codec: Codec) -> Entropy:
    assert isinstance(codec.coding, GridCoding)
    return codec.coding.entropy


def test_networks_in_inference_give_the_symbols_of_the_model_file(
    trained: Any, codec: Codec
) -> None:
    pixels = photo(96, 128, seed=9)[np.newaxis]
    coding = codec.sized(96, 128).coding
    assert isinstance(coding, GridCoding)
    tables = coding.entropy.tables
    y = coding.analyse(pixels).reshape(1, 6, 8, 8) / coding.steps(QUALITY)
    level = np.full_like(y[..., :1], tables.level[QUALITY - 1] / 255)
    decoded, nats = trained.code(y, level, training=False)
    z, values = coding.parts(coding.choose(pixels, coding.analyse(pixels), QUALITY, 0))
    hyper = trained.hyper_analysis(
        np.concatenate([np.arcsinh(y[..., :6] / 2), level], -1)
        if y.shape[1:3] == (8, 8)
        else np.concatenate(
            [
                np.pad(np.arcsinh(y[..., :6] / 2), ((0, 0), (0, 2), (0, 0), (0, 0))),
                np.pad(level, ((0, 0), (0, 2), (0, 0), (0, 0)), "edge"),
            ],
            -1,
        )
    )
    assert np.array_equal(np.rint(hyper), z)
    assert np.array_equal(np.rint(np.asarray(decoded) * 16), values)
    assert float(nats[0]) > 0
