"""A trained Keras model as ONNX graphs."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from cvae.data.images import Shape
from cvae.models.networks import Network
from cvae.training import backend, trainer
from cvae.training.export import gradient as adjoint
from cvae.training.export import graph as graphs
from cvae.training.export import layers as keras_graphs
from cvae.training.export.exported import Exported, Floats, half_precision
from cvae.training.export.rotation import Rotation
from cvae.training.export.rotation import fit as fit_rotation
from cvae.training.preset import Preset
from cvae.training.runs import ROTATION, Run

_BATCH_VALUES = 1 << 20


def load(run: Run, images: Floats) -> Exported:
    """The networks of the run's last checkpoint, or of its best epoch.

    Args:
        run: a run of at least one finished epoch.
        images: float32 (n, h, w, c) in [0, 1] of the training set, for the posterior widths or the
            rotation of the latents.

    Raises:
        TrainingError: the run has no checkpoint.
    """
    backend.whole_precision()
    model = trainer.load(run)
    preset = run.preset
    for network in (model.analysis, model.synthesis):
        keras_graphs.fold_normalization(network)
    # Graphs store half precision; from here on these are the weights.
    model.set_weights([half_precision(weight) for weight in model.get_weights()])
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    batch = max(1, min(1024, _BATCH_VALUES // math.prod(preset.image_shape)))

    def predict(network: keras.Model, items: Floats) -> Any:
        return network.predict(items, batch_size=batch, verbose=0)

    def analysis(x: Floats) -> Floats:
        outputs = predict(model.analysis, x)
        return np.asarray(outputs[0] if isinstance(outputs, list) else outputs)

    def synthesis(y: Floats) -> Floats:
        return np.asarray(predict(model.synthesis, y)).clip(0, 1)

    if preset.architecture == "autoencoder":
        return _rotated(run, model, analysis, synthesis, digest.hexdigest(), images)
    widths = np.ones(preset.latent_dim, np.float32)
    if preset.architecture in ("cvae", "vae"):
        # The root of the mean posterior variance, in the latents' own unit.
        _, log_var = predict(model.analysis, images)
        widths = np.sqrt(np.exp(log_var).mean(axis=0)).astype(np.float32)
    analysis_graph, synthesis_graph = _GRAPHS[preset.architecture](model, preset)
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


def _vae_graphs(model: keras.Model, preset: Preset) -> tuple[bytes, bytes]:
    mean, _ = model.analysis.output
    return (
        _analysis_graph(model.analysis, preset.image_shape, output=mean),
        _synthesis_graph(model.synthesis, preset.image_shape),
    )


_GRAPHS: dict[str, Callable[[keras.Model, Preset], tuple[bytes, bytes]]] = {
    "cvae": _cvae_graphs,
    "residual": _residual_graphs,
    "vae": _vae_graphs,
}


def _analysis_graph(
    network: keras.Model, shape: Shape, rotation: Rotation | None = None, output: Any = None
) -> bytes:
    graph = graphs.Graph()
    y = keras_graphs.add_network(graph, network, "x", output)
    size = math.prod((network.output if output is None else output).shape[1:])
    if rotation is not None:
        offset = -rotation.mean @ rotation.forward
        y = graph.add("Gemm", graph.shape(y, size), rotation.forward, offset)
        size = rotation.forward.shape[1]
    return graph.to_bytes("analysis", {"x": shape}, y, (size,))


def _synthesis_graph(network: keras.Model, shape: Shape, rotation: Rotation | None = None) -> bytes:
    """From a vector: the network's own latents flattened, or their components."""
    graph = graphs.Graph()
    given = network.input.shape[1:]
    size, x = math.prod(given), "x"
    if rotation is not None:
        x = graph.add("Gemm", x, rotation.backward, rotation.mean)
        if rotation.rectified:
            x = graph.add("Relu", x)
        size = len(rotation.backward)
    if len(given) > 1:
        x = graph.shape(x, *given)
    return graph.to_bytes(
        "synthesis", {"x": (size,)}, keras_graphs.add_network(graph, network, x), shape
    )


def _rotated(
    run: Run,
    model: keras.Model,
    analysis: Callable[[Floats], Floats],
    synthesis: Callable[[Floats], Floats],
    weights_hash: str,
    images: Floats,
) -> Exported:
    """An autoencoder whose latents, a grid or a vector, become components between both networks."""
    preset, grid = run.preset, model.synthesis.input.shape[1:]
    path = run.folder / ROTATION
    # Kept with the run: on another machine it would come out a little different.
    rotation = Rotation.load(path, weights_hash)
    if rotation is None:
        latents = analysis(images).reshape(len(images), -1)
        rotation = _fit(latents, model.synthesis, preset)
        rotation.save(path, weights_hash)
    return Exported(
        analysis_graph=_analysis_graph(model.analysis, preset.image_shape, rotation),
        synthesis_graph=_synthesis_graph(model.synthesis, preset.image_shape, rotation),
        analysis=lambda x: rotation.components(analysis(x).reshape(len(x), -1)),
        synthesis=lambda y: synthesis(rotation.latents(y).reshape(-1, *grid)),
        widths=np.ones(preset.latent_dim, np.float32),
        weights_hash=hashlib.sha256((weights_hash + rotation.digest()).encode()).hexdigest(),
        denoiser_graph=_denoiser_graph(model, preset.image_shape) if preset.noise else None,
        denoiser=lambda x: synthesis(analysis(x)),
    )


def _denoiser_graph(model: keras.Model, shape: Shape) -> bytes:
    graph = graphs.Graph()
    y = keras_graphs.add_network(graph, model.analysis, "x")
    x_hat = keras_graphs.add_network(graph, model.synthesis, y)
    return graph.to_bytes("denoiser", {"x": shape}, x_hat, shape)


def _fit(latents: Floats, network: keras.Model, preset: Preset) -> Rotation:
    shape, size = preset.image_shape, latents.shape[1]
    synthesis_graph = _synthesis_graph(network, shape)
    synthesis = Network(synthesis_graph, "synthesis", [(size,)], shape)
    gradient = Network(adjoint.gradient(synthesis_graph), "gradient", [(size,), shape], (size + 1,))
    return fit_rotation(
        latents, preset.latent_dim, synthesis, lambda y, target: gradient(y, target)[:, :-1]
    )
