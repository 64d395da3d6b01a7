"""What makes a model of a trained denoiser: one graph for images of any size that agrees with it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np

from cvae import denoising as denoise
from cvae.data.images import Pixels, as_floats
from cvae.errors import ModelError, TrainingError
from cvae.evaluation import noise
from cvae.models.file import DENOISER, SUFFIX, Manifest, Model
from cvae.models.networks import Network
from cvae.training import backend, trainer
from cvae.training.datasets import Dataset
from cvae.training.export import graph as graphs
from cvae.training.export import layers as keras_graphs
from cvae.training.export.exported import Made, half_precision
from cvae.training.export.naming import WEIGHTS
from cvae.training.runs import Run

# Validation images that the graph is checked, and then measured on.
_CHECKED_IMAGES, _MEASURED_IMAGES = 4, 64


def make(run: Run, dataset: Dataset) -> Made:
    """The graph of a run.

    Raises:
        TrainingError: no epoch of the run has finished, or the graph differs from the network.
    """
    preset = run.preset
    channels, multiple = preset.image_shape[2], 2 ** (len(preset.filters) - 1)
    backend.whole_precision()
    network = trainer.load(run).network
    keras_graphs.fold_normalization(network)
    # Graphs store half precision; from here on these are the weights.
    network.set_weights([half_precision(weight) for weight in network.get_weights()])
    weights = b"".join(np.ascontiguousarray(weight).tobytes() for weight in network.get_weights())
    graph = _graph(network, channels)
    session = _session(graph, channels)
    validation = np.asarray(dataset.validation[:_MEASURED_IMAGES])
    _check(network, session, validation[:_CHECKED_IMAGES], multiple)
    digest = hashlib.sha256(weights).hexdigest()
    return Made(
        graphs={DENOISER: graph},
        bank=None,
        weights_hash=digest,
        previous=_previous(run, digest),
        fields={
            "kind": DENOISER.removesuffix(".onnx"),
            "latent_shape": (),
            "default_quality": 0,
            "expected_psnr": (),
            "multiple": multiple,
            # Where clipping hides a change, none is found.
            "reach": denoise.find_reach(
                _session(_graph(network, channels, clipped=False), channels), channels, multiple
            ),
        },
        measure=lambda model: _measure(model, validation),
    )


def _session(graph: bytes, channels: int) -> Network:
    shape = (None, None, channels)
    return Network(graph, DENOISER, [shape], shape)


def _graph(network: Any, channels: int, clipped: bool = True) -> bytes:
    """Clipped to [0, 1]."""
    graph = graphs.Graph()
    x = keras_graphs.add_network(graph, network, "x")
    if clipped:
        x = graph.add("Clip", x, np.array(0, np.float32), np.array(1, np.float32))
    shape = ("height", "width", channels)
    return graph.to_bytes("denoiser", {"x": shape}, x, shape)


def _check(network: Any, session: Network, pixels: Pixels, multiple: int) -> None:
    height, width = (side - side % multiple for side in pixels.shape[1:3])
    x = as_floats(pixels[:, :height, :width])
    expected = np.rint(255 * np.asarray(network.predict(x, verbose=0)).clip(0, 1))
    apart = int(np.abs(np.rint(255 * session(x)) - expected).max())
    if apart > 1:
        raise TrainingError(f"the exported denoiser differs by {apart} levels, expected at most 1")


def _previous(run: Run, weights_hash: str) -> Model | None:
    """An earlier export of the same weights."""
    for path in sorted(run.folder.glob(f"*{SUFFIX}")):
        try:
            model = Model(path)
        except ModelError:
            continue  # damaged: it is made anew
        if model.manifest.hashes.get(WEIGHTS) == weights_hash:
            return model
    return None


def _measure(model: Model, pixels: Pixels) -> Manifest:
    """The manifest with what becomes of validation images under the noise it was trained for."""
    manifest = model.manifest
    found = noise.measure(model, pixels, manifest.preset["noise"])
    figures = {"split": "validation", "images": len(pixels), **found}
    return replace(manifest, figures=figures)
