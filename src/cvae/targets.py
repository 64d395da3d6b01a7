"""The quality that a size or a picture asks for: found image by image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cvae.bitstream.container import MAX_QUALITY, MIN_QUALITY
from cvae.codec import DEFAULT_EFFORT, Codec, Encoded
from cvae.data.images import Pixels
from cvae.errors import TargetError


@dataclass(frozen=True)
class Target:
    """What a file must keep to."""

    max_bytes: int | None = None  # of the whole file
    min_psnr: float | None = None  # dB, at the size that the model codes

    def __post_init__(self) -> None:
        """Raises TargetError when a limit is no number."""
        if any(
            limit is not None and math.isnan(limit) for limit in (self.max_bytes, self.min_psnr)
        ):
            raise TargetError("expected numbers as limits, found nan")

    def allows(self, item: Encoded) -> bool:
        """Whether a file keeps to all that is asked."""
        small = self.max_bytes is None or len(item.data) <= self.max_bytes
        return small and (self.min_psnr is None or item.psnr >= self.min_psnr)

    def rank(self, item: Encoded) -> tuple[float, ...]:
        """What grows towards the wished-for file, so that the largest is the best of several.

        With `max_bytes` that is the best picture that is allowed, else the smallest file. Where
        nothing is allowed it is the nearest: the smallest file, or the best picture that is
        small enough.
        """
        size, psnr = len(item.data), item.psnr
        if self.allows(item):
            return (2, psnr, -size) if self.max_bytes is not None else (2, -size, psnr)
        if self.max_bytes is not None and size > self.max_bytes:
            return (0, -size, psnr)
        return (1, psnr, -size)


def encode_batch(
    codec: Codec,
    batch: Pixels,
    target: Target,
    original_sizes: Sequence[tuple[int, int] | None] | None = None,
    inverted: bool = False,
    effort: int = DEFAULT_EFFORT,
) -> list[Encoded | TargetError]:
    """As `Codec.encode_batch`, each image at the quality that its target asks for.

    All hundred qualities are tried: neither bytes nor PSNR of a searched image rise with every one of
    them, so that a bisection would settle anywhere.

    Returns:
        For each image what was coded, or the error that says how near to the target it comes.

    Raises:
        CvaeError: the effort is out of range.
    """
    best: list[Encoded] = []
    for quality in range(MIN_QUALITY, MAX_QUALITY + 1):
        coded = codec.encode_batch(batch, quality, original_sizes, inverted, effort)
        best = [max(pair, key=target.rank) for pair in zip(best or coded, coded, strict=True)]
    return [item if target.allows(item) else _error(item, target) for item in best]


def _error(nearest: Encoded, target: Target) -> TargetError:
    size, psnr = len(nearest.data), nearest.psnr
    if target.max_bytes is not None and size > target.max_bytes:
        return TargetError(
            f"expected a file of at most {target.max_bytes} bytes, found {size} as the least "
            f"of this image and model, at quality {nearest.quality}"
        )
    limit = "" if target.max_bytes is None else f" in at most {target.max_bytes} bytes"
    return TargetError(
        f"expected at least {target.min_psnr:g} dB{limit}, found {psnr:.2f} dB as the best of this "
        f"image and model, at quality {nearest.quality}; a higher --effort may reach more"
    )
