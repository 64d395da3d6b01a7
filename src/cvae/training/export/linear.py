"""The linear codec's networks: PCA, fitted in closed form; no Keras."""

from __future__ import annotations

import hashlib
import io

import numpy as np
from numpy.typing import NDArray

from cvae.data import arrays, files
from cvae.data.images import Images, Pixels
from cvae.errors import TrainingError
from cvae.training.datasets import sample
from cvae.training.export import graph as graphs
from cvae.training.export.exported import Exported, half_precision
from cvae.training.runs import LINEAR, Run


def components(
    pixels: Pixels, dim: int, label: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The mean (n,) and the leading eigenvectors (n, dim) of the covariance of flattened images.

    Raises:
        TrainingError: more components are asked for than images or pixels give.
    """
    x = pixels.reshape(len(pixels), -1).astype(np.float32) / 255
    if dim > min(x.shape):
        raise TrainingError(
            f"expected at most {min(x.shape)} latents for {len(x)} images of "
            f"{x.shape[1]} values, found {dim}",
            where=label,
        )
    mean = x.mean(axis=0, dtype=np.float64)
    x -= mean.astype(np.float32)
    _, vectors = np.linalg.eigh((x.T @ x).astype(np.float64) / len(x))
    basis = vectors[:, ::-1][:, :dim]
    # Eigenvectors have no sign of their own; this one is the same on every machine.
    basis = basis * np.sign(basis[np.abs(basis).argmax(axis=0), np.arange(dim)])
    return mean.astype(np.float32), basis.astype(np.float32)


def fit(run: Run, train: Images) -> None:
    """Writes the principal components of the training images to the run's folder.

    Raises:
        TrainingError: the preset asks for more latents than images or pixels give.
    """
    mean, basis = components(sample(train), run.preset.latent_dim, str(run.folder))
    buffer = io.BytesIO()
    np.savez(buffer, mean=mean, basis=basis)
    files.write_bytes(run.folder / LINEAR, buffer.getvalue(), force=True)


def load(run: Run) -> Exported:
    """The fitted networks. Raises TrainingError when the run holds none."""
    path = run.folder / LINEAR
    mean, basis = arrays.read_npz(path, ["mean", "basis"], str(path), TrainingError)
    basis = half_precision(basis)  # as graphs store it
    shape = run.preset.image_shape

    def analysis(x: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray((x.reshape(len(x), -1) - mean) @ basis)

    def synthesis(y: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(np.clip(y @ basis.T + mean, 0, 1).reshape(-1, *shape))

    return Exported(
        analysis_graph=graphs.linear_analysis(mean, basis, shape),
        synthesis_graph=graphs.linear_synthesis(mean, basis, shape),
        analysis=analysis,
        synthesis=synthesis,
        # One step for all elements: reverse water-filling, in the field's words.
        widths=np.ones(basis.shape[1], np.float32),
        weights_hash=hashlib.sha256(mean.tobytes() + basis.tobytes()).hexdigest(),
        orthonormal=True,
    )
