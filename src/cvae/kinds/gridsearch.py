"""Better symbols for a grid than plain rounding finds; the decoder knows nothing of it.

Each latent is rounded towards the fewest bits and the least error together, under the very tables that
code it; then the latents move along the gradient of the picture's squared error, and are rounded again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cvae.bitstream.tables import MAX_SYMBOL, Symbols
from cvae.kinds.base import Floats
from cvae.kinds.context import FINENESS, SKIPPED, Classes, Values
from cvae.models.qualities import Latents

if TYPE_CHECKING:
    from cvae.kinds.grid import GridCoding

# Steps along the gradient, by effort from 0 to 9.
_STEPS = (0, 0, 1, 1, 2, 2, 4, 6, 9, 14)
# Share of what the quadratic model says, by which latents move.
_DAMPING = 0.2
# An error costs more than it does in the picture: what is decoded later is predicted from the latent.
_PRICE = 2.5


def choose(
    coding: GridCoding, x: Any, latents: Latents, quality: int, effort: int, threads: int | None
) -> Symbols:
    """See `Coding.choose`: 0 rounds, 1 weighs bits against errors, higher ones follow the gradient."""
    tables = coding.entropy.tables
    step, weight = coding.steps(quality), float(tables.weight[quality - 1])
    target = coding.grid(latents) / step
    # What an error of one step in a latent costs, in bits.
    price = (_PRICE * weight * tables.curvature * step * step).astype(np.float32)

    def rounded(target: Floats) -> tuple[Symbols, NDArray[np.float64]]:
        z = coding._hyper(target, quality, threads)
        return _rounded(coding, z, target, quality, price if effort else None)

    symbols, bits = rounded(target)
    if not _STEPS[effort]:
        return symbols
    slope, error = coding._slope(x, coding.dequantize(symbols, quality), threads)
    cost = bits + weight * error
    damping = np.full((len(cost), 1, 1, 1), _DAMPING, np.float32)
    for _ in range(_STEPS[effort]):
        present = coding.parts(symbols)[1].astype(np.float32) / np.float32(FINENESS)
        wanted = present + slope / (tables.curvature * step)
        candidate_target = target + damping * (wanted - target)
        candidate, bits = rounded(candidate_target)
        new_slope, error = coding._slope(x, coding.dequantize(candidate, quality), threads)
        new_cost = bits + weight * error
        better = new_cost < cost
        chosen = better[:, np.newaxis, np.newaxis, np.newaxis]
        symbols = np.where(better[:, np.newaxis], candidate, symbols)
        target = np.where(chosen, candidate_target, target)
        slope = np.where(chosen, new_slope, slope)
        cost = np.where(better, new_cost, cost)
        damping = np.where(chosen, damping, damping / 2)
    return symbols


def _rounded(
    coding: GridCoding, z: Values, target: Floats, quality: int, price: Floats | None
) -> tuple[Symbols, NDArray[np.float64]]:
    """Symbols of latents in steps (n, h, w, c), stage by stage, and their bits (n,) without those of z."""
    passing, bits = coding.passing(z, quality), np.zeros(len(z))
    for stage in range(coding.entropy.stages):
        mean, classes = passing.parameters(stage)
        distance = passing.at(stage, target) - mean.astype(np.float32) / np.float32(FINENESS)
        k = np.rint(distance).clip(-MAX_SYMBOL, MAX_SYMBOL).astype(np.int32)
        k[classes == SKIPPED] = 0
        if price is not None:
            group = stage // 2
            start = sum(coding.entropy.groups[:group])
            own = price[start : start + coding.entropy.groups[group]]
            _towards_the_mean(coding, k, distance, classes, own)
            bits += _bits(coding, classes, k)
        passing.put(stage, mean + FINENESS * k)
    return coding.joined(z, passing.values()), bits


def _towards_the_mean(
    coding: GridCoding, k: Values, distance: Floats, classes: Classes, price: Floats
) -> None:
    """Replaces symbols by neighbours towards zero, or zero, where bits and error together are less."""
    where = np.nonzero(k)
    now, far, rows = k[where], distance[where], classes[where]
    worth = np.broadcast_to(price, k.shape)[where]
    bank = coding.bank

    def cost(symbols: Values) -> NDArray[np.float64]:
        return np.asarray(bank.bits(rows, symbols) + worth * np.square(far - symbols))

    best, least = now, cost(now)
    for other in (now - np.sign(now), np.zeros_like(now)):
        found = cost(other)
        best = np.where(found < least, other, best)
        least = np.minimum(found, least)
    k[where] = best


def _bits(coding: GridCoding, classes: Classes, k: Values) -> NDArray[np.float64]:
    coded = classes != SKIPPED
    bits = np.zeros(k.shape)
    bits[coded] = coding.bank.bits(classes[coded], k[coded])
    return np.asarray(bits.sum(axis=(1, 2)))
