"""Grids and animations of images."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from cvae.data import grids


def pictures(count: int, channels: int = 1) -> np.ndarray:
    """Each of one colour of its own."""
    colours = np.arange(count * channels, dtype=np.uint8).reshape(count, 1, 1, channels)
    return np.broadcast_to(10 * colours, (count, 4, 6, channels))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("zoom", [1, 3])
def test_a_grid_holds_every_image_in_its_place(channels: int, zoom: int) -> None:
    items = pictures(5, channels)
    grid = grids.grid([items[:3], items[3:]], zoom)
    assert grid.shape == grids.grid_shape(2, 3, (4, 6, channels), zoom)
    small = grid[::zoom, ::zoom]
    assert np.array_equal(small.repeat(zoom, axis=0).repeat(zoom, axis=1), grid)
    for number, item in enumerate(items):
        top, left = 2 + number // 3 * 6, 2 + number % 3 * 8
        assert np.array_equal(small[top : top + 4, left : left + 6], item)
        small[top : top + 4, left : left + 6] = 128
    assert (small == 128).all()


def test_only_small_images_are_enlarged() -> None:
    sides = (8, 28, 32, 48, 64, 512)
    assert [grids.zoom_for((side, 1, 3)) for side in sides] == [3, 3, 3, 2, 1, 1]


@pytest.mark.parametrize("channels", [1, 3])
def test_an_animation_runs_there_and_back_for_ever(channels: int) -> None:
    frames = pictures(4, channels)
    with Image.open(io.BytesIO(grids.animation(frames, 2))) as file:
        assert file.size == (12, 8)
        assert file.n_frames == 6
        assert file.info["loop"] == 0
        seen = []
        for number in range(file.n_frames):
            file.seek(number)
            seen.append(np.asarray(file.convert("RGB"))[0, 0].tolist())
    colours = [np.broadcast_to(frame[0, 0], 3).tolist() for frame in frames]
    assert seen == [*colours, colours[2], colours[1]]
