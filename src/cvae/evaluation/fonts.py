"""Keeps matplotlib, whoever imports it, from writing into the home folder."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

_FOLDER = "MPLCONFIGDIR"


@contextmanager
def kept_apart() -> Iterator[None]:
    """For a block that imports matplotlib, which then lists all fonts in a file.

    The file goes into a temporary folder, unless the environment names one. In the home folder it would
    save the time for the next list, and where that is closed there would be warnings.
    """
    if _FOLDER in os.environ or "matplotlib" in sys.modules:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="cvae-") as folder:
        os.environ[_FOLDER] = folder
        try:
            yield
        finally:
            del os.environ[_FOLDER]
