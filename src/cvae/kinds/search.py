"""Encode-time rate-distortion search: cheaper or better symbols for the same decoder.

Plain rounding minimizes the error of the latents; the cost is bits + weight * squared error of the
pixels. A round replaces the synthesis by its tangent around the present symbols (one synthesis a
latent element, batched). Coordinate descent finds integer steps that lower the cost of that model.
Steps are kept where the real synthesis agrees. Models of too many elements for that bring a graph of
the synthesis' gradient, which the search follows with the mean curvature of each element.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvae.bitstream.tables import MAX_SYMBOL, Bank, Rows, Symbols
from cvae.models.qualities import Latents, Quantizer

Floats = NDArray[np.float32]
Reals = NDArray[np.float64]
Places = NDArray[np.int64]  # (n, moving), the elements of each image that may move
Synthesis = Callable[[Floats], Floats]  # latents (n, *latent_shape) -> images in [0, 1]
# Latents and images -> (n, d + 1): half the negative gradient of the squared error, and that error.
Gradient = Callable[[Floats, Floats], Floats]

# Effort 0 to 9, by tangents: for each round, the share of the elements that may move.
ROUNDS: list[list[float]] = [
    [], [0.2], [0.4], [0.6], [0.8], [1.0], [1.0] * 2, [1.0] * 3, [1.0] * 4, [1.0] * 6,
]  # fmt: skip
# Effort 0 to 9, by gradients: how many changes are tried.
TRIALS = [0, 1, 2, 3, 4, 6, 9, 14, 20, 30]

# What a symbol may change by in one step of the descent, and how often each element is visited. Where
# steps are fine, which symbols of many bits (on average) tell, such short moves do not come far.
_MOVES, _FINE_MOVES = (-2, -1, 1, 2), (-4, -3, -2, -1, 1, 2, 3, 4)
_FINE_BITS = 6
_PASSES = 3
# Images are searched together while what is kept of them, as their tangents, takes so much memory.
_CHUNK_BYTES = 1 << 26
# Of the weight at high rate, which is too much for few bits an element: with half of it a search adds no
# bytes to what rounding takes.
_TANGENT_WEIGHT = 0.5
# How the share of the elements that move together changes after a success and after a failure.
_FASTER, _SLOWER = 1.5, 0.4


@dataclass(frozen=True, eq=False)
class Problem:
    """What a search is given: the entropy model of one quality, and the synthesis in two forms."""

    quantizer: Quantizer
    bank: Bank
    rows: Rows  # (d,), the table of each element
    curvature: NDArray[np.float32]  # (d,), see `Qualities`
    latent_shape: tuple[int, ...]
    synthesis: Synthesis
    gradient: Gradient | None = None

    def bits(self, symbols: Symbols) -> Reals:
        """Information content of symbols (n, d) in bits: (n, d)."""
        return self.bank.bits(self.rows, symbols)

    def pixels(self, latents: Latents) -> Floats:
        """Latents (n, d) -> flattened images (n, p)."""
        return self.synthesis(latents.reshape(-1, *self.latent_shape)).reshape(len(latents), -1)


def orthonormal_gradient(analysis: Callable[[Floats], Floats], synthesis: Synthesis) -> Gradient:
    """The gradient of a linear codec without clipping: its analysis transposes its synthesis."""

    def gradient(latents: Floats, x: Floats) -> Floats:
        x_hat = synthesis(latents)
        pulled = (analysis(x) - analysis(x_hat)).reshape(len(x), -1)
        error = np.square(x - x_hat).sum(axis=(1, 2, 3), keepdims=True).reshape(len(x), 1)
        return np.concatenate([pulled, error], axis=1)

    return gradient


def syntheses(effort: int, elements: int) -> int:
    """How many syntheses an image of so many latent elements takes, by tangents."""
    return sum(2 + math.ceil(share * elements) for share in ROUNDS[effort])


def search(x: Floats, latents: Latents, problem: Problem, effort: int) -> Symbols:
    """Symbols (n, d) for images x (n, h, w, c) in [0, 1] with latents (n, d); effort 0 rounds them."""
    symbols = problem.quantizer.quantize(latents)
    elements, pixels = latents.shape[1], math.prod(x.shape[1:])
    if effort == 0:
        return symbols
    if gradient := problem.gradient:
        for part in _parts(len(x), 4 * pixels + 100 * elements):
            symbols[part] = _follow(gradient, x[part], symbols[part], problem, TRIALS[effort])
        return symbols
    x = x.reshape(len(x), pixels)
    for share in ROUNDS[effort]:
        moving = math.ceil(share * elements)
        for part in _parts(len(x), 4 * pixels * elements):
            symbols[part] = _round(x[part], latents[part], symbols[part], problem, moving)
    return symbols


def _parts(images: int, image_bytes: int) -> Iterator[slice]:
    """Which images are searched together."""
    chunk = max(1, _CHUNK_BYTES // image_bytes)
    return (slice(start, start + chunk) for start in range(0, images, chunk))


def _follow(
    gradient: Gradient, x: Floats, symbols: Symbols, problem: Problem, trials: int
) -> Symbols:
    """Moves all elements at once where that lowers the cost, fewer of them where it does not.

    The quadratic model of the error has the gradient at the present symbols and, for lack of a better
    one, the mean curvature of each element; it is wrong where many elements move together, which
    the next gradient then shows. What is found counts only where the real synthesis agrees.
    """
    plain = symbols
    step = problem.quantizer.step
    curvature = problem.curvature * step * step
    bits = problem.bank.entropies[problem.rows]
    # The mean over the elements, each counted by the bits that it takes.
    weight = _weight(np.average(curvature, weights=bits + 1e-9))

    def measure(candidate: Symbols) -> tuple[Floats, Reals]:
        latents = problem.quantizer.dequantize(candidate)
        result = gradient(latents.reshape(-1, *problem.latent_shape), x)
        return result[:, :-1] * step, problem.bits(candidate).sum(axis=1) + weight * result[:, -1]

    slope, cost = measure(symbols)
    share = np.ones(len(symbols))
    for _ in range(trials):
        gain, move = _single_moves(symbols, slope, curvature, weight, problem)
        order = np.argsort(np.argsort(-gain, axis=1), axis=1)
        moving = np.ceil(share * np.count_nonzero(gain > 0, axis=1))
        moves = np.where(order < moving[:, np.newaxis], move, 0)
        candidate = np.clip(symbols + moves, -MAX_SYMBOL, MAX_SYMBOL)
        new_slope, new_cost = measure(candidate)
        better = new_cost < cost
        symbols = np.where(better[:, np.newaxis], candidate, symbols)
        slope = np.where(better[:, np.newaxis], new_slope, slope)
        cost = np.where(better, new_cost, cost)
        share = np.where(better, np.minimum(1, _FASTER * share), _SLOWER * share)
    flat = x.reshape(len(x), -1)
    better = _cost(flat, symbols, weight, problem) < _cost(flat, plain, weight, problem)
    return np.where(better[:, np.newaxis], symbols, plain)


def _cost(
    x: Floats, symbols: Symbols, weight: Any, problem: Problem, x_hat: Floats | None = None
) -> Reals:
    """Bits + weight * squared error of flattened images (n, p) coded by symbols (n, d): (n,)."""
    if x_hat is None:
        x_hat = problem.pixels(problem.quantizer.dequantize(symbols))
    error = np.sum(np.square(x - x_hat), axis=1, dtype=np.float64)
    return np.asarray(problem.bits(symbols).sum(axis=1) + weight * error)


def _single_moves(
    symbols: Symbols, slope: Floats, curvature: Floats, weight: float, problem: Problem
) -> tuple[Reals, Symbols]:
    """What the best change of each element by itself gains, in bits, and which it is: (n, d) twice."""
    bits = problem.bits(symbols)
    gain, move = np.zeros(symbols.shape), np.zeros_like(symbols)
    for step in (-1, 1):
        error = step * step * curvature - 2 * step * slope
        change = bits - problem.bits(symbols + step) - weight * error
        move[change > gain] = step
        gain = np.maximum(change, gain)
    return gain, move


def _round(x: Floats, latents: Latents, symbols: Symbols, problem: Problem, moving: int) -> Symbols:
    present = problem.quantizer.dequantize(symbols)
    x_hat = problem.pixels(present)
    # Elements that were rounded by most have the most to gain.
    rounding = (latents - present) / problem.quantizer.step
    elements = np.argsort(-np.abs(rounding), axis=1)[:, :moving]
    tangents = _tangents(present, x_hat, rounding, elements, problem)
    gram = np.matmul(tangents, tangents.transpose(0, 2, 1))
    slope = np.matmul(tangents, (x - x_hat)[..., np.newaxis])[..., 0]
    moved = np.trace(gram, axis1=1, axis2=2, dtype=np.float64) / moving
    weight = _TANGENT_WEIGHT * _weight(moved)
    found = _descend(symbols, elements, gram, slope, weight, problem)
    better = _cost(x, found, weight, problem) < _cost(x, symbols, weight, problem, x_hat)
    return np.where(better[:, np.newaxis], found, symbols)


def _tangents(
    present: Latents, x_hat: Floats, rounding: Latents, elements: Places, problem: Problem
) -> Floats:
    """What one more step of each moving element does to the pixels: (n, moving, p)."""
    images, moving = elements.shape
    rows = np.arange(images)[:, np.newaxis]
    # Towards the unrounded latent, so that the secant is that of the likelier move.
    sign = np.where(rounding[rows, elements] < 0, -1, 1).astype(np.float32)
    shifted = np.repeat(present[:, np.newaxis], moving, axis=1)
    shifted[rows, np.arange(moving), elements] += sign * problem.quantizer.step[elements]
    moved = problem.pixels(shifted.reshape(images * moving, -1)).reshape(images, moving, -1)
    return (moved - x_hat[:, np.newaxis]) * sign[..., np.newaxis]


def _weight(moved: Any) -> Any:
    """Bits that a unit of squared error is worth where a step of one changes the pixels by `moved`.

    A uniform quantizer whose step moves the pixels by s (in squared error) has D = s / 12 and
    R = -log2(s) / 2 + constant, so -dR/dD = 6 / (ln 2 * s) at high rate.
    """
    return 6 / math.log(2) / np.maximum(moved, 1e-12)


def _descend(
    symbols: Symbols, elements: Places, gram: Floats, slope: Floats, weight: Reals, problem: Problem
) -> Symbols:
    """Coordinate descent on bits + weight * (quadratic model of the squared error), all images at once."""
    found = symbols.copy()
    rows = np.arange(len(symbols))
    steps = np.zeros(elements.shape, np.float32)
    fine = problem.bank.entropies[problem.rows].mean() > _FINE_BITS
    moves = _FINE_MOVES if fine else _MOVES
    for place in list(range(elements.shape[1])) * _PASSES:
        element = elements[:, place]
        gain = slope[:, place] - np.einsum("nm,nm->n", gram[:, place], steps)
        now, tables = found[rows, element], problem.rows[element]
        bits = problem.bank.bits(tables, now)
        best, move = np.zeros(len(rows)), np.zeros(len(rows), np.int32)
        for step in moves:
            error = step * step * gram[:, place, place] - 2 * step * gain
            change = weight * error + problem.bank.bits(tables, now + step) - bits
            move = np.where(change < best, step, move)
            best = np.minimum(change, best)
        found[rows, element] = np.clip(now + move, -MAX_SYMBOL, MAX_SYMBOL)
        steps[:, place] += found[rows, element] - now
    return found
