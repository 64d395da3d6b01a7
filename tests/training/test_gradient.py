"""The gradient of a synthesis, derived from its graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cvae.codec import open_model
from cvae.data import images
from cvae.models.file import Model
from cvae.models.networks import Network
from cvae.training.export import gradient, linear

from ..conftest import blobs


def linear_synthesis(rng: np.random.Generator) -> tuple[bytes, np.ndarray]:
    basis = (rng.normal(size=(64, 5)) / 64).astype(np.float16).astype(np.float32)
    return linear.synthesis_graph(np.full(64, 0.5, np.float32), basis, (8, 8, 1)), basis


def test_of_a_linear_synthesis_it_is_the_projected_residual() -> None:
    rng = np.random.default_rng(0)
    graph, basis = linear_synthesis(rng)
    y = rng.normal(size=(7, 5)).astype(np.float32)
    target = rng.random((7, 8, 8, 1)).astype(np.float32)
    found = Network(gradient.gradient(graph), "g", [(5,), (8, 8, 1)], (6,))(y, target)
    residual = target.reshape(7, 64) - (y @ basis.T + 0.5)
    np.testing.assert_allclose(found[:, :-1], residual @ basis, atol=1e-5)
    np.testing.assert_allclose(found[:, -1], np.square(residual).sum(axis=1), rtol=1e-5)


@pytest.mark.parametrize("model", ["tiny_model", "tiny_hq_model"])
def test_it_is_what_small_changes_of_the_latents_do(
    model: str, request: pytest.FixtureRequest
) -> None:
    opened = Model(Path(request.getfixturevalue(model)))
    shapes = opened.manifest.latent_shape, opened.manifest.image_shape
    graph = _synthesis_graph(opened)
    synthesis = Network(graph, "s", shapes[:1], shapes[1])
    network = Network(gradient.gradient(graph), "g", shapes, (shapes[0][0] + 1,))
    x = images.as_floats(blobs(6))
    y = open_model(opened.path).coding.analyse(x) + 0.1
    found = network(y, x)

    def error(latents: np.ndarray) -> np.ndarray:
        return np.square(x - synthesis(latents), dtype=np.float64).sum(axis=(1, 2, 3))

    np.testing.assert_allclose(found[:, -1], error(y), rtol=1e-4)
    # Along whole directions, where the kinks of single ReLUs hardly count.
    for seed in range(5):
        direction = np.random.default_rng(seed).normal(size=y.shape).astype(np.float32)
        change = 1e-3 * direction
        slope = (error(y + change) - error(y - change)) / 2e-3
        expected = -2 * (found[:, :-1] * direction).sum(axis=1)
        np.testing.assert_allclose(slope, expected, rtol=0.05, atol=0.02)


def _synthesis_graph(model: Model) -> bytes:
    import zipfile

    with zipfile.ZipFile(model.path) as archive:
        return archive.read("synthesis.onnx")
