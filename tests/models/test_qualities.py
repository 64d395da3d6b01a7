"""Latents and symbols."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cvae.bitstream.tables import MAX_SYMBOL
from cvae.models.qualities import Quantizer


def quantizer(step: float) -> Quantizer:
    return Quantizer(np.full(3, step, np.float32), np.array([0, 1, -2], np.float32))


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 10))
def test_a_latent_comes_back_within_half_a_step(seed: int, step: float) -> None:
    latents = np.random.default_rng(seed).normal(0, 5, (4, 3)).astype(np.float32)
    q = quantizer(step)
    error = np.abs(q.dequantize(q.quantize(latents)) - latents)
    assert error.max() <= step / 2 * 1.001 + 1e-5


@given(st.integers(-MAX_SYMBOL, MAX_SYMBOL))
def test_symbols_survive_dequantizing_and_quantizing(symbol: int) -> None:
    q = Quantizer(np.array([0.25], np.float32), np.array([1], np.float32))
    symbols = np.array([[symbol]], np.int32)
    assert np.array_equal(q.quantize(q.dequantize(symbols)), symbols)


def test_wild_latents_stay_within_the_range_of_the_format() -> None:
    symbols = quantizer(1e-3).quantize(np.array([[1e9, -1e9, 0]], np.float32))
    assert symbols[0, :2].tolist() == [MAX_SYMBOL, -MAX_SYMBOL]
