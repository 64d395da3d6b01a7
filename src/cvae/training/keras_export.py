"""A trained Keras model as ONNX graphs."""

from __future__ import annotations

import hashlib

import keras
import numpy as np

from cvae.training import graphs, trainer
from cvae.training.exported import Exported, Floats
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
    shape = run.preset.image_shape
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    _, log_var = model.analysis.predict(images, batch_size=_BATCH, verbose=0)

    def analysis(x: Floats) -> Floats:
        return np.asarray(model.analysis.predict(x, batch_size=_BATCH, verbose=0)[0])

    def synthesis(y: Floats) -> Floats:
        return np.asarray(model.synthesis.predict(y, batch_size=_BATCH, verbose=0))

    *stages, dense, mean, _ = _layers(model.analysis)
    first, *transposed, last = _layers(model.synthesis)
    return Exported(
        analysis_graph=graphs.cvae_analysis(stages, dense, mean, shape),
        synthesis_graph=graphs.cvae_synthesis(first, transposed, last, shape),
        analysis=analysis,
        synthesis=synthesis,
        # The root of the mean posterior variance, in the latents' own unit.
        widths=np.sqrt(np.exp(log_var).mean(axis=0)).astype(np.float32),
        weights_hash=digest.hexdigest(),
    )


def _layers(network: keras.Model) -> list[graphs.Layer]:
    """The layers that have weights, in order of construction."""
    weighted = [layer.get_weights() for layer in network.layers if layer.weights]
    return [graphs.Layer(kernel, bias) for kernel, bias in weighted]
