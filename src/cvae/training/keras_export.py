"""A trained Keras model as ONNX graphs."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import tempfile
import warnings
from pathlib import Path

import keras
import numpy as np

from cvae.errors import MissingExtraError
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
        MissingExtraError: what converts to ONNX is not installed.
    """
    model = trainer.load(run)
    mean_only = keras.Model(model.analysis.input, model.analysis.outputs[0], name="analysis")
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    _, log_var = model.analysis.predict(images, batch_size=_BATCH, verbose=0)

    def analysis(x: Floats) -> Floats:
        return np.asarray(mean_only.predict(x, batch_size=_BATCH, verbose=0))

    def synthesis(y: Floats) -> Floats:
        return np.asarray(model.synthesis.predict(y, batch_size=_BATCH, verbose=0))

    return Exported(
        analysis_graph=_to_onnx(mean_only),
        synthesis_graph=_synthesis_graph(model.synthesis, run.preset.image_shape),
        analysis=analysis,
        synthesis=synthesis,
        # The root of the mean posterior variance, in the latents' own unit.
        widths=np.sqrt(np.exp(log_var).mean(axis=0)).astype(np.float32),
        weights_hash=digest.hexdigest(),
    )


def _synthesis_graph(synthesis: keras.Model, shape: tuple[int, int, int]) -> bytes:
    """Written from the weights: the fast form is not one that a converter finds."""
    weights = [np.asarray(weight) for weight in synthesis.get_weights()]
    pairs = list(zip(weights[::2], weights[1::2], strict=True))
    layers = [graphs.Layer(*pair) for pair in pairs[1:]]
    return graphs.cvae_synthesis(pairs[0], layers[:-1], layers[-1], shape)


def _to_onnx(network: keras.Model) -> bytes:
    try:
        import onnx  # noqa: F401
        import tf2onnx  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(error.name or "onnx", "train") from error
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    network(np.zeros((1, *network.input_shape[1:]), np.float32))  # Keras exports what was called
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of names that numpy will reuse
        path = Path(folder) / "network.onnx"
        # The converter talks on stdout, which carries data.
        with contextlib.redirect_stdout(io.StringIO()):
            network.export(path, format="onnx", verbose=False)
        return path.read_bytes()
