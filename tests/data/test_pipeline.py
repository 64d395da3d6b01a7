"""Stages of work that overlap."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator

import pytest

from cvae.data import pipeline


def test_items_stay_in_order() -> None:
    stages = pipeline.ahead(x + 1 for x in pipeline.ahead(range(1000)))
    assert list(pipeline.ordered_map(lambda x: 2 * x, stages, 4)) == list(range(2, 2002, 2))


def test_stages_work_at_the_same_time() -> None:
    started = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        started.set()
        yield 2

    for item in pipeline.ahead(items()):
        # The second item is made while the first is looked at.
        assert started.wait(10), item


def test_no_more_is_made_than_fits_into_the_queue() -> None:
    made = []

    def items() -> Iterator[int]:
        for item in range(100):
            made.append(item)
            yield item

    stage = pipeline.ahead(items(), depth=2)
    next(stage)
    time.sleep(0.3)
    assert len(made) <= 4
    stage.close()


def test_an_error_comes_out_at_the_end_and_threads_go() -> None:
    before = threading.active_count()

    def items() -> Iterator[int]:
        yield 1
        raise KeyError("x")

    got = []
    with pytest.raises(KeyError, match="x"):
        for item in pipeline.ahead(pipeline.ahead(items())):
            got.append(item)
    assert got == [1]
    assert threading.active_count() == before


def test_a_reader_that_stops_early_ends_all_stages() -> None:
    before = threading.active_count()
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            yield from range(10**9)
        finally:
            closed.set()

    stages = pipeline.ahead(x for x in pipeline.ahead(items()))
    assert next(stages) == 0
    stages.close()
    assert closed.wait(10)
    assert threading.active_count() == before


def test_work_that_nobody_waits_for_ends_at_its_next_step() -> None:
    begun, steps = threading.Event(), []

    def long(item: int) -> int:
        for step in range(2000):
            pipeline.checkpoint()
            if item:
                begun.set()
                steps.append(step)
                time.sleep(0.01)
        return item

    before = threading.active_count()
    inner = pipeline.ordered_map(long, pipeline.ahead(range(2)), 2)
    stages = pipeline.ahead(x for x in pipeline.ahead(inner))
    assert next(stages) == 0
    assert begun.wait(10)
    start = time.monotonic()
    stages.close()
    assert time.monotonic() - start < 10
    assert 0 < len(steps) < 2000
    assert threading.active_count() == before


def test_a_time_out_of_the_work_itself_is_its_error() -> None:
    def late(item: int) -> int:
        raise TimeoutError("of storage")

    with pytest.raises(TimeoutError, match="of storage"):
        list(pipeline.ordered_map(late, range(3), 2))


def test_what_is_no_iterable_is_an_error_and_no_wait() -> None:
    with pytest.raises(TypeError, match="not iterable"):
        next(pipeline.ahead(5))  # type: ignore[arg-type]


def test_the_switch_interval_is_restored_when_the_last_block_ends() -> None:
    before = sys.getswitchinterval()
    first, second = pipeline.frequent_switches(), pipeline.frequent_switches()
    with pytest.raises(RuntimeError), first:
        second.__enter__()
        assert sys.getswitchinterval() == pytest.approx(5e-4)
        raise RuntimeError
    assert sys.getswitchinterval() == pytest.approx(5e-4)
    second.__exit__(None, None, None)
    assert sys.getswitchinterval() == before
