"""A plain autoencoder's latents as few uncorrelated components, each in pixels (KLT).

Training ignores coding: neighbouring latents are correlated, and some change the picture much more
than others. So latents are scaled by their effect on pixels, then rotated to uncorrelated
components, and those of the largest variance are coded. With M = G^(1/2), where G is the mean of J'J
over images and J the synthesis' Jacobian, a step in M (y - mean) changes the pixels by its own
length in every direction. A uniform step of all components is then optimal (reverse
water-filling), as for the linear codec.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cvae.data import arrays, files
from cvae.errors import TrainingError
from cvae.training.export.graph import Floats, half_precision

# Latents (k, n) and images (k, h, w, c) -> J' (images - synthesis), (k, n).
PullBack = Callable[[Floats, Floats], Floats]

# Random directions in pixels that are pulled back, for each latent.
_DIRECTIONS = 8
_BATCH = 1024
# Share of the mean sensitivity that is added to every direction, so that none has zero.
_RIDGE = 1e-3


@dataclass(frozen=True, eq=False)
class Rotation:
    """Latents y (n,) -> components `(y - mean) @ forward` (k,) -> latents `mean + z @ backward`."""

    mean: Floats  # (n,)
    forward: Floats  # (n, k)
    backward: Floats  # (k, n)
    rectified: bool  # no latent is negative, so the way back is clipped at zero

    def components(self, latents: Floats) -> Floats:
        """(m, n) -> (m, k)"""
        return np.asarray((latents - self.mean) @ self.forward)

    def latents(self, components: Floats) -> Floats:
        """(m, k) -> (m, n)"""
        y = components @ self.backward + self.mean
        return np.maximum(y, 0) if self.rectified else y

    def digest(self) -> str:
        """sha256 over the values."""
        values = (self.mean, self.forward, self.backward)
        return hashlib.sha256(b"".join(value.tobytes() for value in values)).hexdigest()

    def save(self, path: Path, weights_hash: str) -> None:
        """Writes the rotation, and the hash of the weights that it belongs to."""
        with files.atomic_path(path, force=True) as temporary:
            np.savez(temporary, **vars(self), weights=np.array(weights_hash))

    @classmethod
    def load(cls, path: Path, weights_hash: str) -> Rotation | None:
        """The rotation that was saved for these weights, or None."""
        if not path.exists():
            return None
        names = ["mean", "forward", "backward", "rectified", "weights"]
        found = arrays.read_npz(path, names, str(path), TrainingError)
        mean, forward, backward, rectified, weights = found
        if str(weights) != weights_hash:
            return None
        return cls(mean, forward, backward, bool(rectified))


def fit(
    latents: Floats, components: int, synthesis: Callable[[Floats], Floats], pull_back: PullBack
) -> Rotation:
    """The rotation of the latents of training images (m, n) to so many components.

    `synthesis` makes images of latents (k, n), `pull_back` is its pull-back.

    Raises:
        TrainingError: there are fewer latents or images than components.
    """
    if components > min(latents.shape):
        raise TrainingError(
            f"expected at most {min(latents.shape)} components of {latents.shape[1]} latents of "
            f"{len(latents)} images, found {components}",
            advice="--latents changes it",
        )
    mean = latents.mean(axis=0, dtype=np.float64)
    # The symmetric square root of the mean of J'J.
    values, vectors = np.linalg.eigh(_sensitivity(latents, synthesis, pull_back))
    values = np.maximum(values, 0) + _RIDGE * values.mean()
    scale = np.asarray((vectors * np.sqrt(values)) @ vectors.T)
    scaled = (latents - mean) @ scale
    variances, vectors = leading_eigenvectors(scaled.T @ scaled / len(latents), components)
    forward = scale @ vectors
    # The least squares way back, which is exact for all components and needs no inverse.
    backward = (scaled @ vectors).T @ (latents - mean) / len(latents)
    backward /= np.maximum(variances, 1e-12)[:, np.newaxis]
    there, back = (half_precision(x.astype(np.float32)) for x in (forward, backward))
    return Rotation(mean.astype(np.float32), there, back, bool(latents.min() >= 0))


def leading_eigenvectors(
    covariance: NDArray[np.float64], count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The largest eigenvalues (count,) of a matrix (n, n), and their vectors as columns (n, count)."""
    values, vectors = np.linalg.eigh(covariance)
    return values[::-1][:count], _signed(vectors[:, ::-1][:, :count])


def leading_directions(x: NDArray, count: int) -> NDArray:
    """The eigenvectors (n, count) of the covariance of centred rows (m, n), of the largest eigenvalues.

    Of fewer rows than columns they are singular vectors: a covariance (n, n) would take memory with
    the square of n, time with its cube, and no interrupt meanwhile.
    """
    if len(x) < x.shape[1]:
        return _signed(np.linalg.svd(x, full_matrices=False)[2][:count].T)
    return leading_eigenvectors((x.T @ x).astype(np.float64) / len(x), count)[1]


def _signed(vectors: NDArray) -> NDArray:
    """Eigenvectors, which have no sign of their own, with one that is the same on every machine."""
    largest = np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])
    return np.asarray(vectors * np.sign(vectors[largest]))


def _sensitivity(
    latents: Floats, synthesis: Callable[[Floats], Floats], pull_back: PullBack
) -> NDArray[np.float64]:
    """The mean of J'J (n, n), from J'v of random v with E[v v'] = identity."""
    rng, size = np.random.default_rng(0), latents.shape[1]
    total, batches = np.zeros((size, size)), -(-_DIRECTIONS * size // _BATCH)
    for _ in range(batches):
        y = latents[rng.integers(0, len(latents), _BATCH)]
        x = synthesis(y)
        direction = rng.standard_normal(x.shape, np.float32)
        pulled = pull_back(y, x + direction).astype(np.float64)
        total += pulled.T @ pulled
    return np.asarray(total / (batches * _BATCH))
