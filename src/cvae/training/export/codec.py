"""A trained pair of networks -> graphs that agree with them, counted tables, measured floors."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from cvae import kinds
from cvae.bitstream.tables import Bank, Symbols
from cvae.codec import Codec
from cvae.data import metrics
from cvae.data.images import Pixels, Shape, as_floats
from cvae.errors import TrainingError
from cvae.evaluation import noise
from cvae.kinds import search
from cvae.models.file import ANALYSIS, DENOISER, GRADIENT, SYNTHESIS, Manifest, Model
from cvae.models.networks import Network
from cvae.models.qualities import QUALITIES, Qualities, Quantizer
from cvae.options import DEFAULT_EFFORT
from cvae.training import datasets
from cvae.training.datasets import Dataset
from cvae.training.export import calibration
from cvae.training.export import gradient as adjoint
from cvae.training.export.graph import Floats, Graph
from cvae.training.export.made import Made, check_pixels, levels_apart, previous
from cvae.training.export.rotation import Rotation
from cvae.training.export.rotation import fit as fit_rotation
from cvae.training.preset import Preset
from cvae.training.runs import ROTATION, Run

# Symbols may differ where a latent lies so near to a rounding boundary, in steps.
_BOUNDARY = 1e-4
# Qualities whose expected PSNR is measured; it is interpolated between them.
_MEASURED = [1, *range(10, 101, 10)]
_PERCENTILE = 1.0
_MEASURED_IMAGES, _FLOOR_IMAGES = 2000, 1000
# Up to so many latents the search takes tangents, one synthesis for each, which finds more.
_TANGENT_ELEMENTS = 32
# Values of a batch of images that Keras computes at once.
_BATCH_VALUES = 1 << 20


@dataclass(frozen=True)
class Networks:
    """ONNX graphs, and the trained functions that they must agree with."""

    analysis_graph: bytes
    synthesis_graph: bytes
    trained_analysis: Callable[[Floats], Floats]  # (n, h, w, c) in [0, 1] -> latents (n, d)
    trained_synthesis: Callable[[Floats], Floats]  # latents (n, d) -> (n, h, w, c) in [0, 1]
    shape: Shape  # of an image
    widths: Floats  # (d,) the unit of the preset's step_width for each element
    weights_hash: str  # sha256 of the weights: equal for equal networks
    orthonormal: bool = False  # analysis is the transpose of synthesis
    # Of networks trained on noise: images (n, h, w, c) -> the same less noisy, past no code.
    denoiser_graph: bytes | None = None
    trained_denoiser: Callable[[Floats], Floats] | None = None

    @cached_property
    def analysis(self) -> Network:
        return Network(self.analysis_graph, ANALYSIS, [self.shape], self.widths.shape)

    @cached_property
    def synthesis(self) -> Network:
        return Network(self.synthesis_graph, SYNTHESIS, [self.widths.shape], self.shape)

    @cached_property
    def gradient_graph(self) -> bytes | None:
        """The pull-back of the synthesis, where there are too many latents for tangents.

        A linear codec needs none, see `search.orthonormal_gradient`.
        """
        if self.orthonormal or len(self.widths) <= _TANGENT_ELEMENTS:
            return None
        return adjoint.gradient(self.synthesis_graph)

    @cached_property
    def gradient(self) -> search.Gradient | None:
        if self.orthonormal:
            return search.orthonormal_gradient(self.analysis, self.synthesis)
        if self.gradient_graph is None:
            return None
        shapes = [self.widths.shape, self.shape]
        return Network(self.gradient_graph, GRADIENT, shapes, (len(self.widths) + 1,))

    @property
    def graphs(self) -> dict[str, bytes]:
        """The graphs by the names of a model file's members."""
        members = {
            ANALYSIS: self.analysis_graph,
            SYNTHESIS: self.synthesis_graph,
            GRADIENT: self.gradient_graph,
            DENOISER: self.denoiser_graph,
        }
        return {name: graph for name, graph in members.items() if graph is not None}


def make(run: Run, dataset: Dataset, load: Callable[[Floats], Networks]) -> Made:
    """Graphs and tables of a run; the tables of an earlier export of the same weights where they fit.

    Args:
        run: the run.
        dataset: what it was trained on.
        load: training images, float32 (n, h, w, c) in [0, 1], to the trained networks.

    Raises:
        TrainingError: the graphs differ from the networks.
    """
    train, validation = datasets.sample(dataset.train), datasets.sample(dataset.validation)
    networks = load(as_floats(train))

    def alike(model: Model) -> bool:
        """Counting its tables again on another machine could move a count."""
        codec = Codec(model)
        quality = codec.quality(None)
        y = codec.coding.dequantize(codec.quantize(validation, quality, effort=0), quality)
        return levels_apart(networks.synthesis(y), codec.coding.synthesize(y)) <= 1

    earlier = previous(run, networks.weights_hash, alike)
    qualities = earlier.qualities if earlier else _calibrate(networks, run.preset.step_width, train)
    check(networks, qualities, validation)
    return Made(
        graphs=networks.graphs,
        qualities=qualities,
        weights_hash=networks.weights_hash,
        previous=earlier,
        fields={
            "latent_shape": networks.widths.shape,
            "default_quality": calibration.DEFAULT_QUALITY,
            "expected_psnr": (0.0,) * len(QUALITIES),
        },
        measure=lambda model: _measure(Codec(model), validation[:_MEASURED_IMAGES]),
    )


