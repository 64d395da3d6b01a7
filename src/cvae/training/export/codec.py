"""What makes a codec of trained networks: graphs that agree with them, counted tables, measured floors."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from cvae import kinds
from cvae.bitstream.tables import Bank, Symbols
from cvae.codec import Codec
from cvae.data import metrics
from cvae.data.images import Pixels, as_floats
from cvae.errors import ModelError, TrainingError
from cvae.evaluation import noise
from cvae.kinds import search
from cvae.models.file import ANALYSIS, DENOISER, GRADIENT, SUFFIX, SYNTHESIS, Manifest, Model
from cvae.models.networks import Network
from cvae.models.qualities import QUALITIES, Qualities, Quantizer
from cvae.options import DEFAULT_EFFORT
from cvae.training import datasets
from cvae.training.datasets import Dataset
from cvae.training.export import calibration
from cvae.training.export.exported import Exported, Floats, Made
from cvae.training.export.naming import WEIGHTS
from cvae.training.runs import Run

# Symbols may differ where a latent lies so near to a rounding boundary, in steps.
_BOUNDARY = 1e-4
# Qualities whose expected PSNR is measured; it is interpolated between them.
_MEASURED = [1, *range(10, 101, 10)]
_PERCENTILE = 1.0
_MEASURED_IMAGES, _FLOOR_IMAGES = 2000, 1000


def make(run: Run, dataset: Dataset) -> Made:
    """Graphs and tables of a run; those of an earlier export of the same weights where they still fit.

    Raises:
        TrainingError: no epoch of the run has finished, or the graphs differ from the networks.
    """
    train, validation = datasets.sample(dataset.train), datasets.sample(dataset.validation)
    networks = _load(run, as_floats(train))
    previous = _previous(run, networks, validation)
    bank = previous.qualities if previous else _calibrate(run, networks, train)
    check(networks, bank, validation)
    graphs = {ANALYSIS: networks.analysis_graph, SYNTHESIS: networks.synthesis_graph}
    if networks.gradient_graph is not None:
        graphs[GRADIENT] = networks.gradient_graph
    if networks.denoiser_graph is not None:
        graphs[DENOISER] = networks.denoiser_graph
    return Made(
        graphs=graphs,
        bank=bank,
        weights_hash=networks.weights_hash,
        previous=previous,
        fields={
            "latent_shape": (run.preset.latent_dim,),
            "default_quality": calibration.DEFAULT_QUALITY,
            "expected_psnr": (0.0,) * len(QUALITIES),
        },
        measure=lambda model: _measure(Codec(model), validation[:_MEASURED_IMAGES]),
    )


def check(networks: Exported, bank: Qualities, pixels: Pixels) -> None:
    """The graphs must give the trained networks' symbols, and their pixels within one level.

    Raises:
        TrainingError: they do not.
    """
    x = as_floats(pixels)
    latents = networks.analysis(x)
    quantizer = bank.quantizer(calibration.DEFAULT_QUALITY)
    analysis = _analysis(networks, x.shape[1:])
    found, expected = quantizer.quantize(analysis(x)), quantizer.quantize(latents)
    scaled = (latents - quantizer.offset) / quantizer.step
    clear = np.abs(scaled - np.floor(scaled) - 0.5) > _BOUNDARY
    wrong = int(np.count_nonzero((found != expected) & clear))
    if wrong:
        raise TrainingError(f"the exported analysis differs in {wrong} of {found.size} symbols")
    y = quantizer.dequantize(expected)
    synthesis = _synthesis(networks, x.shape[1:])
    apart = _levels_apart(synthesis(y), networks.synthesis(y))
    if apart > 1:
        raise TrainingError(f"the exported synthesis differs by {apart} levels, expected at most 1")
    gradient = _gradient(networks, x.shape[1:])
    if gradient is not None:
        error = np.square(x - networks.synthesis(y)).sum(axis=(1, 2, 3))
        if not np.allclose(gradient(y, x)[:, -1], error, rtol=1e-3, atol=1e-3):
            raise TrainingError("the gradient's squared error is not that of the trained synthesis")
    if networks.denoiser_graph is not None and networks.denoiser is not None:
        shape = x.shape[1:]
        denoiser = Network(networks.denoiser_graph, DENOISER, [shape], shape)
        apart = _levels_apart(denoiser(x), networks.denoiser(x))
        if apart > 1:
            raise TrainingError(
                f"the exported denoiser differs by {apart} levels, expected at most 1"
            )


def _load(run: Run, train: Floats) -> Exported:
    if run.preset.architecture == "linear":
        from cvae.training.export import linear

        return linear.load(run)
    from cvae.training.export import networks as keras_export

    return keras_export.load(run, train)


def _previous(run: Run, networks: Exported, pixels: Pixels) -> Model | None:
    """An earlier export of the same networks, if this one decodes its files to the same pictures.

    Its id and tables then stay; counting them again on another machine could move a count.
    """
    synthesis = _synthesis(networks, run.preset.image_shape)
    for path in sorted(run.folder.glob(f"*{SUFFIX}")):
        try:
            model = Model(path)
            if model.manifest.hashes.get(WEIGHTS) != networks.weights_hash:
                continue
            codec = Codec(model)
            quality = codec.quality(None)
            symbols = codec.quantize(pixels, quality, effort=0)
            y = model.qualities.quantizer(quality).dequantize(symbols)
            if _levels_apart(synthesis(y), codec.coding.synthesize(y)) <= 1:
                return model
        except ModelError:
            continue  # damaged: it is made anew
    return None


def _calibrate(run: Run, networks: Exported, train: Pixels) -> Qualities:
    shape = run.preset.image_shape
    x = as_floats(train)
    latents = _analysis(networks, shape)(x)
    synthesis, gradient = _synthesis(networks, shape), _gradient(networks, shape)
    step = (networks.widths * run.preset.step_width).astype(np.float32)
    curvature = calibration.curvature(latents, step, synthesis)

    def choose(images: int, quantizer: Quantizer, bank: Bank) -> Symbols:
        rows, elements = np.arange(len(bank)), networks.widths.shape
        problem = search.Problem(quantizer, bank, rows, curvature, elements, synthesis, gradient)
        return search.search(x[:images], latents[:images], problem, DEFAULT_EFFORT)

    return calibration.calibrate(latents, step, curvature, choose, math.prod(shape))


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
            x_hat = codec.synthesize(symbols, quality)
            psnr = metrics.psnr(pixels[:_FLOOR_IMAGES], x_hat)
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


def _analysis(networks: Exported, shape: tuple[int, ...]) -> Network:
    return Network(networks.analysis_graph, ANALYSIS, [shape], networks.widths.shape)


def _synthesis(networks: Exported, shape: tuple[int, ...]) -> Network:
    return Network(networks.synthesis_graph, SYNTHESIS, [networks.widths.shape], shape)


def _gradient(networks: Exported, shape: tuple[int, ...]) -> search.Gradient | None:
    if networks.orthonormal:
        return search.orthonormal_gradient(_analysis(networks, shape), _synthesis(networks, shape))
    if networks.gradient_graph is None:
        return None
    inputs = [networks.widths.shape, shape]
    return Network(networks.gradient_graph, GRADIENT, inputs, (len(networks.widths) + 1,))


def _levels_apart(a: Floats, b: Floats) -> int:
    """The largest difference of two sets of images in [0, 1], in levels of 8 bits."""
    return int(np.abs(np.rint(a * 255) - np.rint(b * 255)).max())
