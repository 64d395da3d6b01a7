"""ONNX Runtime, without all that it does besides computing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

_NO_TELEMETRY = "ORT_DISABLE_TELEMETRY"


@cache
def load() -> Any:
    """The module `onnxruntime`, which writes nothing into the home folder and reports to nobody.

    It asks the environment while it is imported: the one variable that this package sets.
    """
    os.environ[_NO_TELEMETRY] = os.environ.get(_NO_TELEMETRY) or "1"
    with _warnings_held_back():
        import onnxruntime
    onnxruntime.disable_telemetry_events()  # in case that somebody has imported it before
    return onnxruntime


@contextmanager
def _warnings_held_back() -> Iterator[None]:
    """Takes the warnings out of what is written to stderr: no setting reaches them during the import.

    On boards and virtual machines they tell of graphics that it does not know.
    """
    try:
        shown, held = os.dup(2), os.memfd_create("stderr")
    except (AttributeError, OSError):  # not Linux, where it looks for graphics; or stderr is closed
        yield
        return
    os.dup2(held, 2)
    try:
        yield
    finally:
        os.dup2(shown, 2)
        os.close(shown)
        with suppress(OSError), os.fdopen(held, "rb") as file:
            file.seek(0)
            for line in file:
                if b" [W:onnxruntime:" not in line:
                    os.write(2, line)
