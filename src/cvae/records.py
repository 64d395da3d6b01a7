"""JSON files: manifests and notes. `msgspec.convert` checks their values against a dataclass."""

from __future__ import annotations

import json
import math
from typing import Any

MAX_DEPTH = 32  # of lists and objects; far below what Python can walk through


class LaterError(ValueError):
    """A file is of a later format than this cvae knows."""

    def __init__(self, text: str, found: int) -> None:
        super().__init__(text)
        self.format = found


def parse(data: bytes | str) -> dict[str, Any]:
    """A JSON object. Raises ValueError for other JSON, and as `value`."""
    values = value(data)
    if not isinstance(values, dict):
        raise ValueError(f"expected an object, found {values!r:.80}")
    return values


def value(data: bytes | str) -> Any:
    """Any JSON. Raises ValueError for deep nesting and numbers that are not finite.

    `msgspec.json` refuses lone surrogates, which names of files may hold.
    """
    try:
        found = json.loads(data)
        _check(found, MAX_DEPTH)
    except RecursionError:
        raise ValueError(f"expected at most {MAX_DEPTH} levels of lists and objects") from None
    return found


def _check(value: Any, depth: int) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"expected finite numbers, found {value}")
    if isinstance(value, dict | list):
        if not depth:
            raise RecursionError
        for item in value.values() if isinstance(value, dict) else value:
            _check(item, depth - 1)


def dump(values: dict[str, Any], indent: int = 1) -> bytes:
    """Values as the bytes of a JSON file."""
    return (json.dumps(values, indent=indent) + "\n").encode()


def check_format(values: dict[str, Any], known: int, oldest: int | None = None) -> None:
    """Raises ValueError when a file is of another format than those from `oldest` to `known`."""
    found = values.get("format")
    text = f"expected format {known}, found {found!r:.80}"
    if type(found) is int and found > known:
        raise LaterError(f"{text}; a later cvae wrote it", found)
    if type(found) is not int or not (oldest or known) <= found <= known:
        raise ValueError(text)