def check(networks: Networks, qualities: Qualities, pixels: Pixels) -> None:
    """The graphs must give the trained networks' symbols, and their pixels within one level.

    Raises:
        TrainingError: they do not.
    """
    x = as_floats(pixels)
    latents = networks.trained_analysis(x)
    quantizer = qualities.quantizer(calibration.DEFAULT_QUALITY)
    found, expected = quantizer.quantize(networks.analysis(x)), quantizer.quantize(latents)
    scaled = (latents - quantizer.offset) / quantizer.step
    clear = np.abs(scaled - np.floor(scaled) - 0.5) > _BOUNDARY
    wrong = int(np.count_nonzero((found != expected) & clear))
    if wrong:
        raise TrainingError(f"the exported analysis differs in {wrong} of {found.size} symbols")
    y = quantizer.dequantize(expected)
    x_hat = networks.trained_synthesis(y)
    check_pixels("synthesis", networks.synthesis(y), x_hat)
    if networks.gradient is not None:
        error = np.square(x - x_hat).sum(axis=(1, 2, 3))
        if not np.allclose(networks.gradient(y, x)[:, -1], error, rtol=1e-3, atol=1e-3):
            raise TrainingError("the gradient's squared error is not that of the trained synthesis")
    if networks.denoiser_graph is not None and networks.trained_denoiser is not None:
        denoiser = Network(networks.denoiser_graph, DENOISER, [networks.shape], networks.shape)
        check_pixels("denoiser", denoiser(x), networks.trained_denoiser(x))


def _calibrate(networks: Networks, step_width: float, train: Pixels) -> Qualities:
    x = as_floats(train)
    latents = networks.analysis(x)
    step = (networks.widths * step_width).astype(np.float32)
    curvature = calibration.curvature(latents, step, networks.synthesis)

    def choose(images: int, quantizer: Quantizer, bank: Bank) -> Symbols:
        rows, shape = np.arange(len(bank)), networks.widths.shape
        problem = search.Problem(
            quantizer, bank, rows, curvature, shape, networks.synthesis, networks.gradient
        )
        return search.search(x[:images], latents[:images], problem, DEFAULT_EFFORT)

    return calibration.calibrate(latents, step, curvature, choose, math.prod(networks.shape))


def _measure(codec: Codec, pixels: Pixels) -> Manifest:
    """The manifest with what validation images reach at each quality."""
    manifest = codec.model.manifest
    floors = []
    for quality in _MEASURED:
        # Of the least effort and the default, so that neither falls short of it by itself: at high
        # quality a search betters the pictures, at low quality it may trade them for bytes.
        reached = []
        for effort in (0, DEFAULT_EFFORT):
            symbols = codec.quantize(pixels[:_FLOOR_IMAGES], quality, effort)
            psnr = metrics.psnr(pixels[:_FLOOR_IMAGES], codec.synthesize(symbols, quality))
            reached.append(float(np.percentile(psnr, _PERCENTILE)))
        floors.append(min(reached))
    expected = np.interp(QUALITIES, _MEASURED, floors).round(3)
    coded = codec.encode_batch(pixels)
    figures: dict[str, Any] = {
        "split": "validation",
        "images": len(pixels),
        "quality": manifest.default_quality,
        "payload_bytes_mean": round(float(np.mean([c.payload_bytes for c in coded])), 4),
        "psnr_mean": round(float(np.mean([c.psnr for c in coded])), 4),
    }
    if kinds.of(manifest).denoises(manifest):
        figures |= noise.measure(codec.model, pixels, manifest.preset["noise"])
    return replace(manifest, expected_psnr=tuple(expected.tolist()), figures=figures)


def from_keras(model: Any, preset: Preset, images: Floats) -> Networks:
    """The networks of a trained `losses.Autoencoder` whose latents are a vector.

    Args:
        model: the model; its weights are rounded to half precision.
        preset: its recipe.
        images: float32 (n, h, w, c) in [0, 1] of the training set, for the posterior widths.
    """
    from cvae.training.export import layers

    weights_hash = layers.prepare(model)
    widths = np.ones(preset.latent_dim, np.float32)
    if isinstance(model.analysis.output, list):  # mean and logarithm of the variance
        _, log_var = _predict(model.analysis, images)
        # The root of the mean posterior variance, in the latents' own unit.
        widths = np.sqrt(np.exp(log_var).mean(axis=0)).astype(np.float32)
    return Networks(
        analysis_graph=_analysis_graph(model.analysis),
        synthesis_graph=_synthesis_graph(model.synthesis),
        trained_analysis=lambda x: _predict(model.analysis, x)[0],
        trained_synthesis=lambda y: _predict(model.synthesis, y)[0].clip(0, 1),
        shape=preset.image_shape,
        widths=widths,
        weights_hash=weights_hash,
    )


