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
import io
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
        buffer = io.BytesIO()
        np.savez(
            buffer, mean=self.mean, forward=self.forward, backward=self.backward,
            rectified=np.array(self.rectified), weights=np.array(weights_hash),
        )  # fmt: skip
        files.write_bytes(path, buffer.getvalue(), force=True)

    @classmethod
    def load(cls, path: Path, weights_hash: str) -> Rotation | None:
        """The rotation that was saved for these weights, or None."""
        if not path.exists():
            return None
        names = ["mean", "forward", "backward", "rectified", "weights"]
        mean, forward, backward, rectified, weights = arrays.read_npz(
            path, names, str(path), TrainingError
        )
        if str(weights) != weights_hash:
            return None
        return cls(mean, forward, backward, bool(rectified))


def fit(
    latents: Floats, components: int, synthesis: Callable[[Floats], Floats], pull_back: PullBack
) -> Rotation:
    """The rotation of the latents of training images to components.

    Args:
        latents: (m, n), one row an image.
        components: how many, at most m and n.
        synthesis: latents (k, n) -> images.
        pull_back: the pull-back of this synthesis.

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
    scale = _root(_sensitivity(latents, synthesis, pull_back))
    scaled = (latents - mean) @ scale
    variances, vectors = np.linalg.eigh(scaled.T @ scaled / len(latents))
    variances, vectors = variances[::-1][:components], vectors[:, ::-1][:, :components]
    # Eigenvectors have no sign of their own; this one is the same on every machine.
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(components)])
    forward = scale @ vectors
    # The least squares way back, which is exact for all components and needs no inverse.
    backward = (scaled @ vectors).T @ (latents - mean) / len(latents)
    backward /= np.maximum(variances, 1e-12)[:, np.newaxis]
    return Rotation(
        mean.astype(np.float32),
        half_precision(forward.astype(np.float32)),
        half_precision(backward.astype(np.float32)),
        bool(latents.min() >= 0),
    )


def _sensitivity(
    latents: Floats, synthesis: Callable[[Floats], Floats], pull_back: PullBack
) -> NDArray[np.float64]:
    """The mean of J'J (n, n), from J'v of random v with E[v v'] = identity."""
    rng = np.random.default_rng(0)
    size = latents.shape[1]
    total, count, batch = np.zeros((size, size)), 0, 1024
    while count < _DIRECTIONS * size:
        y = latents[rng.integers(0, len(latents), batch)]
        x = synthesis(y)
        direction = rng.standard_normal(x.shape, np.float32)
        pulled = pull_back(y, x + direction).astype(np.float64)
        total += pulled.T @ pulled
        count += batch
    return total / count


def _root(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The symmetric square root of a positive semidefinite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    values = np.maximum(values, 0) + _RIDGE * values.mean()
    return np.asarray((vectors * np.sqrt(values)) @ vectors.T)
