"""Memory of large arrays, which belongs to the system again when they are freed."""

from __future__ import annotations

import ctypes  # 2 ms, so this module is imported late
import sys
from contextlib import suppress

_M_MMAP_THRESHOLD = -3  # of glibc's malloc.h
_LARGE = 1 << 20  # bytes


def give_back_large_arrays() -> None:
    """Tells glibc to take arrays of a megabyte and more from the system one by one.

    It raises that limit to 32 MB by itself, and then what is freed stays in holes of the heap. Does
    nothing with other C libraries.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").mallopt(_M_MMAP_THRESHOLD, _LARGE)
