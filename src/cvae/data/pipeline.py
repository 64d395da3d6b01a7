"""Stages of work that overlap: each in a thread of its own, in order, with bounded queues between.

Threads are enough: numpy, Pillow, zlib and ONNX Runtime release the interpreter's lock.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD = 2  # items that wait between two stages
_PATIENCE = 2.0  # seconds that an abandoned stage may take to end
_POLL = 0.1  # seconds after which a blocked stage looks whether it is still needed
_SWITCH = 5e-4  # seconds; a batch takes less than the 5 ms after which Python switches threads


_local = threading.local()


class Abandoned(BaseException):
    """Nobody waits any more for what a thread works on; no error, so nobody catches it as one."""


class _Need:
    """Whether somebody waits for what some threads work on, and for what that is part of."""

    def __init__(self) -> None:
        self._whole: _Need | None = getattr(_local, "need", None)
        self._over = False

    def end(self) -> None:
        self._over = True

    @property
    def is_over(self) -> bool:
        return self._over or (self._whole is not None and self._whole.is_over)


def checkpoint() -> None:
    """Raises Abandoned in a thread that nobody waits for any more; long work calls it between its steps.

    After an interrupt, a process ends no sooner than its threads.
    """
    need: _Need | None = getattr(_local, "need", None)
    if need is not None and need.is_over:
        raise Abandoned


class _End(NamedTuple):
    """The last thing in a queue: all items went through, or an error ended the work."""

    error: BaseException | None = None


def processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Switching:
    """How many blocks want frequent switches, and the interval before the first of them."""

    lock = threading.Lock()
    blocks, before = 0, 0.0


@contextmanager
def frequent_switches() -> Iterator[None]:
    """Lets waiting threads take the interpreter's lock after 0.5 ms; thread-safe.

    The interval that was set before is restored at the end of the last such block.
    """
    with _Switching.lock:
        if not _Switching.blocks:
            _Switching.before = sys.getswitchinterval()
            sys.setswitchinterval(_SWITCH)
        _Switching.blocks += 1
    try:
        yield
    finally:
        with _Switching.lock:
            _Switching.blocks -= 1
            if not _Switching.blocks:
                sys.setswitchinterval(_Switching.before)


def ahead(items: Iterable[Item], depth: int = _AHEAD) -> Iterator[Item]:
    """The same items, prefetched in a thread of their own, up to `depth` of them.

    An error in that thread is raised here. When the iterator is closed, the thread goes on to the next
    `checkpoint` of its item, and closes `items`.
    """
    waiting: queue.Queue[Any] = queue.Queue(depth)
    need = _Need()

    def put(item: Any) -> bool:
        while not need.is_over:
            with suppress(queue.Full):
                waiting.put(item, timeout=_POLL)
                return True
        return False

    def work() -> None:
        iterator: Any = None
        _local.need = need
        try:
            iterator = iter(items)
            for item in iterator:
                if not put(item):
                    break
            end = _End()
        except BaseException as error:  # of any kind: it is raised in the other thread
            end = _End(error)
        finally:
            if hasattr(iterator, "close"):
                iterator.close()
        put(end)

    def take() -> Any:
        while True:
            # In turns: a signal that another thread takes does not wake this one.
            checkpoint()
            with suppress(queue.Empty):
                return waiting.get(timeout=_POLL)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while not isinstance(item := take(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        need.end()
        # With a timeout: it may wait for input that never comes.
        thread.join(_PATIENCE)


def ordered_map(
    work: Callable[[Item], Result], items: Iterable[Item], threads: int
) -> Iterator[Result]:
    """`work` of each item in order, on several threads; prefetches two items a thread."""
    if threads == 1:
        yield from map(work, items)
        return
    from concurrent.futures import Future, ThreadPoolExecutor  # here because the import loads a lot

    need = _Need()

    def needed(item: Item) -> Result:
        _local.need = need
        return work(item)

    def result(future: Future[Result]) -> Result:
        while True:
            checkpoint()
            try:
                return future.result(_POLL)
            except TimeoutError:
                if future.done():  # which may be what it raised itself
                    return future.result()

    futures: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                futures.append(pool.submit(needed, item))
                if len(futures) > 2 * threads:
                    yield result(futures.popleft())
            while futures:
                yield result(futures.popleft())
        finally:
            need.end()
            for future in futures:
                future.cancel()
