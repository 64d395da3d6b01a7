"""The linear codec's networks: PCA, fitted in closed form; no Keras."""

from __future__ import annotations

import hashlib
import io

import numpy as np
from numpy.typing import NDArray

from cvae import arrays, files
from cvae.errors import TrainingError
from cvae.images import Pixels
from cvae.training import graphs
from cvae.training.exported import Exported
from cvae.training.runs import LINEAR, Run


def fit(run: Run, train: Pixels) -> None:
    """Writes the mean and the leading eigenvectors of the pixels' covariance to the run's folder.

    Raises:
        TrainingError: the preset asks for more latents than images or pixels give.
    """
    dim = run.preset.latent_dim
    x = train.reshape(len(train), -1).astype(np.float64) / 255
    if dim > min(x.shape):
        raise TrainingError(
            f"{run.folder}: expected at most {min(x.shape)} latents for {len(x)} images of "
            f"{x.shape[1]} values, found {dim}"
        )
    mean = x.mean(axis=0)
    _, vectors = np.linalg.eigh((x - mean).T @ (x - mean) / len(x))
    basis = vectors[:, ::-1][:, :dim]
    # Eigenvectors have no sign of their own; this one is the same on every machine.
    basis = basis * np.sign(basis[np.abs(basis).argmax(axis=0), np.arange(dim)])
    buffer = io.BytesIO()
    np.savez(buffer, mean=mean.astype(np.float32), basis=basis.astype(np.float32))
    files.write_bytes(run.folder / LINEAR, buffer.getvalue(), force=True)


def load(run: Run) -> Exported:
    """The fitted networks. Raises TrainingError when the run holds none."""
    path = run.folder / LINEAR
    mean, basis = arrays.read_npz(path, ["mean", "basis"], str(path), TrainingError)
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
    )
