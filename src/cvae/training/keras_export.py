"""A trained Keras model as ONNX graphs."""

from __future__ import annotations

import hashlib
from typing import Any

import keras
import numpy as np

from cvae.training import graphs, trainer
from cvae.training.exported import Exported, Floats, half_precision
from cvae.training.presets import Preset
from cvae.training.runs import Run

_BATCH = 1024


def load(run: Run, images: Floats) -> Exported:
    """The networks of the run's last checkpoint.

    Args:
        run: a run of at least one finished epoch.
        images: float32 (n, h, w, c) in [0, 1] of the training set, for the posterior widths.

    Raises:
        TrainingError: the run has no checkpoint.
    """
    model = trainer.load(run)
    # Graphs store half precision; from here on these are the weights.
    model.set_weights([half_precision(weight) for weight in model.get_weights()])
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    cvae = run.preset.architecture == "cvae"

    def predict(network: keras.Model, items: Floats) -> Any:
        return network.predict(items, batch_size=_BATCH, verbose=0)

    def analysis(x: Floats) -> Floats:
        outputs = predict(model.analysis, x)
        return np.asarray(outputs[0] if cvae else outputs)

    def synthesis(y: Floats) -> Floats:
        return np.asarray(predict(model.synthesis, y)).clip(0, 1)

    if cvae:
        # The root of the mean posterior variance, in the latents' own unit.
        _, log_var = predict(model.analysis, images)
        widths = np.sqrt(np.exp(log_var).mean(axis=0)).astype(np.float32)
    else:
        widths = np.ones(run.preset.latent_dim, np.float32)
    analysis_graph, synthesis_graph = (_cvae_graphs if cvae else _residual_graphs)(
        model, run.preset
    )
    return Exported(
        analysis_graph=analysis_graph,
        synthesis_graph=synthesis_graph,
        analysis=analysis,
        synthesis=synthesis,
        widths=widths,
        weights_hash=digest.hexdigest(),
    )


def _cvae_graphs(model: keras.Model, preset: Preset) -> tuple[bytes, bytes]:
    *stages, dense, mean, _ = _layers(model.analysis).values()
    first, *transposed, last = _layers(model.synthesis).values()
    return (
        graphs.cvae_analysis(stages, dense, mean, preset.image_shape),
        graphs.cvae_synthesis(first, transposed, last, preset.image_shape),
    )


def _residual_graphs(model: keras.Model, preset: Preset) -> tuple[bytes, bytes]:
    down = _layers(model.analysis)
    mean, linear = down.pop("mean"), down.pop("linear")
    stages = list(down.values())
    synthesis = _layers(model.synthesis)
    return (
        graphs.residual_analysis(stages, mean, linear, preset.image_shape),
        graphs.residual_synthesis(synthesis, len(preset.refine), preset.image_shape),
    )


def _layers(network: keras.Model) -> dict[str, graphs.Layer]:
    """The layers that have weights, in order of construction, by name."""
    return {
        layer.name: graphs.Layer(*layer.get_weights()) for layer in network.layers if layer.weights
    }
