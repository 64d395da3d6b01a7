"""The search for better symbols of a grid: what it weighs, and that more of it finds no worse."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import cvae
from cvae.codec import Codec
from cvae.kinds import grid
from cvae.kinds.context import SKIPPED
from cvae.kinds.grid import GridCoding
from cvae.options import MAX_EFFORT, Encoded, EncodeOptions

from ..conftest import photo
from .test_grid import MODEL


@pytest.fixture(scope="module")
def codec() -> Codec:
    return cvae.open_model(MODEL)


@pytest.mark.parametrize("quality", [20, 50, 80])
def test_more_effort_costs_no_more_bits_and_errors(codec: Codec, quality: int) -> None:
    pixels = np.stack([photo(100, 130, seed=seed) for seed in (4, 5)])
    sized, costs = codec.sized(100, 130), []
    weight = float(codec.model.grids.weight[quality - 1])
    for effort in range(MAX_EFFORT + 1):
        symbols = sized.quantize(pixels, quality, effort)
        bits = sized.coding.information_bits(symbols, quality)
        error = np.square((pixels - sized.synthesize(symbols, quality).astype(float)) / 255)
        costs.append(bits + weight * error.sum((1, 2, 3)))
    # Weighing bits against errors one by one is a guess, which may cost a little more.
    assert np.all(costs[1] <= 1.003 * costs[0])
    # The search does not see how pixels are rounded in the end, nor the bits of hyper latents.
    for before, after in itertools.pairwise(costs[1:]):
        assert np.all(after <= 1.0001 * before)
    assert np.all(costs[-1] < 0.99 * costs[0])


def test_a_quality_tried_after_others_gives_the_same_file(codec: Codec) -> None:
    batch = photo(40, 60, seed=4)[np.newaxis]
    (found,) = codec.encode_to_target(batch, EncodeOptions(max_bytes=300))
    assert isinstance(found, Encoded)
    (again,) = codec.encode_batch(batch, EncodeOptions(quality=found.quality))
    assert found.data == again.data


def test_effort_0_rounds_and_effort_1_takes_fewer_bits(codec: Codec) -> None:
    pixels = photo(100, 130, seed=4)[np.newaxis]
    sized = codec.sized(100, 130)
    bits = [sized.coding.information_bits(sized.quantize(pixels, 30, e), 30)[0] for e in (0, 1)]
    assert bits[1] < bits[0]
    coding = sized.coding
    assert isinstance(coding, GridCoding)
    z, values = coding.parts(sized.quantize(pixels, 30, 0))
    target = coding.analyse(pixels).reshape(values.shape) / coding.steps(30)
    passing = coding.passing(z, 30)
    for stage in range(coding.entropy.stages):
        _, classes = passing.parameters(stage)
        off = np.abs(passing.at(stage, values) / 16 - passing.at(stage, target))
        assert off[classes != SKIPPED].max() <= 0.5
        passing.put(stage, passing.at(stage, values))


@pytest.mark.parametrize("turns", [False, True])
def test_candidates_that_cost_more_are_dropped_for_each_image(
    codec: Codec, monkeypatch: pytest.MonkeyPatch, turns: bool
) -> None:
    pixels = np.stack([photo(60, 60, seed=seed) for seed in (4, 5)])
    sized = codec.sized(60, 60)
    first, last = (sized.quantize(pixels, 50, effort) for effort in (1, 7))
    assert np.any(first != last, axis=1).all()
    calls = []

    def worse(whole: Any) -> Any:
        def error(self: GridCoding, *given: Any) -> Any:
            """As if one image became worse with each step."""
            calls.append(1)
            found = whole(self, *given)
            found[int(turns)] = len(calls)
            return 1e6 * found

        return error

    for name in ("_move", "_error"):
        monkeypatch.setattr(GridCoding, name, worse(getattr(GridCoding, name)))
    found = sized.quantize(pixels, 50, 7)
    assert np.array_equal(found[int(turns)], first[int(turns)])
    assert not np.array_equal(found[1 - turns], first[1 - turns])


def test_the_error_alone_is_that_of_a_move(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.stack([photo(300, 330, seed=seed) for seed in (4, 5)])
    coding = codec.sized(300, 330).coding
    assert isinstance(coding, GridCoding)
    symbols = coding.choose(pixels, coding.analyse(pixels), 40, 1)
    target = coding.parts(symbols)[1].astype(np.float32) / 16
    moved = coding._move(pixels, symbols, target, 0.1, 40, None)
    np.testing.assert_allclose(coding._error(pixels, symbols, 40, None), moved, rtol=1e-4)
    monkeypatch.setattr(grid, "TILE", 8)
    np.testing.assert_allclose(coding._error(pixels, symbols, 40, None), moved, rtol=1e-4)
