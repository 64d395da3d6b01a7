"""A pack as a sequence of images: by number, in slices and batches, in other processes and threads."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import cvae
from cvae.packs import encode as packing
from cvae.packs.cache import Cache
from cvae.packs.decode import _MANY

from ..conftest import ROOT, blobs, photo
from .test_encode import options

pytestmark = pytest.mark.filterwarnings("ignore::cvae.codec.QualityWarning")  # of blobs

IMAGES, BLOCK = 50, 8
GRID = ROOT / "tests" / "golden" / "grid.cvae"


@pytest.fixture
def pack(workdir: Path) -> Iterator[cvae.Pack]:
    """Fifty digits in blocks of eight, with names."""
    codec, names = cvae.open_model("linear-mnist"), [f"{i}.png" for i in range(IMAGES)]
    asked = options(block_images=BLOCK)
    packing.encode_pack(blobs(IMAGES, side=28), "x.bin", codec, asked, names)
    with cvae.open_pack("x.bin") as found:
        yield found


@pytest.fixture
def whole(pack: cvae.Pack) -> NDArray[np.uint8]:
    """All of its images, decoded block by block."""
    return np.concatenate([part.pixels for part in pack.decode([(0, len(pack))])])[..., 0]


def test_the_standard_library_takes_it_for_a_sequence(
    pack: cvae.Pack, whole: NDArray[np.uint8]
) -> None:
    assert isinstance(pack, Sequence)
    drawn = random.Random(3).sample(pack, 5)
    numbers = random.Random(3).sample(range(IMAGES), 5)
    assert np.array_equal(np.stack(drawn), whole[numbers])


def test_an_image_is_an_array_by_its_number(pack: cvae.Pack, whole: NDArray[np.uint8]) -> None:
    for key in (0, 17, -1, -IMAGES, np.int64(9), np.uint8(49), np.array(3)):
        assert pack[key].dtype == np.uint8
        assert np.array_equal(pack[key], whole[key])
    assert pack[0].shape == (28, 28)
    assert len(pack) == IMAGES


def test_several_images_are_one_array(pack: cvae.Pack, whole: NDArray[np.uint8]) -> None:
    slices = slice(3, 9), slice(None), slice(-5, None), slice(40, 2, -7), slice(9, 3), slice(60, 99)
    for key in (*slices, [7, 7, 0, -1], np.array([42, 9]), np.array([], int)):
        assert np.array_equal(pack[key], whole[key])
    assert pack[[]].shape == (0, 28, 28)
    assert pack[3:9].shape == (6, 28, 28)


def test_there_is_an_end(pack: cvae.Pack) -> None:
    for key in (IMAGES, -IMAGES - 1, 2**70, np.int64(IMAGES), [0, IMAGES], np.array([-99])):
        with pytest.raises(
            IndexError, match=r"x\.bin: there is no image .*, expected 0 to 49"
        ) as error:
            pack[key]
        assert isinstance(error.value, cvae.CvaeError)


@pytest.mark.parametrize(
    "key",
    ["0", 1.0, None, slice("a", "b"), [[1]], np.zeros((2, 2), int), (1, 2), True, np.False_, [True, 3],
     np.ones((IMAGES, 1), bool), [3, np.True_]],
)  # fmt: skip
def test_what_is_no_number_is_a_cvae_error(pack: cvae.Pack, key: Any) -> None:
    with pytest.raises(cvae.CvaeError, match=r"x\.bin: expected"):
        pack[key]


def test_a_mask_takes_images_as_numpy_does(pack: cvae.Pack, whole: NDArray[np.uint8]) -> None:
    mask = np.arange(IMAGES) % 7 == 2
    for key in (mask, mask.tolist(), list(mask), ~mask, np.zeros(IMAGES, bool)):
        assert np.array_equal(pack[key], whole[np.array(key)])
    for length in (0, 3, IMAGES - 1, IMAGES + 1):
        for wrong in (np.ones(length, bool), [True, False] * length):
            if len(wrong) == 0 and isinstance(wrong, list):
                continue  # of no numbers
            message = rf"x\.bin: expected a mask of 50 booleans, .*, found {len(wrong)}"
            with pytest.raises(cvae.CvaeError, match=message):
                pack[wrong]


def test_a_boolean_is_no_number(pack: cvae.Pack) -> None:
    for numbers in ([True], [np.True_], [0, False], np.ones(IMAGES, bool)):
        for read in (pack.images, pack.__getitems__):
            with pytest.raises(
                cvae.CvaeError, match=r"x\.bin: expected .*number.*found (bool|True|False)"
            ):
                read(numbers)


def test_a_loop_gives_every_image(pack: cvae.Pack, whole: NDArray[np.uint8]) -> None:
    assert np.array_equal(np.stack(list(pack)), whole)
    assert np.array_equal(np.stack(list(reversed(pack))), whole[::-1])  # type: ignore[call-overload]
    batches = list(pack.batches(12))
    assert [len(batch) for batch in batches] == [12, 12, 12, 12, 2]
    assert np.array_equal(np.concatenate(batches), whole)
    shuffled = random.Random(0).sample(range(IMAGES), IMAGES)
    found = [image for some in pairwise(shuffled) for image in pack.__getitems__(list(some))]
    assert np.array_equal(np.stack(found[::2]), whole[shuffled[:-1]])


def test_names_are_a_list(pack: cvae.Pack) -> None:
    assert pack.names == [f"{i}.png" for i in range(IMAGES)]
    cvae.encode_pack(blobs(2, side=28), "bare.bin", "linear-mnist")
    with cvae.open_pack("bare.bin") as bare:
        assert bare.names is None


def test_names_that_are_lost_are_said(pack: cvae.Pack) -> None:
    place = list(pack.reader.blocks())[1]
    data = bytearray(Path("x.bin").read_bytes())
    data[place.offset + place.size - 6] ^= 1
    Path("x.bin").write_bytes(data)
    with cvae.open_pack("x.bin") as damaged, pytest.raises(cvae.FormatError, match=r"block 1"):
        _ = damaged.names


def test_what_a_caller_changes_is_its_own(pack: cvae.Pack) -> None:
    before = pack[5]
    for image in (pack[5], pack[[5, 6]], pack.__getitems__([5])[0], pack.images([5])):
        image[...] = 7
    assert np.array_equal(pack[5], before)


def test_of_any_size_several_are_a_list(workdir: Path) -> None:
    pictures = [photo(20 + n, 31, seed=n) for n in range(5)]
    cvae.encode_pack(pictures, "x.bin", GRID, effort=0)
    with cvae.open_pack("x.bin", GRID) as pack:
        assert [image.shape for image in pack[1:4]] == [(21, 31, 3), (22, 31, 3), (23, 31, 3)]
        assert np.array_equal(pack[[4, 0]][1], pack[0])
        assert [len(batch) for batch in pack.batches(2)] == [2, 2, 1]
        assert [image.shape[0] for image in pack] == [20, 21, 22, 23, 24]


def test_more_than_is_kept_is_streamed(pack: cvae.Pack, whole: NDArray[np.uint8]) -> None:
    numbers = np.random.default_rng(0).integers(0, IMAGES, _MANY + 1)
    assert np.array_equal(pack[numbers], whole[numbers])
    assert not pack._blocks._kept.size
    assert np.array_equal(pack.images(numbers)[..., 0], whole[numbers])


@pytest.mark.parametrize("start", ["spawn", "fork"])
def test_two_other_processes_read_a_pickled_pack(
    pack: cvae.Pack, whole: NDArray[np.uint8], start: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = pickle.loads(pickle.dumps(pack))
    monkeypatch.chdir("/")  # what is pickled knows the whole path
    assert np.array_equal(again[3], whole[3])
    context = multiprocessing.get_context(start)
    with ProcessPoolExecutor(2, context) as pool:
        # A method of the pack, not a function of this module, which a new process need not find.
        calls = [pool.submit(pack.images, list(range(n, IMAGES, 5))) for n in range(5)]
        for n, call in enumerate(calls):
            assert np.array_equal(call.result(120)[..., 0], whole[n::5])


def _read_all(pack: cvae.Pack, queue: Any) -> None:
    try:
        order = random.Random(os.getpid()).sample(range(len(pack)), len(pack))
        found = {number: int(pack[number].sum()) for number in order}
        queue.put([found[number] for number in range(len(pack))])
    except Exception as error:
        queue.put(repr(error))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_forked_processes_share_no_place_in_the_file(
    pack: cvae.Pack, whole: NDArray[np.uint8]
) -> None:
    assert np.array_equal(pack[0], whole[0])  # the networks are there
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [context.Process(target=_read_all, args=(pack, queue)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for _ in workers:
        assert queue.get(timeout=120) == whole.sum(axis=(1, 2)).tolist()
    for worker in workers:
        worker.join(60)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_a_forked_process_refuses_another_pack_in_its_place(pack: cvae.Pack) -> None:
    cvae.encode_pack(blobs(3, side=28), "y.bin", "linear-mnist")
    Path("y.bin").replace("x.bin")
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    worker = context.Process(target=_read_all, args=(pack, queue))
    worker.start()
    assert "is another pack than before" in queue.get(timeout=60)
    worker.join(60)


def test_a_pack_of_an_open_file_stays_where_it_is(pack: cvae.Pack) -> None:
    with Path("x.bin").open("rb") as file:
        found = cvae.open_pack(file)
        with pytest.raises(cvae.StorageError, match="needs a path or a URL"):
            pickle.dumps(found)


def test_threads_read_one_pack(pack: cvae.Pack, whole: NDArray[np.uint8]) -> None:
    orders = [random.Random(seed).sample(range(IMAGES), IMAGES) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for order, found in zip(
            orders, pool.map(lambda o: [pack[i] for i in o], orders), strict=True
        ):
            assert np.array_equal(np.stack(found), whole[order])


def test_what_is_kept_has_a_bound_in_bytes() -> None:
    cache = Cache(limit=10_000)
    for number in range(100):
        cache.put(number, f"{number}", 744)  # 1,000 with what an entry takes
        cache.get(0)  # used again and again, so it stays
    assert set(cache.some(range(100))) == {0, *range(91, 100)}
    assert cache.size == 10_000
    cache.put(0, "again", 1744)
    assert (cache.get(0), cache.get(91), cache.size) == ("again", None, 10_000)
    cache.put("large", "", 20_000)
    assert cache.get("large") is None
    assert cache.size == 0


def test_a_pack_of_a_quality_that_its_model_has_not_is_refused(pack: cvae.Pack) -> None:
    reader = pack.reader
    reader.header = replace(reader.header, quality=0)
    with pytest.raises(cvae.FormatError, match="has quality 0, which no pack of linear-mnist has"):
        cvae.Pack(reader, pack.codec)


def test_texts_for_all_images_make_a_mask(workdir: Path) -> None:
    x = blobs(3, side=28)
    cvae.encode_pack(x, "x.bin", "linear-mnist", effort=0, labels=["cat", "dog", "cat"])
    with cvae.open_pack("x.bin") as pack:
        assert pack.labels.tolist() == ["cat", "dog", "cat"]
        assert np.array_equal(pack[pack.labels == "cat"], pack[[0, 2]])
        for key in (False, np.bool_(True)):
            with pytest.raises(cvae.CvaeError, match="a mask is an array or a list of booleans"):
                pack[key]
