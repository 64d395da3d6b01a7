"""From a preset to Keras networks: analysis and synthesis."""

from __future__ import annotations

from typing import NamedTuple

import keras
from keras import layers

from cvae.training.presets import Preset


class Networks(NamedTuple):
    """Both halves of a CVAE; images are float32 in [0, 1], shape (batch, h, w, c)."""

    analysis: keras.Model  # (batch, h, w, c) -> mean (batch, d), log-variance (batch, d)
    synthesis: keras.Model  # (batch, d) -> (batch, h, w, c)


def build_cvae(preset: Preset) -> Networks:
    """Stride-2 convolutions, a dense layer and two heads; mirrored with transposed convolutions."""
    height, width, channels = preset.image_shape
    reduction = 2 ** len(preset.filters)
    if height % reduction or width % reduction:
        raise ValueError(f"image sides must be multiples of {reduction}, found {height}x{width}")

    image = keras.Input(preset.image_shape, name="image")
    x = image
    for filters in preset.filters:
        x = layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.Flatten()(x)
    x = layers.Dense(preset.dense, activation="relu")(x)
    mean = layers.Dense(preset.latent_dim, name="mean")(x)
    log_var = layers.Dense(preset.latent_dim, name="log_var")(x)
    analysis = keras.Model(image, [mean, log_var], name="analysis")

    latents = keras.Input((preset.latent_dim,), name="latents")
    grid = (height // reduction, width // reduction, preset.filters[-1])
    x = layers.Dense(grid[0] * grid[1] * grid[2], activation="relu")(latents)
    x = layers.Reshape(grid)(x)
    for filters in reversed(preset.filters):
        x = layers.Conv2DTranspose(filters, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.Conv2DTranspose(channels, 3, padding="same", activation="sigmoid")(x)
    return Networks(analysis, keras.Model(latents, x, name="synthesis"))
