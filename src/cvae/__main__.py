"""The program: `cvae`, or `python -m cvae`.

What belongs to a process, its signals, warnings and streams, is changed here and in `cli.streams`; whoever
imports the package keeps their own.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

_INTERRUPTED = 130  # the exit code, by convention


def main() -> None:
    """Runs the command line and ends the process, on Ctrl-C in one line, whenever it comes.

    Whatever takes time to import is imported in here.
    """
    code: int | str | None = _INTERRUPTED
    try:
        _begin()
        from cvae.cli import main as command
        from cvae.cli import streams

        code = streams.run(lambda: command(prog_name="cvae"))
    except BaseException as error:
        if not _is_interrupt(error):
            raise
        if sys.stderr is not None:
            sys.stderr.write("cvae: interrupted\n")
    _end()
    sys.exit(code)


def _begin() -> None:
    import signal
    import warnings

    if not sys.warnoptions:
        # What libraries warn of is judged by our own limits and readers.
        warnings.simplefilter("ignore")
    sys.unraisablehook = _again
    # As Ctrl-C, so that nothing half written stays behind.
    _signals(signal.SIG_DFL, signal.default_int_handler)


def _end() -> None:
    """All is tidied up: an interrupt during the interpreter's own end shall not print anything."""
    import gc
    import signal

    # The interpreter would look for cycles among all that libraries made, though all is over.
    gc.disable()
    gc.freeze()
    _signals(signal.default_int_handler, signal.SIG_DFL)


def _signals(before: Any, after: Any) -> None:
    """Changes what signals do that end programs; one that is ignored, as under `nohup`, stays so."""
    import signal

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == before:
            signal.signal(number, after)


def _again(lost: sys.UnraisableHookArgs) -> None:
    """Interrupts once more where the interpreter loses it: in callbacks of imports and of memory."""
    if not issubclass(lost.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(lost)
        return

    import _thread
    import time

    def later() -> None:
        time.sleep(0.005)  # when the callback is over
        _thread.interrupt_main()

    _thread.start_new_thread(later, ())  # one of `threading` would be waited for


def _is_interrupt(error: BaseException | None) -> bool:
    """Whether Ctrl-C is the cause: extension modules make an ImportError of it."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


if __name__ == "__main__":
    main()
