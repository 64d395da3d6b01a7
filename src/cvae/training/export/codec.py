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
from cvae.kinds.fixed import by_tangents
from cvae.models.file import ANALYSIS, DENOISER, GRADIENT, SYNTHESIS, Manifest, Model
from cvae.models.networks import Network
from cvae.models.qualities import QUALITIES, Qualities, Quantizer
from cvae.options import DEFAULT_EFFORT
from cvae.training import datasets
from cvae.training.export import calibration, gradient
from cvae.training.export import rotation as rotations
from cvae.training.export.graph import Floats
from cvae.training.export.made import Made, Say, check_pixels, levels_apart, previous
from cvae.training.runs import ROTATION, Run

# Symbols may differ where a latent lies so near to a rounding boundary, in steps.
_BOUNDARY = 1e-4
# Qualities whose expected PSNR is measured; it is interpolated between them.
_MEASURED = [1, *range(10, 101, 10)]
_PERCENTILE = 1.0
_MEASURED_IMAGES, _FLOOR_IMAGES = 2000, 1000
# Values of a batch of images that Keras computes at once.
_BATCH_VALUES = 1 << 20


@dataclass(frozen=True)
class Networks:
    """ONNX graphs and the trained functions that they must agree with, by member of a model file.

    Images are (n, h, w, c) in [0, 1], latents (n, d). A denoiser is there where the networks were
    trained on noise, a gradient where there are too many latents for tangents.
    """

    graphs: dict[str, bytes]
    trained: dict[str, Callable[[Floats], Floats]]
    shape: Shape  # of an image
    widths: Floats  # (d,) the unit of the preset's step_width for each element
    weights_hash: str  # sha256 of the weights: equal for equal networks
    orthonormal: bool = False  # analysis is the transpose of synthesis, so it gives the gradient

    @cached_property
    def opened(self) -> dict[str, Network]:
        d = self.widths.shape
        shapes = {
            ANALYSIS: ([self.shape], d),
            SYNTHESIS: ([d], self.shape),
            GRADIENT: ([d, self.shape], (len(self.widths) + 1,)),
            DENOISER: ([self.shape], self.shape),
        }
        return {name: Network(graph, name, *shapes[name]) for name, graph in self.graphs.items()}

    @property
    def gradient(self) -> search.Gradient | None:
        if self.orthonormal:
            return search.orthonormal_gradient(self.opened[ANALYSIS], self.opened[SYNTHESIS])
        return self.opened.get(GRADIENT)


def make(run: Run, dataset: datasets.Dataset, load: Callable[[Floats], Networks], say: Say) -> Made:
    """Graphs and tables of a run; the tables of an earlier export of the same weights where they fit.

    `load` takes training images (n, h, w, c) in [0, 1] and returns the trained networks.

    Raises:
        TrainingError: the graphs differ from the networks.
    """
    train, validation = datasets.sample(dataset.train), datasets.sample(dataset.validation)
    say("writing the networks as graphs")
    networks = load(as_floats(train))

    def alike(model: Model) -> bool:
        """Counting its tables again on another machine could move a count."""
        codec = Codec(model)
        quality = codec.quality(None)
        y = codec.coding.dequantize(codec.quantize(validation, quality, effort=0), quality)
        return levels_apart(networks.opened[SYNTHESIS](y), codec.coding.synthesize(y)) <= 1

    earlier = previous(run, networks.weights_hash, alike)
    if earlier:
        say(f"keeping the tables of {earlier.path}, which has the same weights")
        qualities = earlier.qualities
    else:
        say(f"counting the symbols of {len(train):,} images for the tables of all qualities")
        qualities = _calibrate(networks, run.preset.step_width, train, say)
    say(f"checking the graphs against the trained networks on {len(validation):,} images")
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
    """Raises TrainingError unless the graphs give the trained networks' symbols and pixels.

    Pixels may differ by one level.
    """
    x, opened, trained = as_floats(pixels), networks.opened, networks.trained
    latents = trained[ANALYSIS](x)
    quantizer = qualities.quantizer(calibration.DEFAULT_QUALITY)
    found, expected = quantizer.quantize(opened[ANALYSIS](x)), quantizer.quantize(latents)
    scaled = (latents - quantizer.offset) / quantizer.step
    clear = np.abs(scaled - np.floor(scaled) - 0.5) > _BOUNDARY
    wrong = int(np.count_nonzero((found != expected) & clear))
    if wrong:
        raise TrainingError(f"the exported analysis differs in {wrong} of {found.size} symbols")
    y = quantizer.dequantize(expected)
    x_hat = trained[SYNTHESIS](y)
    check_pixels("synthesis", opened[SYNTHESIS](y), x_hat)
    if networks.gradient is not None:
        error = np.square(x - x_hat).sum(axis=(1, 2, 3))
        if not np.allclose(networks.gradient(y, x)[:, -1], error, rtol=1e-3, atol=1e-3):
            raise TrainingError("the gradient's squared error is not that of the trained synthesis")
    if DENOISER in opened:
        check_pixels("denoiser", opened[DENOISER](x), trained[DENOISER](x))


