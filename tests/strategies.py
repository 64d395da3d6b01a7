"""Hypothesis strategies for tables and symbols."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from cvae.bitstream.tables import MAX_SYMBOL, TOTAL, Bank, Rows, Symbols


class Case(NamedTuple):
    """Tables, the table of each element, and symbols (images, elements)."""

    bank: Bank
    rows: Rows
    symbols: Symbols


def make_bank(weights: NDArray[np.float64]) -> Bank:
    """Any non-negative weights (tables, alphabet) as valid tables."""
    alphabet = weights.shape[1]
    shares = (weights + 1e-9) / (weights + 1e-9).sum(axis=1, keepdims=True)
    table = 1 + np.floor(shares * (TOTAL - alphabet)).astype(np.int64)
    table[np.arange(len(table)), table.argmax(axis=1)] += TOTAL - table.sum(axis=1)
    return Bank(table.astype(np.uint16))


@st.composite
def coded(draw: st.DrawFn, max_images: int = 5) -> Case:
    """Tables, and symbols of which some are beyond the tables' alphabet."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    tables, radius = draw(st.integers(1, 4)), draw(st.integers(1, 20))
    elements = draw(st.integers(1, 40))
    # A power makes some tables nearly certain and others nearly flat.
    weights = rng.random((tables, 2 * radius + 2)) ** draw(st.sampled_from([0, 1, 30]))
    bank, rows = make_bank(weights), rng.integers(0, tables, elements)
    images = draw(st.integers(0, max_images))
    spread = draw(st.sampled_from([1, radius, 3 * radius, MAX_SYMBOL]))
    symbols = rng.integers(-spread, spread + 1, (images, elements))
    return Case(bank, rows, symbols.astype(np.int32))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=9,
)  # fmt: skip
