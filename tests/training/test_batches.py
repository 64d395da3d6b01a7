"""Batches of an epoch: the same whenever they are asked for, changed within bounds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cvae.data import folders, images
from cvae.data.reading import Reading
from cvae.training.batches import Batches, augmented, crops

from ..conftest import blobs
from ..data.test_families import pictures

KINDS = ("flip", "shift", "brightness", "contrast")
PIXELS = np.random.default_rng(0).integers(0, 256, (50, 6, 8, 3), np.uint8)
FLOATS = images.as_floats(PIXELS)


def rng() -> np.random.Generator:
    return np.random.default_rng(1)


def epoch(seed: tuple[int, int] | None, **options: object) -> list[np.ndarray]:
    batches = Batches(PIXELS, 16, seed, **options)
    return [batches[number][0] for number in range(len(batches))]


def test_an_epoch_is_the_same_in_whatever_order_it_is_asked_for() -> None:
    expected = epoch((3, 5), augment=KINDS, crop=4)
    again = Batches(PIXELS, 16, (3, 5), KINDS, 4)
    for number in (3, 0, 2, 1, 0):
        assert np.array_equal(again[number][0], expected[number])
    for other in ((3, 6), (4, 5)):
        assert not np.array_equal(epoch(other, augment=KINDS, crop=4)[0], expected[0])


def test_every_image_is_there_once_an_epoch() -> None:
    found = epoch((0, 0))
    assert [len(batch) for batch in found] == [16, 16, 16, 2]
    x = np.concatenate(found)
    assert x.dtype == np.float32
    assert not np.array_equal(x, FLOATS)
    assert {image.tobytes() for image in x} == {image.tobytes() for image in FLOATS}


def test_validation_is_unchanged_and_in_order() -> None:
    assert np.array_equal(np.concatenate(epoch(None, augment=KINDS, crop=4)), FLOATS)


def test_crops_lie_inside_and_everywhere() -> None:
    where = np.stack(np.mgrid[:6, :8], axis=-1).astype(np.float32)
    found = crops(np.broadcast_to(where, (2000, 6, 8, 2)), 4, rng())
    assert found.shape == (2000, 4, 4, 2)
    corners = found[:, 0, 0]
    assert np.array_equal(found, corners[:, None, None] + where[:4, :4])
    assert {tuple(corner) for corner in corners} == {(y, x) for y in range(3) for x in range(5)}
    assert crops(FLOATS, 0, rng()) is FLOATS


def test_half_of_the_images_are_flipped() -> None:
    x = augmented(FLOATS.copy(), ("flip",), rng())
    flipped = [np.array_equal(a, b[:, ::-1]) for a, b in zip(x, FLOATS, strict=True)]
    same = [np.array_equal(a, b) for a, b in zip(x, FLOATS, strict=True)]
    assert np.array_equal(np.logical_not(flipped), same)
    assert 10 < sum(flipped) < 40


def test_a_shift_moves_by_a_pixel_and_repeats_the_edge() -> None:
    many = np.broadcast_to(FLOATS[0], (900, 6, 8, 3)).copy()
    padded = np.pad(FLOATS[0], ((1, 1), (1, 1), (0, 0)), mode="edge")
    places = {padded[y : y + 6, x : x + 8].tobytes() for y in range(3) for x in range(3)}
    assert {image.tobytes() for image in augmented(many, ("shift",), rng())} == places


def test_brightness_moves_and_contrast_scales_by_a_tenth_at_most() -> None:
    grey = 0.3 + 0.4 * FLOATS
    moved = augmented(grey.copy(), ("brightness",), rng()) - grey
    one_an_image = moved.reshape(50, -1)
    assert np.ptp(one_an_image, axis=1).max() < 1e-6
    assert 0.08 < np.abs(one_an_image).max() <= 0.1 + 1e-6
    scaled = augmented(grey.copy(), ("contrast",), rng())
    np.testing.assert_allclose(scaled.mean(axis=(1, 2, 3)), grey.mean(axis=(1, 2, 3)), atol=1e-6)
    ratio = scaled.std(axis=(1, 2, 3)) / grey.std(axis=(1, 2, 3))
    assert 0.9 - 1e-5 <= ratio.min() < 0.93
    assert 1.07 < ratio.max() <= 1.1 + 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_changed_stays_an_image(kind: str) -> None:
    x = augmented(FLOATS.copy(), (kind,), rng())
    assert x.dtype == np.float32
    assert x.min() >= 0
    assert x.max() <= 1
    assert (x != FLOATS).any(axis=(1, 2, 3)).mean() > 0.3


def test_images_of_a_large_folder_are_read_when_their_batch_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, picture in enumerate(pictures(20)):
        picture.save(tmp_path / f"{number:02}.png")
    monkeypatch.setattr(folders, "IN_MEMORY", 1000)
    found = folders.read(tmp_path, Reading((8, 8, 3), "crop"))
    lazy = found.images[folders.TRAIN]
    assert not isinstance(lazy, np.ndarray)
    expected = images.as_floats(lazy[:])
    order = np.random.default_rng((0, 0)).permutation(len(lazy))
    for number in order[4:]:
        (tmp_path / found.names[folders.TRAIN][number]).unlink()
    batches = Batches(lazy, 4, (0, 0))
    assert np.array_equal(batches[0][0], expected[order[:4]])
    with pytest.raises(images.ImageError, match="cannot be read"):
        batches[1]


@pytest.mark.parametrize("images", [8, 31, 32, 33, 39, 353])
@pytest.mark.parametrize("devices", [1, 2, 3, 8])
def test_every_batch_is_shared_out_evenly(images: int, devices: int) -> None:
    batches = Batches(blobs(images), 32, devices=devices)
    sizes = [len(batches[number][0]) for number in range(len(batches))]
    assert all(size % devices == 0 for size in sizes)
    assert images - devices < sum(sizes) <= images
