"""The pictures that a training run leaves beside its model."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cvae import denoising, sampling
from cvae.codec import Codec
from cvae.data import grids
from cvae.data.images import Pixels
from cvae.evaluation import noise, plots
from cvae.models.file import Model
from cvae.training import architectures, runs
from cvae.training.datasets import Dataset
from cvae.training.runs import Run

_SHOWN = 12  # images in a row
_ROWS = 4  # of samples
_SEED = 0
_MAPPED = 1000  # images whose latents are shown


def draw(run: Run, dataset: Dataset, path: Path) -> None:
    """Writes PNG files of the exported model at `path` to the run's folder.

    - `curves.png`: the losses by epoch
    - `denoised.png`: validation images, the same with noise, and denoised
    - `reconstructions.png`: validation images over their decoded ones
    - `samples.png`: samples of the model
    - `latents.png`: validation images at the two principal components of their latents

    The last two are of models of one size alone.
    """
    if history := runs.read_history(run):
        plots.loss_curves(history, run.folder / "curves.png")
    model = Model(path)
    shown = np.asarray(dataset.validation[:_SHOWN])
    zoom = grids.zoom_for(run.preset.image_shape)
    if sigma := run.preset.noise:
        noisy = np.stack([noise.add_noise(image, sigma, i) for i, image in enumerate(shown)])
        rows = [shown, noisy, denoising.denoise(model, noisy)]
        grids.image_grid(rows, run.folder / "denoised.png", zoom)
    if not architectures.of(run.preset).codes:
        return
    codec = Codec(model).sized(*shown.shape[1:3])
    quality = codec.quality(None)
    decoded = codec.synthesize(codec.quantize(shown, quality), quality)
    grids.image_grid([shown, decoded], run.folder / "reconstructions.png", zoom)
    if codec.any_size:
        return
    samples = np.split(sampling.sample(codec, _ROWS * _SHOWN, _SEED), _ROWS)
    grids.image_grid(samples, run.folder / "samples.png", zoom)
    mapped = np.asarray(dataset.validation[:_MAPPED])
    plots.latent_map(_flattened(codec, mapped), mapped, run.folder / "latents.png")


def _flattened(codec: Codec, pixels: Pixels) -> plots.Points:
    """The two principal components of the latents of images: (n, 2)."""
    latents = codec.latents(pixels)
    centred = latents - latents.mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    points = left[:, :2] * values[:2]
    # A single image or latent has only one component.
    return np.pad(points, ((0, 0), (0, 2 - points.shape[1])))
