"""Steady steps: clipped, skipped where gradients explode, and averaged weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cvae.training.optimizer import Steady


class Steps:
    """Two weights and what one step after the other makes of them."""

    def __init__(self, momentum: float = 0.5) -> None:
        import keras

        self.weights = [keras.Variable(np.zeros(3, np.float32)), keras.Variable(np.float32(0))]
        self.optimizer = Steady(0.1, momentum)
        self.optimizer.build(self.weights)

    def step(self, size: float) -> Any:
        """The first weights after a step along a gradient of that norm."""
        import keras

        gradient = np.array([size, 0, 0], np.float32)
        self.optimizer.apply([keras.ops.convert_to_tensor(gradient), keras.ops.zeros(())])
        return self.values()

    def values(self) -> Any:
        return np.array(self.weights[0].numpy())

    @property
    def skipped(self) -> float:
        return float(self.optimizer.skipped.numpy())

    @property
    def norm(self) -> float:
        return float(self.optimizer.norm.numpy())


def test_it_is_adam_where_gradients_are_usual() -> None:
    import keras

    steady, adam = Steps(), keras.optimizers.Adam(0.1)
    weight = keras.Variable(np.zeros(3, np.float32))
    for size in (1.0, 1.2, 0.5, 0.0, 1.5):
        steady.step(size)
        adam.apply([keras.ops.convert_to_tensor(np.array([size, 0, 0], np.float32))], [weight])
    np.testing.assert_allclose(steady.values(), weight.numpy(), rtol=1e-6)
    assert steady.skipped == 0


@pytest.mark.parametrize("size", [21.0, 1e30, np.inf, np.nan])
def test_a_step_that_explodes_is_skipped(size: float) -> None:
    steps = Steps()
    before = steps.step(1.0)
    assert before[0] < 0
    assert np.array_equal(steps.step(size), before)
    assert steps.skipped == 1
    assert 1 <= steps.norm < 1.02, "it counts for what is usual"
    assert steps.step(1.0)[0] < before[0], "training goes on"
    assert steps.skipped == 1


def test_a_first_step_that_is_not_finite_says_nothing() -> None:
    steps = Steps()
    assert not steps.step(np.nan).any()
    assert steps.norm == 0
    steps.step(3.0)
    assert steps.norm == pytest.approx(3)


def test_large_gradients_are_clipped_at_twice_the_usual() -> None:
    clipped, at_most = Steps(), Steps()
    for steps in (clipped, at_most):
        steps.step(1.0)
    np.testing.assert_allclose(clipped.step(19.0), at_most.step(2.0))
    assert clipped.norm == pytest.approx(0.99 + 0.01 * 4)


def test_no_run_is_stuck_when_gradients_grow_for_good() -> None:
    steps = Steps()
    before = steps.step(1.0)
    for _ in range(200):
        after = steps.step(30.0)
    assert 0 < steps.skipped < 60
    assert after[0] < before[0]


@pytest.mark.parametrize("wrong", [1000.0, np.nan])
def test_weights_that_are_spoilt_give_way_to_their_averages(wrong: float) -> None:
    steps = Steps(momentum=0.9)
    for _ in range(3):
        before = steps.step(1.0)
    steps.weights[0].assign(np.full(3, wrong, np.float32))
    for _ in range(19):
        assert not np.array_equal(steps.step(np.nan), before)
    after = steps.step(np.nan)
    assert before[0] < after[0] < 0, "where they were some steps before"
    assert steps.step(1.0)[0] < after[0], "training goes on"


def test_averages_follow_the_weights_and_are_swapped_in() -> None:
    steps = Steps(momentum=0.15)
    steps.optimizer.swap()  # before the first step there are none
    assert not steps.values().any()
    path = [steps.step(1.0) for _ in range(4)]
    expected = path[0]
    for count, value in enumerate(path[1:], 1):
        momentum = min(0.15, count / (count + 10))
        expected = momentum * expected + (1 - momentum) * value
    steps.optimizer.swap()
    np.testing.assert_allclose(steps.values(), expected, rtol=1e-5)
    steps.optimizer.swap()
    assert np.array_equal(steps.values(), path[-1])


def test_weights_are_no_variables_of_it() -> None:
    steps = Steps()
    assert not {id(v) for v in steps.optimizer.variables} & {id(w) for w in steps.weights}
