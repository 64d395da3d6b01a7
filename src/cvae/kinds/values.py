"""Payloads of lossless models that hold the values themselves: no picture takes more than these.

A payload is one of decisions where it has fewer bytes than there are values. What is noise to the
network would take more, and the exact coder long.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from cvae.bitstream.tables import Symbols
from cvae.errors import FormatError


def shorter(payload: bytes, parts: Iterable[Symbols]) -> bytes:
    """The payload of decisions, or the values of 0 to 255 that it codes, whichever is shorter."""
    values = b"".join(part.astype(np.uint8).tobytes() for part in parts)
    return payload if len(payload) < len(values) else values


def read(payload: bytes, count: int) -> Symbols | None:
    """The values (count,), where the payload holds them; None where it holds decisions.

    Raises FormatError when it is longer than any of so many values.
    """
    if len(payload) > count:
        raise FormatError(f"damaged: expected at most {count:,} bytes, found {len(payload):,}")
    if len(payload) < count:
        return None
    return np.frombuffer(payload, np.uint8).astype(np.int32)
