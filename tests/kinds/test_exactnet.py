"""Networks in whole numbers: what they compute, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cvae.kinds import exactnet
from cvae.kinds.exactnet import LIMIT, MOST, MOST_WEIGHT, Layer, Places

Drawn = tuple[list[NDArray[np.int64]], Layer]


@st.composite
def layers(draw: st.DrawFn) -> Drawn:
    """Grids at the ends of their range, and a layer whose sums come as near to 2^24 as there are weights."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, height, width = draw(st.tuples(*[st.integers(1, 2)], st.integers(1, 5), st.integers(1, 6)))
    outputs, kernels, grids = draw(st.integers(1, 4)), [], []
    for _ in range(draw(st.integers(1, 3))):
        side, inputs = draw(st.sampled_from([1, 3, 5])), draw(st.integers(1, 24))
        shape = side, side, inputs, outputs
        weights = rng.choice([-1, 1], shape) * rng.integers(100, MOST_WEIGHT + 1, shape)
        kernels.append(weights * (rng.random(shape) < draw(st.sampled_from([0.3, 1.0]))))
        signs = rng.choice([-1, 1], (n, height, width, inputs))
        grids.append(signs * rng.integers(250, MOST + 1, (n, height, width, inputs)))
    room = LIMIT - 1 - MOST * sum(np.abs(kernel).sum(axis=(0, 1, 2)) for kernel in kernels)
    bias = np.where(rng.random(outputs) < 0.5, -1, 1) * np.maximum(room, 0)
    if room.min() < 0:  # too many weights: fewer of them are left
        kernels = [kernel * (np.arange(kernel.shape[2]) < 4)[:, np.newaxis] for kernel in kernels]
        bias = np.zeros(outputs, np.int64)
    whole = tuple(kernel.astype(np.int8) for kernel in kernels)
    shift = draw(st.sampled_from([None, 0, 7, 8]))
    return grids, Layer(whole, bias.astype(np.int32), shift)


def convolved(grids: list[NDArray[np.int64]], layer: Layer) -> NDArray[np.int64]:
    """What a layer gives, in integers of 64 bits."""
    n, height, width = grids[0].shape[:3]
    total = np.zeros((n, height, width, len(layer.bias)), np.int64) + layer.bias
    for grid, kernel in zip(grids, layer.kernels, strict=True):
        reach = kernel.shape[0] // 2
        padded = np.pad(grid, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
        for row in range(height):
            for column in range(width):
                seen = padded[:, row : row + 2 * reach + 1, column : column + 2 * reach + 1]
                total[:, row, column] += np.tensordot(seen, kernel.astype(np.int64), 3)
    return total if layer.shift is None else (total >> layer.shift).clip(0, MOST)


@settings(max_examples=60, deadline=None)
@given(layers())
def test_a_layer_is_a_convolution_of_integers(drawn: Drawn) -> None:
    grids, layer = drawn
    expected = convolved(grids, layer)
    assert np.abs(expected).max() < LIMIT
    found = layer([grid.astype(np.float32) for grid in grids])
    assert found.dtype == np.float32
    assert np.array_equal(found, expected)
    # As activations of latents are kept; at some cells alone.
    few = [grid.astype(np.int16) for grid in grids]
    for odd in (0, 1):
        places = exactnet.checkerboard(*grids[0].shape[1:3], odd)
        there = expected[:, places.rows, places.columns]
        assert np.array_equal(layer(few, places), there)
    chosen = Places(np.array([0, 0]), np.array([0, grids[0].shape[2] - 1]))
    assert np.array_equal(layer(few, chosen), expected[:, chosen.rows, chosen.columns])


def kernel(side: int = 1, inputs: int = 600, weight: int = 100) -> NDArray[np.int8]:
    return np.full((side, side, inputs, 2), weight, np.int8)


@pytest.mark.parametrize(
    ("kernels", "bias", "message"),
    [
        ((kernel(inputs=520, weight=127),), 0, "sums below 2\\^24"),
        ((kernel(inputs=520, weight=-127),), 0, "sums below 2\\^24"),
        ((kernel(inputs=500, weight=127),), LIMIT - 500 * 127 * MOST, "sums below 2\\^24"),
        ((kernel(inputs=500, weight=127),), 500 * 127 * MOST - LIMIT, "sums below 2\\^24"),
        ((kernel(inputs=300, weight=127),) * 2, 0, "sums below 2\\^24"),
        ((kernel(inputs=1, weight=-128),), 0, "weights of at most 127"),
        ((kernel(side=2, inputs=1),), 0, "odd sides"),
        ((kernel(inputs=1).astype(np.int16),), 0, "expected an int8 kernel"),
        ((kernel(inputs=1)[..., :1],), 0, "expected an int8 kernel"),
    ],
)
def test_sums_that_might_not_be_exact_are_refused(
    kernels: tuple[NDArray[np.int8], ...], bias: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Layer(kernels, np.array([0, bias], np.int32), None)


def test_sums_just_below_the_bound_are_taken() -> None:
    most = LIMIT - 1 - 500 * 127 * MOST
    layer = Layer((kernel(inputs=500, weight=127),), np.full(2, most, np.int32), None)
    found = layer([np.full((1, 1, 1, 500), MOST, np.float32)])
    assert found.tolist() == [[[[LIMIT - 1.0] * 2]]]


def test_a_limit_of_threads_nests_and_ends() -> None:
    from threadpoolctl import threadpool_info

    def threads() -> set[int]:
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    before = threads()
    with exactnet.one_thread():
        with exactnet.one_thread():
            assert threads() == {1}
        assert threads() == {1}
    assert threads() == before