def rotated(model: Any, run: Run, images: Floats) -> Networks:
    """The networks of a plain autoencoder, whose latents become components between both halves.

    Args:
        model: a trained `losses.PlainAutoencoder`; its weights are rounded to half precision.
        run: its run, whose folder keeps the rotation.
        images: float32 (n, h, w, c) in [0, 1] of the training set, to fit the rotation to.

    Raises:
        TrainingError: there are fewer latents or images than the preset wants components.
    """
    from cvae.training.export import layers

    weights_hash, preset = layers.prepare(model), run.preset
    grid = model.synthesis.input.shape[1:]

    def latents(x: Floats) -> Floats:
        return _predict(model.analysis, x)[0].reshape(len(x), -1)

    def pictures(y: Floats) -> Floats:
        return _predict(model.synthesis, y.reshape(-1, *grid))[0].clip(0, 1)

    path = run.folder / ROTATION
    # Kept with the run: on another machine it would come out a little different.
    rotation = Rotation.load(path, weights_hash)
    if rotation is None:
        rotation = _fit(latents(images), model.synthesis, preset.latent_dim)
        rotation.save(path, weights_hash)
    return Networks(
        analysis_graph=_analysis_graph(model.analysis, rotation),
        synthesis_graph=_synthesis_graph(model.synthesis, rotation),
        trained_analysis=lambda x: rotation.components(latents(x)),
        trained_synthesis=lambda y: pictures(rotation.latents(y)),
        shape=preset.image_shape,
        widths=np.ones(preset.latent_dim, np.float32),
        weights_hash=hashlib.sha256((weights_hash + rotation.digest()).encode()).hexdigest(),
        denoiser_graph=_denoiser_graph(model) if preset.noise else None,
        trained_denoiser=lambda x: pictures(latents(x)),
    )


def _fit(latents: Floats, network: Any, components: int) -> Rotation:
    size, shape = latents.shape[1], network.output.shape[1:]
    graph = _synthesis_graph(network)
    synthesis = Network(graph, SYNTHESIS, [(size,)], shape)
    gradient = Network(adjoint.gradient(graph), GRADIENT, [(size,), shape], (size + 1,))
    return fit_rotation(latents, components, synthesis, lambda y, x: gradient(y, x)[:, :-1])


def _predict(network: Any, items: Floats) -> list[Floats]:
    """All outputs of a Keras network."""
    tensors = [*network.inputs, *network.outputs]
    values = max(math.prod(tensor.shape[1:]) for tensor in tensors)
    batch = max(1, min(1024, _BATCH_VALUES // values))
    found = network.predict(items, batch_size=batch, verbose=0)
    return [np.asarray(item) for item in (found if isinstance(found, list) else [found])]


def _analysis_graph(network: Any, rotation: Rotation | None = None) -> bytes:
    """Images -> latents, of two heads the means, or their components."""
    from cvae.training.export import layers

    graph, output = Graph(), network.outputs[0]
    y, size = layers.add_network(graph, network, "x", output), math.prod(output.shape[1:])
    if rotation is not None:
        offset = -rotation.mean @ rotation.forward
        y = graph.add("Gemm", graph.shape(y, size), rotation.forward, offset)
        size = rotation.forward.shape[1]
    return graph.to_bytes("analysis", {"x": network.input.shape[1:]}, y, (size,))


def _synthesis_graph(network: Any, rotation: Rotation | None = None) -> bytes:
    """A vector, that is the network's own latents flattened or their components, -> images."""
    graph, x, given = Graph(), "x", network.input.shape[1:]
    size = math.prod(given)
    if rotation is not None:
        x = graph.add("Gemm", x, rotation.backward, rotation.mean)
        x = graph.add("Relu", x) if rotation.rectified else x
        size = len(rotation.backward)
    if len(given) > 1:
        x = graph.shape(x, *given)
    x = _add_pictures(graph, network, x)
    return graph.to_bytes("synthesis", {"x": (size,)}, x, network.output.shape[1:])


def _denoiser_graph(model: Any) -> bytes:
    from cvae.training.export import layers

    graph, shape = Graph(), model.synthesis.output.shape[1:]
    y = layers.add_network(graph, model.analysis, "x")
    x_hat = _add_pictures(graph, model.synthesis, y)
    return graph.to_bytes("denoiser", {"x": shape}, x_hat, shape)


def _add_pictures(graph: Graph, network: Any, x: str) -> str:
    """Adds a synthesis; pixels that no sigmoid confines to [0, 1] are clipped."""
    from cvae.training.export import layers

    x = layers.add_network(graph, network, x)
    activation = getattr(network.layers[-1], "activation", None)
    return x if getattr(activation, "__name__", "") == "sigmoid" else graph.clip(x)
