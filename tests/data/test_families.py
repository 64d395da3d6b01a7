"""Near-identical pictures are linked, others are not."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cvae.data import families


def pictures(count: int, side: int = 64, seed: int = 0) -> list[Image.Image]:
    """Smooth pictures in colour, no two alike."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 5, 5, 3), np.uint8)
    return [Image.fromarray(c).resize((side, side), Image.Resampling.BICUBIC) for c in coarse]


def linked(*images: Image.Image) -> np.ndarray:
    return families.families(np.stack([families.thumbnail(image) for image in images]))


def jpeg(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=40)
    return Image.open(buffer).convert("RGB")


def smaller(image: Image.Image) -> Image.Image:
    return image.resize((48, 40), Image.Resampling.LANCZOS)


def edited(image: Image.Image) -> Image.Image:
    image = image.copy()
    image.paste("magenta", (40, 10, 52, 22))
    return image


@pytest.mark.parametrize("change", [jpeg, smaller, edited])
def test_pictures_saved_again_resized_or_retouched_are_one_family(change: object) -> None:
    originals = pictures(40)
    labels = linked(*originals, *(change(image) for image in originals))  # type: ignore[operator]
    assert labels.tolist() == [*range(40), *range(40)]


def test_small_drawings_on_a_background_are_told_apart() -> None:
    drawings = []
    for place in range(12):
        drawing = Image.new("RGB", (32, 32))
        drawing.paste("white", (2 * place, 4, 2 * place + 6, 10))
        drawings.append(drawing)
    assert len(set(linked(*drawings).tolist())) == 12
    assert len(set(linked(*drawings, *drawings).tolist())) == 12


def test_flat_pictures_are_linked_by_their_colour() -> None:
    flat = [Image.new("RGB", (16, 16), (grey, grey, grey)) for grey in (0, 2, 128, 129, 255)]
    assert linked(*flat).tolist() == [0, 0, 2, 2, 4]


def test_frames_are_linked_through_frames_between() -> None:
    a, b = pictures(2)
    frames = [Image.blend(a, b, i / 20) for i in range(21)]
    labels = linked(*frames, *pictures(5, seed=1))
    assert (labels[:21] == 0).all()
    assert len(set(labels[21:].tolist())) == 5
    assert len(set(linked(a, b).tolist())) == 2


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_order_and_other_pictures_change_nothing(seed: int) -> None:
    originals = pictures(12, seed=seed)
    images = [*originals, *(jpeg(image) for image in originals[:4])]
    labels = linked(*images)
    more = pictures(8, seed=seed + 1)
    order = np.random.default_rng(seed).permutation(len(images) + len(more))
    again = linked(*([*images, *more][i] for i in order))
    place = np.argsort(order)[: len(images)]
    same = labels[:, np.newaxis] == labels
    assert np.array_equal(same, again[place][:, np.newaxis] == again[place])


def test_many_alike_take_no_quadratic_time() -> None:
    # All pairs of these would be 200 million.
    noise = np.random.default_rng(0).integers(0, 9, (20_000, 16, 16, 3), np.uint8)
    noise[:, 4:12, 4:12] += 100
    assert not families.families(noise).any()
