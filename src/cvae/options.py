"""What is asked of an encoder, and what is known of images that were coded."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cvae.checks import expect, shown, truth, whole
from cvae.errors import CvaeError, TargetError

if TYPE_CHECKING:
    from cvae.bitstream.tables import Symbols

MAX_EFFORT = 9
DEFAULT_EFFORT = 5
_MAX_LIMIT = 1 << 63  # of bytes and dB
_NEIGHBOURS = 3  # qualities beside the one that a bisection ends at

_COLOUR = re.compile("#[0-9a-f]{6}")

LABELS = ("auto", "folder", "none")
Size = tuple[int, int]  # width, height in pixels


@dataclass(frozen=True, kw_only=True)
class EncodeOptions:
    """How images are coded."""

    quality: int | None = None  # 1 to 100; None for the model's default
    effort: int = DEFAULT_EFFORT  # 0 (plain rounding) to 9 (longest search)
    max_bytes: int | None = None  # single files: the best picture in so many bytes
    min_psnr: float | None = None  # single files: the smallest file of so many dB
    fit: bool = False  # convert and resize images that the model does not code
    # Instead of how the model's training read pictures: whether to crop them rather than to squeeze
    # them, and the colour behind transparent parts, `#rrggbb`.
    crop: bool | None = None
    background: str | None = None
    invert: bool = False  # invert before coding; decode inverts back
    lossless: bool = False  # every pixel comes back: takes a lossless model
    max_pixels: int | None = (
        None  # fit: pixels of an image, which decoding restores; None for the usual
    )
    split: str | None = None  # which images of an .npz file: test or train
    key: str | None = None  # or the name of the array
    names: bool = True  # packs: keep the names of the images
    pages: bool = False  # packs: all pages of an image file, and not the first alone
    # packs: of images that have some beside them (auto), the folder that a file lies in, or none
    labels: str = "none"
    verify: bool = True  # packs: decode everything again, to know the PSNR
    block_images: int = 4096  # packs: images a block, at most

    def __post_init__(self) -> None:
        """Raises CvaeError when a value is of another type, TargetError when a limit is no number."""
        for limit in (self.max_bytes, self.min_psnr):
            expect(limit, (int, float, type(None)), "numbers as limits", TargetError)
            if limit is not None and not abs(limit) < _MAX_LIMIT:  # nor nan
                raise TargetError(f"expected numbers as limits, found {shown(limit)}")
        for name in ("fit", "crop", "invert", "lossless", "names", "pages", "verify"):
            truth(getattr(self, name), name)
        expect(self.background, (str, type(None)), "a colour as #rrggbb")
        if self.background is not None and not _COLOUR.fullmatch(self.background):
            raise CvaeError(f"expected a colour as #rrggbb, found {shown(self.background)}")
        expect(self.labels, str, "labels auto, folder or none")
        if self.labels not in LABELS:
            raise CvaeError(f"expected labels auto, folder or none, found {shown(self.labels)}")
        for text in (self.split, self.key):
            expect(text, (str, type(None)), "the name of a split or an array")
        whole(self.block_images, "1 to 65,536 images a block", 1, 1 << 16)

    @property
    def has_target(self) -> bool:
        """Whether each image gets a quality of its own."""
        return self.max_bytes is not None or self.min_psnr is not None

    def allows(self, item: Encoded) -> bool:
        """Whether a file is as small, and a picture as good, as asked for."""
        expect(item, Encoded, "an image that was encoded")
        small = self.max_bytes is None or len(item.data) <= self.max_bytes
        return small and (self.min_psnr is None or item.psnr >= self.min_psnr)

    def rank(self, item: Encoded) -> tuple[float, ...]:
        """Larger is better: with `max_bytes` the best picture that is allowed, else the smallest file.

        Where nothing is allowed, the nearest: the smallest file, or the best picture small enough.
        """
        expect(item, Encoded, "an image that was encoded")
        size, psnr = len(item.data), item.psnr
        if self.allows(item):
            return (2, psnr, -size) if self.max_bytes is not None else (2, -size, psnr)
        if self.max_bytes is not None and size > self.max_bytes:
            return (0, -size, psnr)
        return (1, psnr, -size)

    def missed(self, nearest: Encoded) -> TargetError:
        """The error that says how near to the target the nearest file comes."""
        expect(nearest, Encoded, "an image that was encoded")
        size, quality = len(nearest.data), nearest.quality
        if self.max_bytes is not None and size > self.max_bytes:
            found = f"{size} as the least of this image and model, at quality {quality}"
            return TargetError(f"expected a file of at most {self.max_bytes} bytes, found {found}")
        limit = "" if self.max_bytes is None else f" in at most {self.max_bytes} bytes"
        found = f"{nearest.psnr:.2f} dB as the best of this image and model, at quality {quality}"
        text = f"expected at least {self.min_psnr or 0:g} dB{limit}, found {found}"
        return TargetError(text, advice="a higher effort may reach more")


@dataclass(frozen=True, kw_only=True)
class Tally:
    """What is known of images that were coded; tallies add up."""

    images: int = 0
    file_bytes: int = 0
    left_out: int = 0  # images that could not be coded
    labelled: int = 0  # images with labels
    verified: int = 0  # images that were decoded again
    psnr_sum: float = 0.0  # dB, of those
    poor: int = 0  # of those, images below what 99 % of the model's validation images reach
    poor_sampled: int = 0  # of the poor ones, how many were tried inverted
    poor_inverted: int = 0  # of these, how many are fine then

    def __add__(self, other: Tally) -> Tally:
        return Tally(**{name: value + getattr(other, name) for name, value in vars(self).items()})

    @property
    def psnr_mean(self) -> float | None:
        """In dB; None where nothing was decoded again."""
        return self.psnr_sum / self.verified if self.verified else None


@dataclass(frozen=True, repr=False)
class Encoded:
    """One coded image and what is known of it."""

    data: bytes  # the container
    symbols: Symbols  # (elements,)
    quality: int
    payload_bytes: int
    information_bits: float
    psnr: float  # dB, of the pixels that `decode` gives for `data`
    expected_psnr: float  # dB, reached by 99 % of the model's validation images

    def __repr__(self) -> str:
        return f"<Encoded, {len(self.data):,} bytes, quality {self.quality}, {self.psnr:.2f} dB>"

    @property
    def poor(self) -> bool:
        return self.psnr < self.expected_psnr


def bisected(
    work: Callable[[int], Sequence[Encoded]], options: EncodeOptions, qualities: range
) -> Encoded:
    """The best of the files that a bisection over the quality meets, and of some neighbours.

    `work` gives one file of a quality. Bytes and PSNR should rise with nearly every quality.
    """
    tried: dict[int, Encoded] = {}

    def at(quality: int) -> Encoded:
        if quality not in tried:
            (tried[quality],) = work(quality)
        return tried[quality]

    def beyond(item: Encoded) -> bool:
        if options.max_bytes is not None:
            return len(item.data) > options.max_bytes
        return options.min_psnr is None or item.psnr >= options.min_psnr

    low, high = qualities[0], qualities[-1] + 1  # the first quality that is beyond lies in between
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if beyond(at(middle)) else (middle + 1, high)
    for quality in range(low - _NEIGHBOURS, low + _NEIGHBOURS):
        if quality in qualities:
            at(quality)
    return max(tried.values(), key=options.rank)
