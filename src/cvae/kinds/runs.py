"""Images of several sizes as one block: runs of one size, each in its stages; see docs/format.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np

from cvae.bitstream import rans
from cvae.bitstream.tables import Symbols
from cvae.kinds import values
from cvae.kinds.base import Coding
from cvae.options import Size


class Run(NamedTuple):
    """Images of one size that follow each other."""

    coding: Coding  # of their size
    images: int

    @property
    def symbols(self) -> int:
        return self.images * self.coding.elements


def runs_of(coding: Coding, sizes: Sequence[Size]) -> list[Run]:
    """The runs of images of these (width, height)."""
    counted = [(size, sum(1 for _ in group)) for size, group in groupby(sizes)]
    return [Run(coding.sized(height, width), count) for (width, height), count in counted]


def encode(
    coding: Coding, sizes: Sequence[Size], parts: Sequence[Symbols], quality: int, lanes: int | None = None
) -> bytes:  # fmt: skip
    """Images as one payload; `lanes` as in `rans.Encoder.finish`.

    `parts` are symbols (k, elements) of images that follow each other and have one size: parts of runs.
    """
    runs = runs_of(coding, sizes)
    stages = _stages(runs)
    coder = rans.Encoder(coding.bank, stages)
    joined: Iterable[Symbols] = _joined(runs, parts)
    joined = joined if stages is not None else [*joined]  # which are needed again
    for run, symbols in zip(runs, joined, strict=True):
        run.coding.push(coder, symbols, quality)
    if stages is not None:
        return coder.finish(lanes)
    # Of lossless pictures the network takes longer than the coder.
    return values.shorter(coder.finish(lanes, thrifty=True), joined)


def decode(runs: Sequence[Run], payload: bytes, quality: int) -> list[Symbols]:
    """The symbols (images, elements) of each run. Raises FormatError when the payload is damaged."""
    stages = _stages(runs)
    ends = np.cumsum([run.symbols for run in runs])
    if stages is None and (found := values.read(payload, int(ends[-1]))) is not None:
        parts = np.split(found, ends[:-1])
        return [part.reshape(run.images, -1) for run, part in zip(runs, parts, strict=True)]
    symbols_in_all = sum(run.images * run.coding.decisions for run in runs)
    coder = rans.Decoder(payload, runs[0].coding.bank, symbols_in_all, stages)
    symbols = [run.coding.pull(coder, run.images, quality) for run in runs]
    coder.finish()
    return symbols


def _stages(runs: Sequence[Run]) -> int | None:
    stages = [run.coding.stages for run in runs]
    return None if None in stages else sum(stage or 0 for stage in stages)


def _joined(runs: Sequence[Run], parts: Sequence[Symbols]) -> Iterator[Symbols]:
    left = iter(parts)
    for run in runs:
        held = [next(left)]
        while sum(map(len, held)) < run.images:
            held.append(next(left))
        yield np.concatenate(held)
