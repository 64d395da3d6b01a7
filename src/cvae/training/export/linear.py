"""The linear codec's networks: PCA, fitted in closed form; no Keras."""

from __future__ import annotations

import hashlib

import numpy as np

from cvae.data import arrays, files
from cvae.data.images import Images, Pixels, Shape
from cvae.errors import TrainingError
from cvae.models.file import ANALYSIS, SYNTHESIS
from cvae.training.datasets import sample
from cvae.training.export.codec import Networks
from cvae.training.export.graph import Floats, Graph, half_precision
from cvae.training.export.rotation import leading_directions
from cvae.training.runs import LINEAR, Run


def components(pixels: Pixels, dim: int, label: str) -> tuple[Floats, Floats]:
    """The mean (n,) and the leading eigenvectors (n, dim) of the covariance of images.

    Images are uint8 (m, h, w, c), the results of n values in [0, 1] an image. `label` is what an
    error names.

    Raises:
        TrainingError: there are fewer images or pixels than components.
    """
    x = pixels.reshape(len(pixels), -1).astype(np.float32) / 255
    if dim > min(x.shape):
        raise TrainingError(
            f"expected at most {min(x.shape)} latents for {len(x)} images of "
            f"{x.shape[1]} values, found {dim}",
            where=label,
        )
    mean = x.mean(axis=0, dtype=np.float64).astype(np.float32)
    x -= mean
    return mean, leading_directions(x, dim).astype(np.float32)


def fit(run: Run, train: Images) -> None:
    """Writes the principal components of the training images to the run's folder, see `components`."""
    mean, basis = components(sample(train), run.preset.latent_dim, str(run.folder))
    with files.atomic_path(run.folder / LINEAR, force=True) as temporary:
        np.savez(temporary, mean=mean, basis=basis)


def load(run: Run) -> Networks:
    """The fitted networks. Raises TrainingError when the run holds none."""
    path, shape = run.folder / LINEAR, run.preset.image_shape
    mean, basis = arrays.read_npz(path, ["mean", "basis"], str(path), TrainingError)
    basis = half_precision(basis)  # as graphs store it

    def analysis(x: Floats) -> Floats:
        return np.asarray((x.reshape(len(x), -1) - mean) @ basis)

    def synthesis(y: Floats) -> Floats:
        return np.asarray((y @ basis.T + mean).clip(0, 1).reshape(-1, *shape))

    linear = mean, basis, shape
    return Networks(
        graphs={ANALYSIS: analysis_graph(*linear), SYNTHESIS: synthesis_graph(*linear)},
        trained={ANALYSIS: analysis, SYNTHESIS: synthesis},
        shape=shape,
        # One step for all elements: reverse water-filling, in the field's words.
        widths=np.ones(basis.shape[1], np.float32),
        weights_hash=hashlib.sha256(mean.tobytes() + basis.tobytes()).hexdigest(),
        orthonormal=True,
    )


def analysis_graph(mean: Floats, basis: Floats, shape: Shape) -> bytes:
    """`(x - mean) @ basis` of flattened images; mean (n,), basis (n, d)."""
    graph = Graph()
    latents = graph.add("Gemm", graph.add("Flatten", "x", axis=1), basis, -mean @ basis)
    return graph.to_bytes("analysis", {"x": shape}, latents, (basis.shape[1],))


def synthesis_graph(mean: Floats, basis: Floats, shape: Shape) -> bytes:
    """`y @ basis.T + mean`, clipped to [0, 1], as images."""
    graph = Graph()
    x = graph.clip(graph.add("Gemm", "x", basis, mean, transB=1))
    return graph.to_bytes("synthesis", {"x": (basis.shape[1],)}, graph.shape(x, *shape), shape)
