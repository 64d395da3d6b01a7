"""Processes of the command line that begin with its libraries loaded, in a third of the time of new ones.

A server that has imported them, and computed nothing, forks for each command. Such a process has streams,
a folder, an environment and an end of its own; how it starts is for tests that start one themselves.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path

# No import of these starts threads that a fork would lack; those of OpenBLAS start anew.
_CODING = (
    "cvae.cli.encode", "cvae.cli.decode", "cvae.cli.eval", "cvae.cli.denoise", "cvae.cli.sample",
    "cvae.cli.info", "cvae.codec", "cvae.denoising", "cvae.sampling", "cvae.kinds",
    "cvae.evaluation.measure", "skimage.metrics",
)  # fmt: skip
_TRAINING = ("tensorflow", "keras", "onnx", "cvae.cli.train", "cvae.training.exporter")


def run(
    module: str,
    arguments: list[str],
    given: bytes,
    cwd: Path,
    env: dict[str, str],
    timeout: float,
    limit: int = -1,
    begun: Callable[[int], object] = int,
    stdout: int | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """As `subprocess.run` of a module with arguments, whose stdin reads `given`.

    limit: bytes that it can write to a file; begun: is called with the number of the process; stdout:
    a descriptor to write to, else what is written is in the result.
    """
    training = arguments[:1] in (["train"], ["export"])
    (stdin, write), (out, pipe), (err, stderr) = (os.pipe() for _ in range(3))
    if stdout is not None:
        os.dup2(stdout, pipe)
    with ThreadPoolExecutor(3) as threads:
        writing = threads.submit(_write, write, given)
        reading = [threads.submit(_read, descriptor) for descriptor in (out, err)]
        request = json.dumps([module, arguments, str(cwd), env, limit]).encode()
        code = _server(training).run(request, [stdin, pipe, stderr], timeout, begun)
        writing.result()
    return subprocess.CompletedProcess(arguments, code, *(read.result() for read in reading))


def _write(descriptor: int, data: bytes) -> None:
    with suppress(BrokenPipeError), os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()


def _read(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


@cache
def _server(training: bool) -> _Server:
    return _Server(_TRAINING if training else _CODING)


class _Server:
    """A process that forks for one command after the other, and ends when this one does."""

    def __init__(self, libraries: tuple[str, ...]) -> None:
        self._lock = threading.Lock()
        self._connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno()), *libraries],
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

    def run(
        self, request: bytes, streams: list[int], timeout: float, begun: Callable[[int], object]
    ) -> int:
        """The exit code of a command, which gets these streams; raises TimeoutExpired."""
        with self._lock:
            socket.send_fds(self._connection, [request], streams)
            for stream in streams:
                os.close(stream)
            process = int(self._connection.recv(100))
            self._connection.settimeout(timeout)
            try:
                begun(process)
                return int(self._connection.recv(100))
            except BaseException as error:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
                self._connection.settimeout(None)
                self._connection.recv(100)
                if isinstance(error, TimeoutError):
                    raise subprocess.TimeoutExpired(request.decode(), timeout) from None
                raise


def _serve(connection: socket.socket) -> None:
    """Answers each request with the number of a process, and when that has ended with its exit code."""
    while True:
        request, streams, _, _ = socket.recv_fds(connection, 1 << 20, 3)
        if not request:
            return
        process = os.fork()
        if not process:
            connection.close()
            _command(streams, *json.loads(request))
        for stream in streams:
            os.close(stream)
        connection.send(str(process).encode())
        _, status = os.waitpid(process, 0)
        connection.send(str(os.waitstatus_to_exitcode(status)).encode())


def _command(
    streams: list[int], module: str, arguments: list[str], cwd: str, env: dict[str, str], limit: int
) -> None:
    """`python -m` of the module, which ends this process."""
    for target, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        os.dup2(streams[target], target)
        os.close(streams[target])
        before = getattr(sys, name)  # of another kind of file
        text = open(target, mode, encoding=before.encoding, errors=before.errors, closefd=False)  # noqa: SIM115
        setattr(sys, name, text)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    tempfile.tempdir = None  # of the other environment
    sys.argv, sys.path[0] = [module, *arguments], cwd
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _load(libraries: list[str]) -> None:
    from cvae.models import runtime

    runtime.load()
    if "keras" in libraries:
        from cvae.training import backend

        with backend._native_stderr_held_back(), backend._no_settings():
            import_module("keras")
    for library in libraries:
        import_module(library)
    sys.path.append(str(Path(__file__).parents[1]))  # where `tests` is
    sys.dont_write_bytecode = True  # a file like those that a command may not be able to write
    gc.collect()
    gc.freeze()  # so that forks share it


if __name__ == "__main__":
    _load(sys.argv[2:])
    _serve(socket.socket(fileno=int(sys.argv[1])))
