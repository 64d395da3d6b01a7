"""Parts of pictures of any size for one epoch, read ahead in threads."""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock

import keras
import numpy as np
from numpy.typing import NDArray

from cvae.data import photos, pipeline
from cvae.data.images import Pixels
from cvae.data.photos import Photos

# Crops of a picture, which may have been decoded for them; batches whose crops are shuffled.
_CROPS, _SHUFFLED = 4, 8
# Of validation: pictures, sides of the parts in their middle, levels that take turns in a batch.
_VALIDATED, _SIDES, _LEVELS = 40, (512, 256, 128, 64), 5


class Crops(keras.utils.PyDataset):
    """Random square crops, flipped at random: one epoch of batches (batch_size, side, side, c), uint8.

    All random numbers are a function of (seed, epoch, place in the epoch). Pictures take turns in
    random order. While a lot of batches is used, the next one is read; `close` ends that.
    """

    def __init__(
        self, pictures: Photos, side: int, batch_size: int, steps: int, seed: tuple[int, int],
        flip: bool = False,
    ) -> None:  # fmt: skip
        """The seed is the run's, and the epoch."""
        super().__init__()
        self._pictures, self._side, self._flip = pictures, side, flip
        self._batch_size, self._steps, self._seed = batch_size, steps, seed
        self._visits = -(-_SHUFFLED * batch_size // _CROPS)  # pictures a lot
        lots = -(-steps // _SHUFFLED)
        rng, count = np.random.default_rng(seed), lots * self._visits
        rounds = -(-count // len(pictures))
        self._order = np.concatenate([rng.permutation(len(pictures)) for _ in range(rounds)])[
            :count
        ]
        self._lock, self._lots = Lock(), dict[int, list[Future[Pixels]]]()
        self._threads = ThreadPoolExecutor(min(8, pipeline.processors()))

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, number: int) -> tuple[Pixels]:
        """Raises ImageError when a picture cannot be read any more."""
        lot, place = divmod(number, _SHUFFLED)
        with self._lock:
            for old in self._lots.keys() - {lot, lot + 1}:
                del self._lots[old]
            for wanted in (lot, lot + 1):
                if wanted not in self._lots:
                    visits = range(wanted * self._visits, (wanted + 1) * self._visits)
                    self._lots[wanted] = [
                        self._threads.submit(self._visit, visit)
                        for visit in visits
                        if visit < len(self._order)
                    ]
            visited = self._lots[lot]
        order = np.random.default_rng([*self._seed, 0, lot]).permutation(len(visited) * _CROPS)
        chosen = order[place * self._batch_size : (place + 1) * self._batch_size]
        return (np.stack([visited[crop // _CROPS].result()[crop % _CROPS] for crop in chosen]),)

    def close(self) -> None:
        """Drops what is still to be read."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _visit(self, visit: int) -> Pixels:
        """Crops of one picture: (n, side, side, c)."""
        whole = self._pictures.whole(int(self._order[visit]))
        rng = np.random.default_rng([*self._seed, 1, visit])
        return crops(whole, self._side, _CROPS, self._flip, rng)


def crops(pixels: Pixels, side: int, count: int, flip: bool, rng: np.random.Generator) -> Pixels:
    """Random parts (count, side, side, c) of a picture (h, w, c), which is reflected where it is smaller."""
    pixels = photos.at_least(pixels, side, side)
    tops = rng.integers(0, pixels.shape[0] - side + 1, count)
    lefts = rng.integers(0, pixels.shape[1] - side + 1, count)
    parts = np.stack([
        pixels[top : top + side, left : left + side] for top, left in zip(tops, lefts, strict=True)
    ])  # fmt: skip
    flipped = rng.random(count) < 0.5
    if flip:
        parts[flipped] = parts[flipped, :, ::-1]
    return parts


class Middles(keras.utils.PyDataset):
    """The middle of pictures, in batches of one size each, of which there are few.

    A batch has as many pictures as levels take turns in it, on each device; where pictures of a size
    run out, they are repeated.
    """

    def __init__(self, pictures: Photos, devices: int = 1) -> None:
        super().__init__()
        by_side: dict[int, list[int]] = defaultdict(list)
        for number, size in enumerate(pictures.sizes[:_VALIDATED]):
            fitting = (side for side in _SIDES if side <= size.min())
            by_side[next(fitting, _SIDES[-1])].append(number)
        self._batches: list[Pixels] = []
        for side, numbers in sorted(by_side.items()):
            parts = np.stack([photos.middle(pictures.whole(n), side, side) for n in numbers])
            full = -(-len(parts) // (_LEVELS * devices))
            places = np.arange(full * _LEVELS * devices) % len(parts)
            self._batches += np.split(parts[places], full)
        # Keras takes sides for fixed that the first two batches agree on.
        if len(self._batches) > 1:
            self._batches.insert(1, self._batches.pop())

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, number: int) -> tuple[Pixels]:
        return (self._batches[number],)


def blocks(
    pictures: Photos, side: int, most: int = 300
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean (n,) and covariance (n, n) of square blocks, values in [0, 1], of some of the pictures."""
    numbers = np.linspace(0, len(pictures) - 1, min(most, len(pictures))).astype(int)
    values = side * side * pictures.reading.shape[2]
    count, total, products = 0, np.zeros(values), np.zeros((values, values))

    def read(number: int) -> NDArray[np.float64]:
        whole = pictures.whole(number)
        height, width = (max(side, min(_SIDES[0], s // side * side)) for s in whole.shape[:2])
        x = photos.middle(whole, height, width) / 255.0
        x = x.reshape(height // side, side, width // side, side, -1)
        return x.transpose(0, 2, 1, 3, 4).reshape(-1, values)

    for x in pipeline.ordered_map(read, numbers.tolist(), pipeline.processors()):
        count, total = count + len(x), total + x.sum(axis=0)
        products += x.T @ x
    mean = total / count
    return mean, products / count - np.outer(mean, mean)
