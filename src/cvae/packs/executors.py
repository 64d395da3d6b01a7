"""A Dask cluster: of processes on this machine, or one that exists elsewhere."""

from __future__ import annotations

import logging
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from cvae.errors import ClusterError, MissingExtraError, first_line

ALLOWED_FAILURES = 10  # workers that may die of one shard: machines that are taken away, not memory
_PATIENCE = "120s"  # busy machines answer late
_ANSWER = "30s"  # a scheduler that is there does at once


def is_address(text: str) -> bool:
    """Whether a text may be the address of a scheduler: HOST:PORT, or that with a protocol of Dask's.

    A client of anything else would hang, and fail again when it is thrown away.

    Raises:
        MissingExtraError: Dask is not installed.
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
def connect(workers: int | None = None, scheduler: str | None = None) -> Iterator[Any]:
    """A client of Dask: of so many workers here, that end with the block, or of a scheduler elsewhere.

    Raises:
        ClusterError: the scheduler does not answer, or workers cannot be started.
        MissingExtraError: Dask is not installed.
    """
    try:
        import dask
        import distributed
    except ImportError as error:
        raise MissingExtraError("dask.distributed", "cluster") from error
    settings = {
        "distributed.comm.timeouts.connect": _PATIENCE,
        "distributed.comm.timeouts.tcp": _PATIENCE,
        "distributed.scheduler.allowed-failures": ALLOWED_FAILURES,
    }
    # Its log tells of every worker that comes and goes; what matters is raised.
    # The second has a level of its own: it says so when a worker dies with a result, which is made again.
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with ExitStack() as stack:
        stack.enter_context(dask.config.set(settings))
        try:
            if scheduler is None:
                # Here, not in the folder that the command was started in.
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="cvae-dask-"))
                with _deaf_children():
                    cluster = _local(distributed, workers or 1, folder)
                stack.enter_context(cluster)
                client = distributed.Client(cluster, set_as_default=False)
            else:
                _check_keys(distributed, scheduler)
                client = distributed.Client(scheduler, timeout=_ANSWER, set_as_default=False)
            stack.enter_context(client)
        # TypeError: of a protocol whose package is missing.
        except (OSError, ValueError, TypeError, TimeoutError, RuntimeError) as error:
            where = scheduler or f"{workers} workers"
            raise ClusterError(
                f"expected a Dask scheduler: {first_line(error)}",
                where=where,
            ) from error
        yield client


def _check_keys(distributed: Any, scheduler: str) -> None:
    """Raises ValueError when Dask's settings name no keys for TLS; a client would then not end well."""
    keys = distributed.security.Security().get_connection_args("client")
    if scheduler.startswith("tls://") and not keys.get("ssl_context"):
        raise ValueError("Dask's settings name no keys and certificates (distributed.comm.tls)")


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Ctrl-C reaches every process of a terminal; those that are started in here leave it to this one."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Its start, with the first process of multiprocessing, would unblock the signal.
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()
    # Threads and processes get the mask of the thread that starts them, also when it is a worker's
    # successor that they start later.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _local(distributed: Any, workers: int, folder: str) -> Any:
    return distributed.LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        # Without this it would take port 8787, or complain that another has it.
        scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
        local_directory=folder,
        # What a shard takes does not grow with it; to be killed for a guess would be worse.
        memory_limit=None,
        silence_logs=logging.CRITICAL,
    )
