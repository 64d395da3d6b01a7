"""Latents of a plain autoencoder as components, measured where their effect is known: behind a linear map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cvae.errors import TrainingError
from cvae.training.export.rotation import Rotation, fit, leading_directions, leading_eigenvectors

SIZE, PIXELS = 6, 64
RNG = np.random.default_rng(0)
# Latents that go together, of which some change the picture a hundred times as much as others.
BASIS = (RNG.normal(size=(SIZE, PIXELS)) * np.geomspace(0.01, 1, SIZE)[:, None]).astype(np.float32)
LATENTS = (3 + RNG.normal(size=(2000, SIZE)) @ RNG.normal(size=(SIZE, SIZE))).astype(np.float32)


def synthesis(y: np.ndarray) -> np.ndarray:
    return (y @ BASIS).reshape(-1, 8, 8, 1)


def pull_back(y: np.ndarray, target: np.ndarray) -> np.ndarray:
    return (target - synthesis(y)).reshape(-1, PIXELS) @ BASIS.T


def fitted(components: int = SIZE, latents: np.ndarray = LATENTS) -> Rotation:
    return fit(latents, components, synthesis, pull_back)


def test_components_are_uncorrelated_and_the_largest_come_first() -> None:
    z = fitted().components(LATENTS)
    assert np.abs(z.mean(axis=0)).max() < 0.02 * z.std(axis=0).max()
    correlation = np.corrcoef(z, rowvar=False)
    assert np.abs(np.corrcoef(LATENTS, rowvar=False) - np.eye(SIZE)).max() > 0.3
    assert np.abs(correlation - np.eye(SIZE)).max() < 0.05
    assert (np.diff(z.var(axis=0)) < 0).all()


def test_with_all_components_the_way_back_is_exact() -> None:
    rotation = fitted()
    back = rotation.latents(rotation.components(LATENTS))
    np.testing.assert_allclose(back, LATENTS, atol=0.01 * LATENTS.std())


def test_fewer_components_lose_the_least_that_pixels_can() -> None:
    def lost(rotation: Rotation) -> float:
        back = rotation.latents(rotation.components(LATENTS))
        return float(np.square(synthesis(back) - synthesis(LATENTS)).sum(axis=(1, 2, 3)).mean())

    pictures = synthesis(LATENTS).reshape(-1, PIXELS)
    variances = np.linalg.eigvalsh(np.cov(pictures, rowvar=False))[::-1]
    for components in (1, 2, 3):
        assert lost(fitted(components)) < 1.1 * variances[components:].sum()


def test_a_step_in_a_component_changes_the_pixels_by_its_own_length() -> None:
    rotation = fitted()
    here = rotation.components(LATENTS[:1])
    for step in np.eye(SIZE, dtype=np.float32)[:4]:  # the last ones hardly change anything
        there = synthesis(rotation.latents(here + step)) - synthesis(rotation.latents(here))
        assert np.linalg.norm(there) == pytest.approx(1, rel=0.1)


def test_latents_that_are_never_negative_stay_so() -> None:
    positive = np.maximum(LATENTS, 0)
    assert fitted(2, positive).latents(-100 * np.ones((1, 2), np.float32)).min() >= 0
    assert fitted(2).latents(-100 * np.ones((1, 2), np.float32)).min() < 0


def test_it_is_kept_beside_the_weights_that_it_belongs_to(tmp_path: Path) -> None:
    rotation, path = fitted(3), tmp_path / "rotation.npz"
    assert Rotation.load(path, "a") is None
    rotation.save(path, "a")
    found = Rotation.load(path, "a")
    assert found is not None
    assert found.digest() == rotation.digest()
    assert found.rectified == rotation.rectified
    assert np.array_equal(found.components(LATENTS), rotation.components(LATENTS))
    assert Rotation.load(path, "b") is None
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(TrainingError, match=r"rotation\.npz"):
        Rotation.load(path, "a")


def test_latents_that_never_change_are_no_trouble() -> None:
    still = np.ones((50, SIZE), np.float32)
    rotation = fitted(2, still)
    assert np.array_equal(rotation.latents(rotation.components(still)), still)


def test_more_components_than_latents_or_images_are_refused() -> None:
    with pytest.raises(TrainingError, match=r"at most 6 components of 6 latents.*found 7"):
        fitted(7)
    with pytest.raises(TrainingError, match=r"at most 4 .* of 4 images, found 5; --latents"):
        fitted(5, LATENTS[:4])


def test_singular_vectors_are_the_eigenvectors_of_the_covariance() -> None:
    x = RNG.normal(size=(12, 40)).astype(np.float32) * np.geomspace(1, 0.1, 40, dtype=np.float32)
    x -= x.mean(axis=0)
    expected = leading_eigenvectors((x.T @ x).astype(np.float64) / len(x), 5)[1]
    assert np.allclose(leading_directions(x, 5), expected, atol=1e-4)
    all_of_them = leading_directions(x, 12)  # of a rank of 11
    assert np.allclose(all_of_them.T @ all_of_them, np.eye(12), atol=1e-4)
