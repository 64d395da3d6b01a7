"""Trees of decisions: every value has one way, and what is no tree is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvae.kinds.trees import MOST_DEPTH, Tree, balanced, ranges_of


class Constant:
    """The same output of all nodes."""

    def __init__(self, count: int, output: float = 0) -> None:
        self.count, self.output = count, output

    def all(self) -> np.ndarray:
        return np.full((self.count, 255), self.output, np.float32)

    def __call__(self, place: np.ndarray, node: np.ndarray) -> np.ndarray:
        return self.all()[place, node]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 10**6), min_size=256, max_size=256))
def test_decisions_lead_to_the_value_that_they_come_from(counts: list[int]) -> None:
    tree = Tree(balanced(np.array(counts) + 1), 368)
    values, outputs = np.arange(256), Constant(256)
    asked: list[np.ndarray] = []

    def told(rows: np.ndarray, place: np.ndarray, bits: np.ndarray | None) -> np.ndarray:
        assert bits is not None
        asked.append(np.stack([place, bits]))
        return bits.astype(int)

    assert np.array_equal(tree.walk(outputs, told, values), values)
    left = iter(asked)

    def again(rows: np.ndarray, place: np.ndarray, bits: np.ndarray | None) -> np.ndarray:
        assert bits is None
        places, known = next(left)
        assert np.array_equal(places, place)
        return known

    assert np.array_equal(tree.walk(outputs, again, None), values)


def test_likely_values_take_few_decisions() -> None:
    counts = np.ones(256)
    counts[[0, 255]] = 1000, 500
    tree, depth = Tree(balanced(counts), 368), np.zeros(256, int)

    def told(rows: np.ndarray, place: np.ndarray, bits: np.ndarray) -> np.ndarray:
        depth[place] += 1
        return bits.astype(int)

    tree.walk(Constant(256), told, np.arange(256))
    assert depth[0] == 1
    assert depth[255] == 2
    assert depth.max() <= 12


def test_a_row_of_the_bank_is_a_sixteenth_of_a_logit_within_its_ends() -> None:
    tree, seen = Tree(balanced(np.ones(256)), 368), []

    def told(rows: np.ndarray, place: np.ndarray, bits: np.ndarray) -> np.ndarray:
        seen.append(rows)
        return bits.astype(int)

    for logit in (-1000.0, -11.5, -1 / 16, 0.0, 2.0, 11.4375, 1000.0):
        tree.walk(Constant(1, logit * 2048), told, np.zeros(1))
    firsts = [int(rows[0]) for rows in seen[::8]]
    assert firsts == [0, 0, 183, 184, 216, 367, 367]


@pytest.mark.parametrize("split", [0, 255])
def test_a_split_outside_of_its_range_is_refused(split: int) -> None:
    splits = balanced(np.ones(256))
    splits[1] = split
    with pytest.raises(ValueError, match="outside of 0 to 128"):
        ranges_of(splits)


def test_a_tree_that_is_too_deep_is_refused() -> None:
    with pytest.raises(ValueError, match=f"at most {MOST_DEPTH} decisions"):
        ranges_of(np.arange(1, 256))
