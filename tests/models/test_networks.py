"""How networks cut what they are given into batches, and on which threads those run."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cvae.codec import open_model
from cvae.data import pipeline
from cvae.models import networks
from cvae.models.networks import Network

LENGTHS = [0, 1, 7, 8, 9, 63, 200]


@pytest.fixture(autouse=True)
def _four_processors(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(pipeline, "processors", lambda: 4)
    yield
    networks._pool.cache_clear()


@pytest.fixture
def synthesis(tiny_model: Path) -> Network:
    return open_model(tiny_model).coding.synthesis  # type: ignore[attr-defined,no-any-return]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The thread of every batch, and how many items it had."""
    noted: list[tuple[str, int]] = []
    run = Network._run

    def noting(self: Network, batch: list[np.ndarray]) -> np.ndarray:
        noted.append((threading.current_thread().name, len(batch[0])))
        return run(self, batch)

    monkeypatch.setattr(Network, "_run", noting)
    return noted


def latents(network: Network, count: int) -> np.ndarray:
    size = network._session.get_inputs()[0].shape[1]
    return np.random.default_rng(0).normal(size=(count, size)).astype(np.float32)


@pytest.mark.parametrize("count", LENGTHS)
def test_every_bit_is_the_same_however_a_batch_is_cut(synthesis: Network, count: int) -> None:
    y = latents(synthesis, count)
    shared = synthesis(y)
    alone = synthesis(y, threads=1)
    one_by_one = [synthesis(y[i : i + 1])[0] for i in range(count)]
    assert len(shared) == count
    assert np.array_equal(shared, alone)
    assert np.array_equal(shared, np.reshape(one_by_one, shared.shape))


def test_threads_get_equal_shares(synthesis: Network, runs: list[tuple[str, int]]) -> None:
    synthesis(latents(synthesis, 64))
    assert [count for _, count in runs] == [16] * 4
    runs.clear()
    synthesis(latents(synthesis, 200))
    assert [count for _, count in runs] == [25] * 8


def test_few_items_stay_on_the_calling_thread(
    synthesis: Network, runs: list[tuple[str, int]]
) -> None:
    synthesis(latents(synthesis, 8))
    synthesis(latents(synthesis, 40), threads=1)
    assert runs == [(threading.current_thread().name, count) for count in (8, 20, 20)]


def _sum(network: Network, y: np.ndarray) -> float:
    return float(network(y).sum())


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own(synthesis: Network) -> None:
    y = latents(synthesis, 64)
    expected = _sum(synthesis, y)
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sender.send(_sum(synthesis, y)), daemon=True)
    child.start()
    try:
        assert receiver.poll(60)
        assert receiver.recv() == expected
    finally:
        child.kill()
        child.join()
