"""Better symbols for a grid than plain rounding finds; the decoder knows nothing of it.

Each latent is rounded towards the fewest bits and the least error together, under the very tables that
code it; then the latents move along the gradient of the picture's squared error, and are rounded again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cvae.bitstream.tables import MAX_SYMBOL, Bank, Symbols
from cvae.kinds.base import Floats
from cvae.kinds.context import FINENESS, SKIPPED, Classes, Entropy, Pass, Values

# Steps along the gradient, by effort from 0 to 9.
_STEPS = (0, 0, 1, 1, 2, 2, 4, 6, 9, 14)
# Share of the way that the quadratic model says, by which latents move: it knows no latent of the others.
_SHARE = 0.25
# An error costs more than it does in the picture: what is decoded later is predicted from the latent.
_PRICE = 2.5


Reals = NDArray[np.float64]


@dataclass(frozen=True)
class Problem:
    """What the search needs to know of a model, a quality, and n images of one size."""

    entropy: Entropy
    quality: int
    # Latents in steps (n, h, w, c) -> hyper latents.
    hyper: Callable[[Floats], Values]
    # Their information content (n,).
    hyper_bits: Callable[[Values], Reals]
    # Hyper latents -> the stages.
    passing: Callable[[Values], Pass]
    # Hyper latents and latents in sixteenths of a step -> symbols.
    joined: Callable[[Values, Values], Symbols]
    # Symbols -> the squared error (n,); moves targets (n, h, w, c), by such a share of the way, to where
    # the error would be least if it were quadratic.
    move: Callable[[Symbols, Floats, float], Reals]
    # Symbols -> the squared error (n,) alone, which takes a third of the time.
    error: Callable[[Symbols], Reals]

    @property
    def weight(self) -> float:
        """Bits that a unit of squared error is worth."""
        return float(self.entropy.tables.weight[self.quality - 1])


def choose(problem: Problem, latents: Floats, effort: int) -> Symbols:
    """Symbols of latents (n, h, w, c): 0 rounds, 1 weighs bits against errors, others follow the gradient.

    The latents are overwritten.
    """
    tables, weight = problem.entropy.tables, problem.weight
    step = tables.step[problem.quality - 1]
    target = np.divide(latents, step, out=latents)
    # What an error of one step in a latent costs, in bits.
    price = (_PRICE * weight * tables.curvature * step * step).astype(np.float32)

    def rounded(target: Floats) -> tuple[Symbols, Reals]:
        return _rounded(problem, target, price if effort else None)

    symbols, bits = rounded(target)
    if not _STEPS[effort]:
        return symbols
    cost = bits + weight * problem.move(symbols, target, _SHARE)
    for step_taken in range(1, _STEPS[effort] + 1):
        candidate, bits = rounded(target)
        if step_taken < _STEPS[effort]:
            # Ever smaller moves, as the model is good nearby alone.
            error = problem.move(candidate, target, _SHARE / (1 + step_taken))
        else:
            error = problem.error(candidate)
        found = bits + weight * error
        better = found < cost
        if better.all():
            symbols = candidate
        else:
            symbols[better] = candidate[better]
        del candidate  # those of a large picture, which is alone, count
        cost = np.minimum(found, cost)
    return symbols


def _rounded(problem: Problem, target: Floats, price: Floats | None) -> tuple[Symbols, Reals]:
    """Symbols of latents in steps (n, h, w, c), and their bits (n,)."""
    entropy, z = problem.entropy, problem.hyper(target)
    passing, bits = problem.passing(z), problem.hyper_bits(z)
    for stage in range(entropy.stages):
        mean, classes = passing.parameters(stage)
        distance = passing.at(stage, target) - mean.astype(np.float32) / np.float32(FINENESS)
        k = np.rint(distance).clip(-MAX_SYMBOL, MAX_SYMBOL).astype(np.int32)
        k[classes == SKIPPED] = 0
        if price is not None:
            group = stage // 2
            start = sum(entropy.groups[:group])
            own = price[start : start + entropy.groups[group]]
            _towards_the_mean(entropy.bank, k, distance, classes, own)
            bits += _bits(entropy.bank, classes, k)
        passing.put(stage, mean + FINENESS * k)
    return problem.joined(z, passing.values()), bits


def _towards_the_mean(
    bank: Bank, k: Values, distance: Floats, classes: Classes, price: Floats
) -> None:
    """Replaces symbols by neighbours towards zero, or zero, where bits and error together are less."""
    where = np.nonzero(k)
    now, far, rows = k[where], distance[where], classes[where]
    worth = np.broadcast_to(price, k.shape)[where]

    def cost(symbols: Values) -> Reals:
        return np.asarray(bank.bits(rows, symbols) + worth * np.square(far - symbols))

    best, least = now, cost(now)
    for other in (now - np.sign(now), np.zeros_like(now)):
        found = cost(other)
        best = np.where(found < least, other, best)
        least = np.minimum(found, least)
    k[where] = best


def _bits(bank: Bank, classes: Classes, k: Values) -> Reals:
    coded = classes != SKIPPED
    bits = np.zeros(k.shape)
    bits[coded] = bank.bits(classes[coded], k[coded])
    return np.asarray(bits.sum(axis=(1, 2)))
