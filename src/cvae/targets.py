"""The quality that a size or a picture asks for: found image by image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cvae.codec import DEFAULT_EFFORT, Codec, Encoded
from cvae.container import MAX_QUALITY, MIN_QUALITY
from cvae.errors import TargetError
from cvae.images import Pixels


@dataclass(frozen=True)
class Target:
    """What a file must keep to. With both, the best quality that fits has to be good enough."""

    max_bytes: int | None = None  # of the whole file
    min_psnr: float | None = None  # dB, at the size that the model codes


def encode_batch(
    codec: Codec,
    batch: Pixels,
    target: Target,
    original_sizes: Sequence[tuple[int, int] | None] | None = None,
    inverted: bool = False,
    effort: int = DEFAULT_EFFORT,
) -> list[Encoded | TargetError]:
    """As `Codec.encode_batch`, each image at the quality that its target asks for.

    The best quality that fits `max_bytes`; without that, the smallest that reaches `min_psnr`. Found
    by bisection, as bytes and PSNR rise with quality but for a symbol here and there: the next
    quality upwards (downwards) was tried and does not do.

    Returns:
        For each image what was coded, or the error that says how near to the target it comes.

    Raises:
        CvaeError: the effort is out of range.
    """
    sizes = original_sizes or [None] * len(batch)
    # Ranks 1 to 100 go from the surest quality to the one that is wished for most; rank 0 is none.
    low = np.zeros(len(batch), int)
    high = np.full(len(batch), MAX_QUALITY + 1)
    best: list[Encoded | None] = [None] * len(batch)
    nearest: list[Encoded | None] = [None] * len(batch)
    while (high - low > 1).any():
        ranks = np.where(high - low > 1, (low + high) // 2, 0)
        for rank in sorted(set(ranks.tolist()) - {0}):
            places = np.flatnonzero(ranks == rank).tolist()
            quality = _quality(rank, target)
            here = [sizes[i] for i in places]
            coded = codec.encode_batch(batch[places], quality, here, inverted, effort)
            for i, item in zip(places, coded, strict=True):
                if _does(item, target):
                    low[i], best[i] = rank, item
                else:
                    high[i], nearest[i] = rank, item
    return [_result(a, b, target) for a, b in zip(best, nearest, strict=True)]


def _quality(rank: int, target: Target) -> int:
    return rank if target.max_bytes is not None else MAX_QUALITY + MIN_QUALITY - rank


def _does(item: Encoded, target: Target) -> bool:
    if target.max_bytes is not None:
        return len(item.data) <= target.max_bytes
    return target.min_psnr is None or item.psnr >= target.min_psnr


def _result(best: Encoded | None, nearest: Encoded | None, target: Target) -> Encoded | TargetError:
    if best is None:
        assert nearest is not None
        if target.max_bytes is not None:
            return TargetError(
                f"expected a file of at most {target.max_bytes} bytes, "
                f"found {len(nearest.data)} at quality {MIN_QUALITY}"
            )
        return TargetError(
            f"expected at least {target.min_psnr:g} dB, "
            f"found {nearest.psnr:.2f} dB at quality {MAX_QUALITY}"
        )
    if target.min_psnr is not None and best.psnr < target.min_psnr:
        return TargetError(
            f"expected at least {target.min_psnr:g} dB, found {best.psnr:.2f} dB "
            f"in the {target.max_bytes} bytes that are allowed"
        )
    return best
