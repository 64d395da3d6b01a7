"""Lossless codecs on the same images: bytes alone, as single files and as one of all images."""

from __future__ import annotations

import lzma
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from cvae.codec import Codec
from cvae.data import images
from cvae.errors import CvaeError, MissingExtraError
from cvae.evaluation import rivals
from cvae.evaluation.measure import Measured
from cvae.evaluation.rivals import LAYOUTS, Layout, Rival
from cvae.packs.encode import block_symbols

LZMA, ZSTD = "lzma", "zstd"
# What packs bytes, and knows nothing of pictures.
BYTES = (LZMA, ZSTD)
NAMES = (*(name for name, rival in rivals.RIVALS.items() if rival.lossless), *BYTES)
_ZSTD_LEVEL = 19
_BLOCK = 4096  # images of a block, as packs have them

Row = dict[str, Any]
Progress = Callable[[str], None]


def check(names: list[str]) -> None:
    """Raises CvaeError at a codec that loses something, or is missing here."""
    for name in names:
        if name not in NAMES:
            text = f"--against: expected some of {','.join(NAMES)} for a lossless model, found {name!r}"
            raise CvaeError(text)
        if name == ZSTD:
            _zstd()
        elif name in rivals.RIVALS:
            rivals.check(rivals.RIVALS[name])


def compare(
    codec: Codec, measured: Measured, names: list[str], progress: Progress
) -> tuple[list[Row], list[str]]:
    """A row a codec and layout, ours first, and what was refused by an encoder."""
    pixels, values = measured.pixels, sum(image.size for image in measured.pixels)
    count, refused = len(pixels), list[str]()
    found: list[tuple[str, str, str, int]] = []
    found.append((codec.name, "single", "", int(measured.file_bytes.sum())))
    progress(f"{codec.name}: blocks")
    found.append((codec.name, "block", "", sum(map(len, _blocks(codec, pixels)))))
    for name in names:
        try:
            found += [(name, *row) for row in _rival(name, pixels, progress)]
        except CvaeError as error:
            refused.append(str(error))
    return [
        {
            "codec": name, "layout": layout, "settings": settings, "file_bytes_mean": size / count,
            "bits_per_dimension": 8 * size / values,
        }
        for name, layout, settings, size in found
    ], refused  # fmt: skip


def _blocks(codec: Codec, pixels: Any) -> Iterator[bytes]:
    """All images as the payloads of a pack's blocks."""
    from cvae.kinds import runs

    quality, each = codec.quality(None), max(image.size for image in pixels)
    step = max(1, min(_BLOCK, block_symbols(codec) // each))
    for start in range(0, len(pixels), step):
        parts = list(images.alike(list(pixels[start : start + step])))
        coloured = [codec.coloured(part) for part in parts]
        sizes = [part.shape[2:0:-1] for part in parts for _ in part]
        symbols = [part.reshape(len(part), -1).astype(np.int32) for part in coloured]
        if codec.any_size:
            yield runs.encode(codec.coding, sizes, symbols, quality)
        else:
            yield codec.coding.encode_block(np.concatenate(symbols), quality)


def _rival(name: str, pixels: Any, progress: Progress) -> Iterator[tuple[str, str, int]]:
    """Layout, settings and bytes."""
    if name in BYTES:
        progress(name)
        raw = b"".join(np.ascontiguousarray(image).tobytes() for image in pixels)
        yield "block", "", _packed(name, raw)
        return
    rival = rivals.RIVALS[name]
    layouts: tuple[Layout, ...] = LAYOUTS if isinstance(pixels, np.ndarray) else ("single",)
    for layout in layouts:
        yield layout, *_best(rival, pixels, layout, progress)


def _best(rival: Rival, pixels: Any, layout: Layout, progress: Progress) -> tuple[str, int]:
    """Settings and bytes of the setting that is best on a sample."""
    progress(f"{rival.name}, {layout}: lossless")
    sample = rivals.sample(pixels)
    settings = rival.settings(layout, rivals.channels(pixels), lossless=True)
    best = rivals.smallest(rival, sample, layout, settings)
    point = rivals.measure(rival, pixels, layout, best)
    if not point.lossless:
        raise CvaeError("its lossless files lose something", where=rival.name)
    return point.settings, point.total_bytes


def _packed(name: str, raw: bytes) -> int:
    if name == LZMA:
        return len(lzma.compress(raw, preset=9 | lzma.PRESET_EXTREME))
    return len(_zstd().ZstdCompressor(level=_ZSTD_LEVEL).compress(raw))


def _zstd() -> Any:
    try:
        import zstandard
    except ImportError as error:
        raise MissingExtraError("zstandard", "eval") from error
    return zstandard
