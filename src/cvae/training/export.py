"""A finished run -> `NAME.cvae`: graphs checked against the trained networks, calibrated, measured."""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import cvae
from cvae import files, metrics, registry, search
from cvae.bank import QUALITIES, Bank
from cvae.codec import DEFAULT_EFFORT, Codec
from cvae.errors import ModelError, TrainingError
from cvae.images import Pixels, as_floats
from cvae.model import (
    ANALYSIS,
    GRADIENT,
    SUFFIX,
    SYNTHESIS,
    TABLES,
    Manifest,
    Model,
    is_name,
    member_hashes,
    write_model,
)
from cvae.networks import Network
from cvae.quantizer import Quantizer
from cvae.tables import Symbols, Tables
from cvae.training import calibration
from cvae.training.datasets import Dataset, sample
from cvae.training.exported import Exported, Floats
from cvae.training.runs import Run

WEIGHTS = "weights"  # the key under which a manifest keeps the trained networks' hash

# Symbols may differ where a latent lies so near to a rounding boundary, in steps.
_BOUNDARY = 1e-4
# Qualities whose expected PSNR is measured; it is interpolated between them.
_MEASURED = [1, *range(10, 101, 10)]
_PERCENTILE = 1.0
_MEASURED_IMAGES, _FLOOR_IMAGES = 2000, 1000
_PACKAGES = ["keras", "tensorflow", "jax", "numpy", "onnx", "onnxruntime"]


@dataclass(frozen=True)
class Report:
    """What an export found out; all figures are of validation images."""

    model: Path
    manifest: Manifest
    kept_id: bool


def export(
    run: Run,
    dataset: Dataset,
    name: str | None = None,
    output: Path | None = None,
    force: bool = False,
) -> Report:
    """Makes the model file of a run and checks it before it is written.

    Args:
        run: a finished training run.
        dataset: the data that it was trained on; the tables are counted on it.
        name: the model's name; None for the preset's, or the next free `NAME-2`.
        output: the file to write; None for `NAME.cvae` in the run's folder.
        force: overwrite a file that exists, if it is not an earlier export of the same weights.

    Raises:
        OutputError: the file exists and `force` is off, or cannot be written.
        TrainingError: no epoch of the run has finished, the data is not what it was trained on, or
            the graphs differ from the trained networks.
    """
    if dataset.describe()["sha256"] != run.data["sha256"]:
        raise TrainingError(
            f"{run.folder}: expected the data it was trained on ({run.data['name']}, "
            f"{run.data['train']} images), found other images"
        )
    check_name(name, run.folder)
    networks = _load(run, dataset)
    validation = sample(dataset.validation)
    previous = _previous(run, networks, validation)
    bank = previous.bank if previous else _calibrate(run, networks, dataset)
    check(networks, bank, validation)

    if name is None:
        taken = registry.known_models()[0] + registry.models_in(run.folder)[0]
        name = previous.manifest.name if previous else free_name(run.preset.name, taken)
    output = output or run.folder / f"{name}{SUFFIX}"
    again = previous is not None and output.resolve() == previous.path.resolve()
    files.check_writable(output, force or again)

    graphs = {ANALYSIS: networks.analysis_graph, SYNTHESIS: networks.synthesis_graph}
    if networks.gradient_graph is not None:
        graphs[GRADIENT] = networks.gradient_graph
    manifest = Manifest(
        id=previous.manifest.id if previous else new_id(networks, bank),
        name=name,
        image_shape=run.preset.image_shape,
        latent_shape=(run.preset.latent_dim,),
        default_quality=calibration.DEFAULT_QUALITY,
        expected_psnr=(0.0,) * len(QUALITIES),
        hashes={**member_hashes(graphs, bank), WEIGHTS: networks.weights_hash},
        summary=run.preset.summary,
        preset=run.preset.to_json(),
        data=run.data,
        versions=_versions(),
    )
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / f"draft{SUFFIX}"
        write_model(draft, manifest, graphs, bank, True)
        manifest = _measure(Codec(Model(draft)), validation[:_MEASURED_IMAGES])
    write_model(output, manifest, graphs, bank, force or again)
    return Report(output, manifest, previous is not None)


def check(networks: Exported, bank: Bank, pixels: Pixels) -> None:
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


