"""Hypothesis strategies for tables and symbols."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from cvae.bitstream.tables import MAX_SYMBOL, TOTAL, Symbols, Tables


def make_tables(weights: NDArray[np.float64], index: list[int]) -> Tables:
    """Any non-negative weights (tables, alphabet) as valid tables."""
    alphabet = weights.shape[1]
    shares = (weights + 1e-9) / (weights + 1e-9).sum(axis=1, keepdims=True)
    bank = 1 + np.floor(shares * (TOTAL - alphabet)).astype(np.int64)
    bank[np.arange(len(bank)), bank.argmax(axis=1)] += TOTAL - bank.sum(axis=1)
    return Tables(bank.astype(np.uint16), np.array(index, np.uint16))


@st.composite
def coded(draw: st.DrawFn, max_images: int = 5) -> tuple[Tables, Symbols]:
    """Tables, and symbols of which some are beyond the tables' alphabet."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows, radius = draw(st.integers(1, 4)), draw(st.integers(1, 20))
    elements = draw(st.integers(1, 40))
    # A power makes some tables nearly certain and others nearly flat.
    weights = rng.random((rows, 2 * radius + 2)) ** draw(st.sampled_from([0, 1, 30]))
    tables = make_tables(weights, rng.integers(0, rows, elements).tolist())
    images = draw(st.integers(0, max_images))
    spread = draw(st.sampled_from([1, radius, 3 * radius, MAX_SYMBOL]))
    symbols = rng.integers(-spread, spread + 1, (images, elements))
    return tables, symbols.astype(np.int32)
