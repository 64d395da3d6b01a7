"""A trained denoiser -> one graph for images of any size, checked and measured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from cvae import denoising
from cvae.data.images import as_floats
from cvae.evaluation import noise
from cvae.models.file import DENOISER, Manifest, Model
from cvae.models.networks import Network
from cvae.training.datasets import Dataset
from cvae.training.export import layers
from cvae.training.export.graph import Graph
from cvae.training.export.made import Made, Say, check_pixels, previous
from cvae.training.runs import Run

# Validation images on which the graph is checked, and then measured.
_CHECKED_IMAGES, _MEASURED_IMAGES = 4, 64


def make(run: Run, dataset: Dataset, model: Any, say: Say) -> Made:
    """The graph of a trained `losses.Denoiser`. Raises TrainingError when it differs from it."""
    say("writing the network as a graph, and checking that")
    weights_hash = layers.prepare(model)
    network, channels = model.network, run.preset.image_shape[2]
    multiple = 2 ** (len(run.preset.filters) - 1)
    validation = np.asarray(dataset.validation[:_MEASURED_IMAGES])
    graph, opened = _graph(network, channels)
    height, width = (side - side % multiple for side in validation.shape[1:3])
    x = as_floats(validation[:_CHECKED_IMAGES, :height, :width])
    check_pixels("denoiser", opened(x), np.asarray(network.predict(x, verbose=0)).clip(0, 1))

    def measure(model: Model) -> Manifest:
        found = noise.measure(model, validation, run.preset.noise)
        figures = {"split": "validation", "images": len(validation), **found}
        return replace(model.manifest, figures=figures)

    # Where clipping hides a change, none is found.
    _, unclipped = _graph(network, channels, clipped=False)
    return Made(
        graphs={DENOISER: graph},
        qualities=None,
        weights_hash=weights_hash,
        previous=previous(run, weights_hash),
        fields={
            "kind": DENOISER.removesuffix(".onnx"),
            "latent_shape": (),
            "default_quality": 0,
            "expected_psnr": (),
            "multiple": multiple,
            "reach": denoising.find_reach(unclipped, channels, multiple),
        },
        measure=measure,
    )


def _graph(network: Any, channels: int, clipped: bool = True) -> tuple[bytes, Network]:
    graph = Graph()
    x = layers.add_network(graph, network, "x")
    x, free = graph.clip(x) if clipped else x, ("height", "width", channels)
    data, shape = graph.to_bytes("denoiser", {"x": free}, x, free), (None, None, channels)
    return data, Network(data, DENOISER, [shape], shape)
