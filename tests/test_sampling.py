"""Images drawn from a model, and pictures between two images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cvae import sampling
from cvae.bitstream.tables import Bank
from cvae.codec import Codec, open_model

from .conftest import blobs


@pytest.fixture(scope="module")
def vae(tiny_model: Path) -> Codec:
    return open_model(tiny_model)


@pytest.fixture(scope="module")
def hq(tiny_hq_model: Path) -> Codec:
    return open_model(tiny_hq_model)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Callable[[Codec, int], NDArray[np.float32]]:
    """The latents that images are drawn from."""

    def latents(codec: Codec, count: int) -> NDArray[np.float32]:
        seen: list[NDArray[np.float32]] = []

        def to_pixels(latents: NDArray[np.float32]) -> NDArray[np.uint8]:
            seen.append(latents)
            return np.zeros((len(latents), *codec.image_shape), np.uint8)

        monkeypatch.setattr(codec, "to_pixels", to_pixels)
        assert len(sampling.sample(codec, count, 0)) == count
        monkeypatch.undo()
        return np.concatenate(seen)

    return latents


def between(codec: Codec, ends: NDArray[np.float32], count: int) -> NDArray[np.uint8]:
    return np.concatenate(list(sampling.interpolate_batches(codec, *ends, count)))


def test_only_a_vae_has_a_prior(vae: Codec, hq: Codec) -> None:
    assert sampling.has_prior(vae)
    assert not sampling.has_prior(hq)
    assert not sampling.has_prior(open_model("linear-mnist"))


@pytest.mark.parametrize("name", ["vae", "hq"])
def test_a_seed_gives_the_same_images_again(name: str, request: pytest.FixtureRequest) -> None:
    codec = request.getfixturevalue(name)
    images = sampling.sample(codec, 5, 3)
    assert images.shape == (5, 8, 8, 1)
    assert images.dtype == np.uint8
    assert np.array_equal(images, sampling.sample(codec, 5, 3))
    assert not np.array_equal(images, sampling.sample(codec, 5, 4))
    assert len(np.unique(images, axis=0)) == 5


@pytest.mark.parametrize("name", ["vae", "hq"])
def test_batches_do_not_change_the_images(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = request.getfixturevalue(name)
    whole = sampling.sample(codec, 20, 0).astype(int)
    latents = codec.latents(blobs(2))
    pictures = between(codec, latents, 20).astype(int)
    # Three images of 8x8 floats.
    monkeypatch.setattr(sampling, "_BATCH_BYTES", 3 * 4 * 64)
    batches = list(sampling.sample_batches(codec, 20, 0))
    assert [len(batch) for batch in batches] == [3] * 6 + [2]
    assert np.abs(whole - np.concatenate(batches)).max() <= 1
    assert np.abs(pictures - between(codec, latents, 20)).max() <= 1
    monkeypatch.setattr(sampling, "_BATCH_BYTES", 1)
    assert len(next(sampling.sample_batches(codec, 20, 0))) == 1


def test_latents_of_a_vae_are_normal(
    vae: Codec, drawn: Callable[[Codec, int], NDArray[np.float32]]
) -> None:
    latents = drawn(vae, 4000)
    assert latents.shape == (4000, 4)
    assert np.abs(latents.mean(axis=0)).max() < 0.08
    assert np.abs(np.cov(latents.T) - np.eye(4)).max() < 0.12


def test_latents_of_other_models_follow_their_tables(
    hq: Codec, drawn: Callable[[Codec, int], NDArray[np.float32]]
) -> None:
    qualities = hq.model.qualities
    quality, bank = hq.quality(None), qualities.bank
    latents = drawn(hq, 4000)
    symbols = qualities.quantizer(quality).quantize(latents)
    assert np.abs(symbols).max() <= bank.radius
    for element, row in enumerate(qualities.rows(quality)):
        counts = np.bincount(symbols[:, element] + bank.radius, minlength=bank.escape)
        # One is what every entry has, to be codable; it was in no image.
        shares = bank.table[row, : bank.escape].astype(int) - 1
        assert not counts[shares == 0].any()
        assert np.abs(counts / 4000 - shares / shares.sum()).max() < 0.05


def test_an_element_that_was_never_within_the_radius_is_drawn_as_zero(
    hq: Codec, drawn: Callable[[Codec, int], NDArray[np.float32]], monkeypatch: pytest.MonkeyPatch
) -> None:
    qualities = hq.model.qualities
    row = np.ones((1, qualities.bank.table.shape[1]), np.uint16)
    row[0, -1] = 65536 - row[0, :-1].sum()
    escapes = replace(qualities, bank=Bank(row), index=np.zeros_like(qualities.index))
    with monkeypatch.context() as patch:
        patch.setitem(hq.model.__dict__, "qualities", escapes)
        assert np.array_equal(drawn(hq, 3), np.tile(qualities.offset, (3, 1)))


@pytest.mark.parametrize("count", [2, 3, 9])
def test_the_ends_are_what_the_networks_make_of_the_images(vae: Codec, count: int) -> None:
    latents = vae.latents(blobs(2))
    pictures = between(vae, latents, count)
    assert pictures.shape == (count, 8, 8, 1)
    ends = vae.to_pixels(latents).astype(int)
    assert np.abs(pictures[[0, -1]] - ends).max() <= 1
    if count > 2:
        middle = vae.to_pixels(latents.mean(axis=0, keepdims=True))[0].astype(int)
        assert np.abs(pictures[count // 2] - middle).max() <= 1


def test_the_latents_of_a_container_are_those_of_its_picture(vae: Codec) -> None:
    from cvae.bitstream import container

    item = container.unpack(vae.encode(blobs(1)[0]))
    picture = vae.to_pixels(vae.payload_latents(item)[None])[0]
    assert np.array_equal(picture, vae.decode_containers([item])[0])
