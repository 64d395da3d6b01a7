"""Encode-time rate-distortion search: cheaper or better symbols for the same decoder.

Plain rounding minimizes the error of the latents; what counts is bits + weight * squared error of the
pixels. A round of the search replaces the synthesis by its tangent around the present symbols (one
synthesis a latent element, batched), finds integer steps that lower the cost of that quadratic
model by coordinate descent, and keeps them where the real synthesis agrees.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cvae.quantizer import Latents, Quantizer
from cvae.tables import Symbols, Tables

Floats = NDArray[np.float32]
Synthesis = Callable[[Latents], Floats]  # latents (n, d) -> pixels in [0, 1] (n, p)

# Effort 0 to 9: for each round, the share of the elements that may move.
ROUNDS: list[list[float]] = [
    [], [0.2], [0.4], [0.6], [0.8], [1.0], [1.0] * 2, [1.0] * 3, [1.0] * 4, [1.0] * 6,
]  # fmt: skip

# What a symbol may change by in one step of the descent, and how often each element is visited.
_MOVES = (-2, -1, 1, 2)
_PASSES = 3
# Images that are searched together: their tangents have to fit into memory.
_TANGENT_BYTES = 1 << 26
# Of the weight at high rate (see `_weight`); at these rates half of it costs no bytes over rounding.
_WEIGHT_SHARE = 0.5


def syntheses(effort: int, elements: int) -> int:
    """How many syntheses an image of so many latent elements takes."""
    return sum(2 + math.ceil(share * elements) for share in ROUNDS[effort])


def search(
    x: Floats,
    latents: Latents,
    quantizer: Quantizer,
    tables: Tables,
    synthesis: Synthesis,
    effort: int,
) -> Symbols:
    """Symbols (n, d) for images x (n, p) in [0, 1] with latents (n, d); effort 0 is plain rounding."""
    symbols = quantizer.quantize(latents)
    chunk = max(1, _TANGENT_BYTES // (4 * x.shape[1] * latents.shape[1]))
    for share in ROUNDS[effort]:
        moving = math.ceil(share * latents.shape[1])
        for start in range(0, len(x), chunk):
            part = slice(start, start + chunk)
            symbols[part] = _round(
                x[part], latents[part], symbols[part], quantizer, tables, synthesis, moving
            )
    return symbols


def _round(
    x: Floats,
    latents: Latents,
    symbols: Symbols,
    quantizer: Quantizer,
    tables: Tables,
    synthesis: Synthesis,
    moving: int,
) -> Symbols:
    present = quantizer.dequantize(symbols)
    x_hat = synthesis(present)
    # Elements that were rounded by most have the most to gain.
    rounding = (latents - present) / quantizer.step
    elements = np.argsort(-np.abs(rounding), axis=1)[:, :moving]
    tangents = _tangents(present, x_hat, rounding, elements, quantizer, synthesis)
    gram = np.matmul(tangents, tangents.transpose(0, 2, 1))
    slope = np.matmul(tangents, (x - x_hat)[..., np.newaxis])[..., 0]
    weight = _weight(gram)
    found = _descend(symbols, elements, gram, slope, weight, tables)

    def cost(candidate: Symbols, pixels: Floats) -> NDArray[np.float64]:
        error = np.sum(np.square(x - pixels), axis=1, dtype=np.float64)
        return np.asarray(tables.bits(candidate).sum(axis=1) + weight * error)

    better = cost(found, synthesis(quantizer.dequantize(found))) < cost(symbols, x_hat)
    return np.where(better[:, np.newaxis], found, symbols)


def _tangents(
    present: Latents,
    x_hat: Floats,
    rounding: Latents,
    elements: NDArray[np.int64],
    quantizer: Quantizer,
    synthesis: Synthesis,
) -> Floats:
    """What one more step of each moving element does to the pixels: (n, moving, p)."""
    images, moving = elements.shape
    rows = np.arange(images)[:, np.newaxis]
    # Towards the unrounded latent, so that the secant is that of the likelier move.
    sign = np.where(rounding[rows, elements] < 0, -1, 1).astype(np.float32)
    shifted = np.repeat(present[:, np.newaxis], moving, axis=1)
    shifted[rows, np.arange(moving), elements] += sign * quantizer.step[elements]
    moved = synthesis(shifted.reshape(images * moving, -1)).reshape(images, moving, -1)
    return (moved - x_hat[:, np.newaxis]) * sign[..., np.newaxis]


def _weight(gram: Floats) -> NDArray[np.float64]:
    """Bits that a unit of squared error is worth: (n,).

    A uniform quantizer whose step moves the pixels by s (in squared error) has D = s / 12 and
    R = -log2(s) / 2 + constant, so -dR/dD = 6 / (ln 2 * s) at high rate.
    """
    moved = np.trace(gram, axis1=1, axis2=2, dtype=np.float64) / gram.shape[1]
    return np.asarray(_WEIGHT_SHARE * 6 / math.log(2) / np.maximum(moved, 1e-12))


def _descend(
    symbols: Symbols,
    elements: NDArray[np.int64],
    gram: Floats,
    slope: Floats,
    weight: NDArray[np.float64],
    tables: Tables,
) -> Symbols:
    """Coordinate descent on bits + weight * (quadratic model of the squared error), all images at once."""
    found = symbols.copy()
    rows = np.arange(len(symbols))
    steps = np.zeros(elements.shape, np.float32)
    for place in list(range(elements.shape[1])) * _PASSES:
        element = elements[:, place]
        gain = slope[:, place] - np.einsum("nm,nm->n", gram[:, place], steps)
        now = found[rows, element]
        bits = tables.element_bits(element, now)
        best, move = np.zeros(len(rows)), np.zeros(len(rows), np.int32)
        for step in _MOVES:
            error = step * step * gram[:, place, place] - 2 * step * gain
            change = weight * error + tables.element_bits(element, now + step) - bits
            move = np.where(change < best, step, move)
            best = np.minimum(change, best)
        found[rows, element] += move
        steps[:, place] += move
    return found