def new_id(networks: Exported, bank: Bank) -> int:
    """16 bits of a hash over weights and tables, moved on while a known model has that id.

    Not over the graphs, which may get faster and stay the same model.
    """
    weights = networks.weights_hash
    # What decoding depends on; the curvature is for the search alone.
    tables = {name: digest for name, digest in bank.hashes().items() if name != "curvature"}
    ours = {WEIGHTS: weights, **{f"{TABLES}/{name}": digest for name, digest in tables.items()}}
    # A known model with these weights and tables is this one, made again.
    known = [entry.manifest for entry in registry.known_models()[0]]
    taken = {manifest.id for manifest in known if not ours.items() <= manifest.hashes.items()}
    text = json.dumps([weights, tables], sort_keys=True)
    model_id = int(hashlib.sha256(text.encode()).hexdigest()[:4], 16)
    while model_id in taken:
        model_id = (model_id + 1) % (1 << 16)
    return model_id


def check_name(name: str | None, folder: Path) -> None:
    """Raises TrainingError when a model's name would be mistaken for a path or another model."""
    if name is None:
        return
    if not is_name(name) or name.endswith(SUFFIX):
        raise TrainingError(
            f"--name: expected letters, digits and . _ + - without {SUFFIX}, found {name!r}"
        )
    for path, manifest in registry.known_models()[0]:
        if manifest.name == name and path.resolve().parent != folder.resolve():
            raise TrainingError(f"--name: {name!r} is the name of another model, {path}")


def free_name(name: str, models: list[registry.Entry]) -> str:
    """`name`, or `name-2`, `name-3`, ... where one of the models has it already."""
    taken = {entry.manifest.name for entry in models} | {entry.path.stem for entry in models}
    number = 1
    candidate = name
    while candidate in taken:
        number += 1
        candidate = f"{name}-{number}"
    return candidate


def _load(run: Run, dataset: Dataset) -> Exported:
    if run.preset.architecture == "linear":
        from cvae.training import linear

        return linear.load(run)
    from cvae.training import keras_export

    return keras_export.load(run, as_floats(sample(dataset.train)))


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
            y = model.bank.quantizer(quality).dequantize(symbols)
            if _levels_apart(synthesis(y), model.synthesis(y)) <= 1:
                return model
        except ModelError:
            continue  # damaged: it is made anew
    return None


def _calibrate(run: Run, networks: Exported, dataset: Dataset) -> Bank:
    shape = run.preset.image_shape
    x = as_floats(sample(dataset.train))
    latents = _analysis(networks, shape)(x)
    synthesis, gradient = _synthesis(networks, shape), _gradient(networks, shape)
    step = (networks.widths * run.preset.step_width).astype(np.float32)
    curvature = calibration.curvature(latents, step, synthesis)

    def choose(images: int, quantizer: Quantizer, tables: Tables) -> Symbols:
        problem = search.Problem(
            quantizer, tables, curvature, networks.widths.shape, synthesis, gradient
        )
        return search.search(x[:images], latents[:images], problem, DEFAULT_EFFORT)

    return calibration.calibrate(latents, step, curvature, choose)


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
    return replace(manifest, expected_psnr=tuple(expected.tolist()), figures=figures)


def _analysis(networks: Exported, shape: tuple[int, ...]) -> Network:
    return Network(networks.analysis_graph, ANALYSIS, [shape], networks.widths.shape)


def _synthesis(networks: Exported, shape: tuple[int, ...]) -> Network:
    return Network(networks.synthesis_graph, SYNTHESIS, [networks.widths.shape], shape)


def _gradient(networks: Exported, shape: tuple[int, ...]) -> Network | None:
    if networks.gradient_graph is None:
        return None
    inputs = [networks.widths.shape, shape]
    return Network(networks.gradient_graph, GRADIENT, inputs, (len(networks.widths) + 1,))


def _levels_apart(a: Floats, b: Floats) -> int:
    """The largest difference of two sets of images in [0, 1], in levels of 8 bits."""
    return int(np.abs(np.rint(a * 255) - np.rint(b * 255)).max())


def _versions() -> dict[str, str]:
    keras = sys.modules.get("keras")
    backend = keras.backend.backend() if keras else "none"
    versions = {"cvae": cvae.__version__, "backend": backend}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions
