"""The program's own stdin, stdout and stderr: closed, full, or with nobody who reads them.

A closed descriptor would be given to the next file that is opened, which then gets what libraries print.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable
from typing import Any, TextIO

from cvae.errors import CvaeError, OutputError

_BROKEN_PIPE = 141  # what a shell reports of programs that SIGPIPE ends


def run(command: Callable[[], Any]) -> int | str | None:
    """Calls a command, whose output may be lost; the exit code."""
    _open()
    code: int | str | None = 0
    for step in (command, sys.stdout.flush):
        try:
            step()
        except SystemExit as stop:
            code = code or stop.code
        except CvaeError as error:  # of a stream, where no command has caught it
            sys.stderr.write(f"cvae: error: {error}\n")
            code = code or 1
    return code


class _Input(io.FileIO):
    """A stdin that was closed."""

    def readinto(self, buffer: Any) -> int:
        raise CvaeError("is closed", where="stdin")

    def readall(self) -> bytes:
        raise CvaeError("is closed", where="stdin")


class _Output(io.FileIO):
    """Stdout: says once that it cannot be written, then discards the rest."""

    _lost = False

    def write(self, data: Any) -> int:
        if not self._lost:
            try:
                return super().write(data)
            except OSError as error:
                self._lost = True
                self.fail(error)
        return memoryview(data).nbytes

    def fail(self, error: OSError) -> None:
        if error.errno == errno.EPIPE:
            raise SystemExit(_BROKEN_PIPE) from error
        text = "is closed" if error.errno == errno.EBADF else f"cannot be written: {error.strerror}"
        raise OutputError(text, where="stdout") from error


class _Talk(_Output):
    """Stderr, which nobody need hear."""

    def fail(self, error: OSError) -> None:
        pass


def _open() -> None:
    """Opens what is closed in a way that neither takes nor gives bytes, and puts our streams in place."""
    for descriptor, mode in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, mode), True)  # the lowest that is free
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.BufferedReader(_Input(0, closefd=False)), "utf-8")
    sys.stdout = _text(_Output(1, "w", closefd=False), sys.stdout)
    # A descriptor of its own: the other is taken away for moments in which libraries print.
    sys.stderr = _text(_Talk(os.dup(2), "w"), sys.stderr)


def _text(raw: _Output, before: TextIO | None) -> TextIO:
    """A text stream over `raw`, set up as the interpreter has set up the one `before`."""
    if not isinstance(before, io.TextIOWrapper):
        return io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", "backslashreplace")
    if os.name == "nt" and before.isatty():
        return before  # its console has a way of its own
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        before.encoding,
        before.errors,
        line_buffering=before.line_buffering,
        write_through=before.write_through,
    )
