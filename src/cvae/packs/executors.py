"""What runs the work on shards: processes of this machine, or a Dask cluster elsewhere."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from typing import Any, Protocol

from cvae.errors import ClusterError, MissingExtraError, first_line

DEATHS = 10  # workers that may die of one shard: machines that are taken away, not memory
_PATIENCE = "120s"  # busy machines answer late
_ANSWER = "30s"  # a scheduler that is there does at once
_AHEAD = 3  # shards that are handed out, a thread of a cluster


class Executor(Protocol):
    """Runs functions elsewhere; made by `open_executor`."""

    def slots(self) -> int:
        """How many calls may be under way; it changes as workers come and go."""

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Runs `work`; fails with BrokenProcessPool when the worker dies of it."""

    def sent(self, data: bytes) -> Any:
        """An argument of calls that brings these bytes, if it can to each worker only once."""

    def explained(self, error: Exception) -> Exception:
        """What an unexpected failure of a call means."""


def open_executor(
    workers: int | None = None, scheduler: str | None = None
) -> AbstractContextManager[Executor]:
    """An executor of so many processes here, which end with the block, or of a Dask scheduler.

    To enter it raises ClusterError when the scheduler does not answer, MissingExtraError without Dask.
    """
    return closing(_Processes(workers or 1)) if scheduler is None else _cluster(scheduler)


class _Processes:
    """A pool of one process for every worker, so that one that dies takes no other call with it."""

    def __init__(self, workers: int) -> None:
        self._pools = [_pool() for _ in range(workers)]
        self._calls: list[Future[Any] | None] = [None] * workers

    def slots(self) -> int:
        return len(self._pools)

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        slot = next(i for i, call in enumerate(self._calls) if call is None or call.done())
        with _deaf_children():
            try:
                call = self._pools[slot].submit(work, *arguments)
            except BrokenProcessPool:  # of the call before this one
                self._pools[slot] = _pool()
                call = self._pools[slot].submit(work, *arguments)
        self._calls[slot] = call
        return call

    def sent(self, data: bytes) -> bytes:
        return data

    def explained(self, error: Exception) -> Exception:
        return error

    def close(self) -> None:
        """Kills all processes, whatever they do."""
        for pool in self._pools:
            for process in list((pool._processes or {}).values()):
                process.kill()
        for pool in self._pools:
            pool.shutdown()


def _pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _begin)


def _begin() -> None:
    """Runs first in every process: Ctrl-C is left to the parent, and without it nobody goes on.

    Of what libraries say there, nothing reaches stderr.
    """
    warnings.simplefilter("ignore")
    logging.getLogger().addHandler(logging.NullHandler())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow, args=[multiprocessing.parent_process()], daemon=True).start()


def _follow(parent: Any) -> None:
    parent.join()
    os._exit(1)


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Threads and processes that are started in the block never get Ctrl-C, not even while they start."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Cluster:
    """The workers of a Dask scheduler."""

    def __init__(self, client: Any, address: str) -> None:
        self._client, self._address = client, address
        self._executor = client.get_executor(pure=False)

    def slots(self) -> int:
        try:
            threads: dict[str, int] = self._client.nthreads()
            return _AHEAD * max(1, sum(threads.values()))
        except (OSError, TimeoutError) as error:
            raise self._gone(error) from error

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        future: Future[Any] = self._executor.submit(work, *arguments)
        return future

    def sent(self, data: bytes) -> Any:
        # A task, and no scattered data: what a dead worker held of those would be gone.
        return self._client.submit(bytes, data, pure=False)

    def explained(self, error: Exception) -> Exception:
        from distributed import KilledWorker

        if isinstance(error, KilledWorker):
            return died(error.allowed_failures)
        if isinstance(error, CancelledError | OSError | TimeoutError):
            return self._gone(error)
        if isinstance(error, ImportError):
            return ClusterError(f"a worker lacks a package: {first_line(error)}")
        return error

    def _gone(self, error: Exception) -> ClusterError:
        text = f"the scheduler does not answer any more: {first_line(error)}"
        return ClusterError(text, where=self._address)


def died(workers: int) -> ClusterError:
    """The error of a shard that has killed its workers again and again."""
    return ClusterError(f"{workers} workers died while they worked on it; was it memory?")


def is_address(text: str) -> bool:
    """Whether a text is HOST:PORT, perhaps with a protocol of Dask's; a client of anything else hangs.

    Raises MissingExtraError when Dask is not installed.
    """
    try:
        from distributed.comm.addressing import parse_address, parse_host_port
        from distributed.comm.registry import get_backend
    except ImportError as error:
        raise MissingExtraError("dask.distributed", "cluster") from error
    try:
        protocol, where = parse_address(text)
        get_backend(protocol)
        host, port = parse_host_port(where)
    except ValueError:
        return False
    return protocol != "inproc" and bool(host.strip()) and 0 < port < 1 << 16


@contextmanager
def _cluster(scheduler: str) -> Iterator[_Cluster]:
    try:
        import dask
        import distributed
    except ImportError as error:
        raise MissingExtraError("dask.distributed", "cluster") from error
    settings = {f"distributed.comm.timeouts.{kind}": _PATIENCE for kind in ("connect", "tcp")}
    # Both report workers that come and go, each with a level of its own; what matters is raised.
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with ExitStack() as stack:
        stack.enter_context(dask.config.set(settings))
        try:
            # Without keys, a client of TLS would hang at its end.
            keys = distributed.security.Security().get_connection_args("client")
            if scheduler.startswith("tls://") and not keys.get("ssl_context"):
                raise ValueError("Dask's settings name no keys, see distributed.comm.tls")
            client = distributed.Client(scheduler, timeout=_ANSWER, set_as_default=False)
            stack.enter_context(client)
        # TypeError: of a protocol whose package is missing.
        except (OSError, ValueError, TypeError, TimeoutError, RuntimeError) as error:
            text = f"expected a Dask scheduler: {first_line(error)}"
            raise ClusterError(text, where=scheduler) from error
        yield _Cluster(client, scheduler)
