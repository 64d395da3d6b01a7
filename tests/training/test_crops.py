"""Pictures of any size: read, cut into random crops, ahead of time and the same again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvae.data import folders, photos
from cvae.data.photos import Photos
from cvae.data.reading import Reading
from cvae.errors import ImageError, TrainingError
from cvae.training import architectures, crops, datasets, presets, runs
from cvae.training.crops import Crops, Middles

from ..conftest import blobs

SIDE = 16


def where(height: int, width: int) -> np.ndarray:
    """Pixels that say in two channels where they lie."""
    y, x = np.mgrid[:height, :width]
    return np.stack([y, x, 0 * y], axis=-1).astype(np.uint8)


def collection(*sizes: tuple[int, int]) -> Photos:
    """Pictures (height, width) in memory, each with its number in the last channel."""
    kept: list[np.ndarray | None] = []
    for number, size in enumerate(sizes):
        pixels = where(*size)
        pixels[..., 2] = number % 256
        kept.append(pixels)
    names = [str(number) for number in range(len(sizes))]
    reading = Reading((SIDE, SIDE, 3), "own")
    return Photos(Path(), reading, names, np.array(sizes), kept)


PICTURES = collection((40, 60), (16, 16), (90, 20), (10, 30), (64, 64))


def epoch(seed: tuple[int, int], steps: int = 20, flip: bool = False) -> list[np.ndarray]:
    made = Crops(PICTURES, SIDE, 6, steps, seed, flip)
    return [made[number][0] for number in range(len(made))]


def test_crops_are_bytes_of_one_shape_and_as_many_as_there_are_steps() -> None:
    found = epoch((0, 0))
    assert len(found) == 20
    assert {(batch.shape, batch.dtype.name) for batch in found} == {((6, SIDE, SIDE, 3), "uint8")}
    counts = np.bincount(np.concatenate(found)[:, 0, 0, 2])
    assert len(counts) == 5
    assert counts.min() > 10, "pictures take turns"


def test_an_epoch_is_the_same_in_whatever_order_it_is_asked_for() -> None:
    expected = epoch((3, 5), flip=True)
    again = Crops(PICTURES, SIDE, 6, 20, (3, 5), flip=True)
    for number in (0, 1, 0, 19, 8, 7, 2):
        assert np.array_equal(again[number][0], expected[number])
    again.close()
    for other in ((3, 6), (4, 5)):
        assert not np.array_equal(epoch(other, flip=True)[0], expected[0])


def test_a_batch_mixes_pictures() -> None:
    many = collection(*[(20, 20)] * 100)
    batch = Crops(many, SIDE, 16, 8, (0, 0))[0][0]
    assert len(set(batch[:, 0, 0, 2].tolist())) > 8


def test_crops_lie_inside_and_everywhere_and_half_are_flipped() -> None:
    rng = np.random.default_rng(0)
    found = crops.crops(where(18, 20), SIDE, 2000, False, rng)
    corners = found[:, 0, 0, :2].astype(int)
    assert {tuple(corner) for corner in corners} == {(y, x) for y in range(3) for x in range(5)}
    assert np.array_equal(found[..., :2], corners[:, None, None] + where(SIDE, SIDE)[..., :2])
    turned = crops.crops(where(18, 20), SIDE, 1000, True, rng)
    flipped = turned[:, 0, 0, 1] > turned[:, 0, 1, 1]
    assert 400 < flipped.sum() < 600
    assert (turned[flipped, :, ::-1][:, 0, 1, 1] > turned[flipped, :, ::-1][:, 0, 0, 1]).all()


def test_small_pictures_are_reflected() -> None:
    pixels = where(3, 40)
    padded = photos.at_least(pixels, 7, 16)
    assert padded.shape == (7, 40, 3)
    assert padded[:, 0, 0].tolist() == [2, 1, 0, 1, 2, 1, 0]
    assert photos.at_least(pixels, 3, 40) is pixels
    assert PICTURES.small == 1


def test_validation_sees_the_middle_of_whole_pictures_of_one_size_in_a_batch() -> None:
    sizes = [(64, 70), (300, 256), (130, 600), (70, 64), (50, 80), *[(600, 520)] * 7]
    middles = Middles(collection(*sizes))
    found = [middles[number][0] for number in range(len(middles))]
    # All levels take turns in each, so there are five of a size or a multiple.
    assert [batch.shape[:3] for batch in found] == [
        # Keras would take sides for fixed on which the first two agree.
        (5, 64, 64), (5, 512, 512), (5, 128, 128), (5, 256, 256), (5, 512, 512),
    ]  # fmt: skip
    assert sorted({*found[0][:, 0, 0, 2].tolist()}) == [0, 3, 4]
    assert np.array_equal(found[3][0][0, 0], [(300 - 256) // 2, 0, 1])
    assert {*np.concatenate([found[1], found[4]])[:, 0, 0, 2].tolist()} == {*range(5, 12)}
    assert len(Middles(collection(*[(64, 64)] * 500))) == 8
    many = Middles(collection(*[(64, 64)] * 30, (128, 128)))
    assert many[0][0].shape != many[1][0].shape
    assert Middles(PICTURES, devices=2)[0][0].shape == (10, 64, 64, 3)


def test_blocks_have_the_mean_and_covariance_of_all_pixels() -> None:
    pictures = collection((4, 8), (8, 4))
    found = np.concatenate([
        pictures.whole(n)[y : y + 4, x : x + 4].reshape(1, -1) / 255
        for n, y, x in ((0, 0, 0), (0, 0, 4), (1, 0, 0), (1, 4, 0))
    ])  # fmt: skip
    mean, covariance = crops.blocks(pictures, 4)
    np.testing.assert_allclose(mean, found.mean(axis=0))
    np.testing.assert_allclose(covariance, np.cov(found.T, bias=True), atol=1e-12)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures of several sizes, one of which is far too small."""
    root = tmp_path / "pictures"
    root.mkdir()
    rng = np.random.default_rng(0)
    for number in range(30):
        size = [(40, 60), (30, 20), (100, 50)][number % 3]
        pixels = rng.integers(0, 256, (3, 4, 3), np.uint8)
        Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(root / f"{number}.png")
    Image.new("RGB", (2, 50)).save(root / "thin.png")
    Image.new("F", (50, 50)).save(root / "floats.tiff")
    return root