def _calibrate(networks: Networks, step_width: float, train: Pixels, say: Say) -> Qualities:
    x, synthesis = as_floats(train), networks.opened[SYNTHESIS]
    latents = networks.opened[ANALYSIS](x)
    step = (networks.widths * step_width).astype(np.float32)
    curvature = calibration.curvature(latents, step, synthesis)

    def choose(images: int, quantizer: Quantizer, bank: Bank) -> Symbols:
        model = quantizer, bank, np.arange(len(bank)), curvature, step.shape
        problem = search.Problem(*model, synthesis, networks.gradient)
        return search.search(x[:images], latents[:images], problem, DEFAULT_EFFORT)

    values = math.prod(networks.shape)
    return calibration.calibrate(latents, step, curvature, choose, values, say)


def _measure(codec: Codec, pixels: Pixels) -> Manifest:
    """The manifest with what validation images reach at each quality."""
    manifest, sample = codec.model.manifest, pixels[:_FLOOR_IMAGES]

    def floor(quality: int, effort: int) -> float:
        decoded = codec.synthesize(codec.quantize(sample, quality, effort), quality)
        return float(np.percentile(metrics.psnr(sample, decoded), _PERCENTILE))

    # Of the least effort and the default, so that neither falls short of it by itself: at high
    # quality a search betters the pictures, at low quality it may trade them for bytes.
    floors = [min(floor(q, effort) for effort in (0, DEFAULT_EFFORT)) for q in _MEASURED]
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


def from_keras(model: Any, run: Run, images: Floats, rotate: bool = False) -> Networks:
    """The networks of a trained `losses.Autoencoder`, whose weights are rounded to half precision.

    Args:
        model: the model.
        run: its run, whose folder keeps the rotation.
        images: float32 (n, h, w, c) in [0, 1] of the training set, for the widths of a posterior
            and the rotation.
        rotate: whether the latents become components between both halves.

    Raises:
        TrainingError: there are fewer latents or images than the preset wants components.
    """
    from cvae.training.export import layers

    weights_hash, preset = layers.prepare(model), run.preset
    widths, grid = np.ones(preset.latent_dim, np.float32), model.synthesis.input.shape[1:]
    if isinstance(model.analysis.output, list):  # mean and logarithm of the variance
        _, log_var = _predict(model.analysis, images)
        # The root of the mean posterior variance, in the latents' own unit.
        widths = np.sqrt(np.exp(log_var).mean(axis=0)).astype(np.float32)

    def latents(x: Floats) -> Floats:
        return _predict(model.analysis, x)[0].reshape(len(x), -1)

    def pictures(y: Floats) -> Floats:
        return _predict(model.synthesis, y.reshape(-1, *grid))[0].clip(0, 1)

    if not rotate:
        trained, graphs = {ANALYSIS: latents, SYNTHESIS: pictures}, _graphs(model, len(widths))
        return Networks(graphs, trained, preset.image_shape, widths, weights_hash)
    path = run.folder / ROTATION
    # Kept with the run: on another machine it would come out a little different.
    rotation = rotations.Rotation.load(path, weights_hash)
    if rotation is None:
        rotation = _fit(latents(images), model.synthesis, preset.latent_dim)
        rotation.save(path, weights_hash)
    graphs = _graphs(model, len(widths), rotation)
    if preset.noise:
        graphs[DENOISER] = layers.denoiser_graph(model.analysis, model.synthesis)
    trained = {
        ANALYSIS: lambda x: rotation.components(latents(x)),
        SYNTHESIS: lambda y: pictures(rotation.latents(y)),
        DENOISER: lambda x: pictures(latents(x)),
    }
    weights_hash = hashlib.sha256((weights_hash + rotation.digest()).encode()).hexdigest()
    return Networks(graphs, trained, preset.image_shape, widths, weights_hash)


def _fit(latents: Floats, network: Any, components: int) -> rotations.Rotation:
    from cvae.training.export import layers

    size, shape = latents.shape[1], network.output.shape[1:]
    graph = layers.synthesis_graph(network)
    synthesis = Network(graph, SYNTHESIS, [(size,)], shape)
    pull_back = Network(gradient.gradient(graph), GRADIENT, [(size,), shape], (size + 1,))
    return rotations.fit(latents, components, synthesis, lambda y, x: pull_back(y, x)[:, :-1])


def _graphs(
    model: Any, elements: int, rotation: rotations.Rotation | None = None
) -> dict[str, bytes]:
    """The graphs of a Keras model with so many latent elements."""
    from cvae.training.export import layers

    synthesis = layers.synthesis_graph(model.synthesis, rotation)
    graphs = {ANALYSIS: layers.analysis_graph(model.analysis, rotation), SYNTHESIS: synthesis}
    if not by_tangents(elements, math.prod(model.synthesis.output.shape[1:])):
        graphs[GRADIENT] = gradient.gradient(synthesis)
    return graphs


def _predict(network: Any, items: Floats) -> list[Floats]:
    """All outputs of a Keras network."""
    tensors = [*network.inputs, *network.outputs]
    values = max(math.prod(tensor.shape[1:]) for tensor in tensors)
    batch = max(1, min(1024, _BATCH_VALUES // values))
    found = network.predict(items, batch_size=batch, verbose=0)
    return [np.asarray(item) for item in (found if isinstance(found, list) else [found])]