def test_pictures_of_a_folder_keep_their_sizes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = Reading((SIDE, SIDE, 3), "own")
    assert Reading.from_json(reading.to_json()) == reading
    found = folders.read(folder, reading)
    assert [line.partition(":")[0] for line in found.skipped] == ["floats.tiff", "thin.png"]
    train = found.images[folders.TRAIN]
    assert isinstance(train, Photos)
    for number, name in enumerate(train.names):
        expected = np.asarray(Image.open(folder / name))
        assert np.array_equal(train.whole(number), expected)
        assert tuple(train.sizes[number]) == expected.shape[:2]
    assert train[:3].shape == (3, SIDE, SIDE, 3)
    assert np.array_equal(train[np.array([2])][0], photos.middle(train.whole(2), SIDE, SIDE))
    assert all(pixels is not None for pixels in train.kept)

    monkeypatch.setattr(folders, "IN_MEMORY", 30_000)
    again = folders.read(folder, reading)
    lazy = again.images[folders.TRAIN]
    assert isinstance(lazy, Photos)
    assert again.sha256 == found.sha256
    every = [p for part in again.images.values() for p in part.kept if p is not None]
    assert 20_000 < sum(pixels.nbytes for pixels in every) <= 30_000
    assert all(np.array_equal(lazy.whole(n), train.whole(n)) for n in range(len(train)))
    # What is decoded when it is asked for gives the same crops.
    a, b = (Crops(pictures, SIDE, 4, 3, (0, 0)) for pictures in (train, lazy))
    assert all(np.array_equal(a[number][0], b[number][0]) for number in range(3))
    for path in folder.glob("*.png"):
        path.unlink()
    with pytest.raises(ImageError, match="cannot be read"):
        Crops(lazy, SIDE, 4, 8, (0, 1))[0]


def test_arrays_of_one_size_are_refused(tmp_path: Path) -> None:
    pixels = np.repeat(blobs(20, 64), 3, axis=-1)
    dataset = datasets.Dataset("x.npz", "x", pixels, pixels)
    run = runs.start(tmp_path / "run", presets.TINY_GRID, dataset, 0, False, False)
    grid = architectures.of(presets.TINY_GRID)
    with pytest.raises(TrainingError, match="expected a folder of pictures as --data"):
        grid.batches(run, dataset.train, 0, 1)
