"""From a preset to Keras networks: analysis and synthesis, or a denoiser.

A builder raises ValueError when the preset's sides do not fit.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

from cvae.errors import TrainingError
from cvae.training.networks.chains import chain
from cvae.training.preset import Preset


class Networks(NamedTuple):
    """Both halves of an autoencoder; images are float32 in [0, 1], shape (batch, h, w, c)."""

    # (batch, h, w, c) -> latents (batch, d) or a grid; with heads for a posterior: mean, log-variance
    analysis: keras.Model
    synthesis: keras.Model  # latents -> (batch, h, w, c)


def build_cvae(preset: Preset) -> Networks:
    """Stride-2 convolutions, a dense layer and two heads; mirrored with transposed convolutions."""
    reduction = 2 ** len(preset.filters)
    _check_sides(preset, reduction)
    image = keras.Input(preset.image_shape, name="image")
    x = layers.Flatten()(_downward(preset, image))
    x = layers.Dense(preset.dense, activation="relu", name="dense")(x)
    heads = [layers.Dense(preset.latent_dim, name=name)(x) for name in ("mean", "log_var")]

    height, width, channels = preset.image_shape
    grid = (height // reduction, width // reduction, preset.filters[-1])
    latents = keras.Input((preset.latent_dim,), name="latents")
    x = layers.Dense(math.prod(grid), activation="relu", name="dense")(latents)
    x = layers.Reshape(grid)(x)
    up = layers.Conv2DTranspose
    for number, filters in enumerate(reversed(preset.filters)):
        x = _conv(x, filters, kind=up, strides=2, activation="relu", name=f"up{number}")
    x = _conv(x, channels, kind=up, activation="sigmoid", name="last")
    return _networks(preset, image, heads, latents, x)


def build_residual(preset: Preset) -> Networks:
    """A linear codec and networks that learn what it misses, added up on both sides.

    Synthesis corrects the linear codec's picture with a small U-Net (Ronneberger, Fischer, Brox 2015,
    arXiv:1505.04597) of residual blocks (He et al. 2016, arXiv:1512.03385); its output is not
    confined to [0, 1]. The last layers start at zero, so that after `start_from_components` training
    starts from the linear codec.
    """
    _check_sides(preset, 2 ** max(len(preset.filters), len(preset.refine)))
    image = keras.Input(preset.image_shape, name="image")
    x = layers.Flatten()(_downward(preset, image))
    x = layers.Dense(preset.latent_dim, kernel_initializer="zeros", name="mean")(x)
    linear = layers.Dense(preset.latent_dim, name="linear")(layers.Flatten()(image))
    y = layers.Add()([x, linear])

    latents = keras.Input((preset.latent_dim,), name="latents")
    linear = layers.Dense(math.prod(preset.image_shape), name="linear")(latents)
    linear = layers.Reshape(preset.image_shape)(linear)
    x = layers.Activation("relu")(_level(linear, preset.refine, 0))
    x = _conv(x, 4 * preset.image_shape[2], kernel_initializer="zeros", name="last")
    return _networks(preset, image, y, latents, layers.Add()([linear, DepthToSpace()(x)]))


def build_autoencoder(preset: Preset) -> Networks:
    """The preset's chains of layers; the first one's output are the latents."""
    image = keras.Input(preset.image_shape, name="image")
    y = chain(preset.analysis, image, preset.image_shape)
    latents = keras.Input(y.shape[1:], name="latents")
    x = chain(preset.synthesis, latents, preset.image_shape)
    most = math.prod(y.shape[1:])
    if preset.latent_dim > most:
        raise TrainingError(
            f"expected at most {most} as --latents, found {preset.latent_dim}", where=preset.name
        )
    return _networks(preset, image, y, latents, x)


def build_vae(preset: Preset) -> Networks:
    """The preset's chains of layers, with two heads after the first one."""
    image = keras.Input(preset.image_shape, name="image")
    x = layers.Flatten()(chain(preset.analysis, image, preset.image_shape))
    mean = layers.Dense(preset.latent_dim, name="mean")(x)
    log_var = layers.Dense(preset.latent_dim, name="log_var", kernel_initializer="zeros")(x)
    latents = keras.Input((preset.latent_dim,), name="latents")
    x = chain(preset.synthesis, latents, preset.image_shape)
    return _networks(preset, image, [mean, log_var], latents, x)


def build_denoiser(preset: Preset) -> keras.Model:
    """A U-Net of any size (Ronneberger et al. 2015, arXiv:1505.04597): noisy images -> clean ones.

    Each of `filters` is a level of two convolutions with batch normalization; pooling leads to
    the next. Sides must be multiples of 2 to the power of (levels - 1).
    """
    # Training takes square crops of the images, validation whole ones.
    _check_sides(preset, 2 ** (len(preset.filters) - 1), preset.crop)
    image = keras.Input((None, None, preset.image_shape[2]), name="image")
    x, skips = image, []
    for filters in preset.filters[:-1]:
        x = chain((f"conv {filters} norm",) * 2, x, preset.image_shape)
        skips.append(x)
        x = chain(("pool",), x, preset.image_shape)
    x = chain((f"conv {preset.filters[-1]} norm",) * 2, x, preset.image_shape)
    for skip in reversed(skips):
        x = layers.Concatenate()([layers.UpSampling2D(2)(x), skip])
        x = chain((f"conv {skip.shape[-1]} norm",) * 2, x, preset.image_shape)
    return keras.Model(image, _conv(x, preset.image_shape[2]), name="denoiser")


def start_from_components(
    networks: Any, mean: NDArray[np.float32], basis: NDArray[np.float32], step: float
) -> None:
    """Makes the linear path of `build_residual` a linear codec whose quantization step is one.

    `mean` (n,) is that of the flattened images, `basis` (n, d) has orthonormal columns, `step` is
    the linear codec's own, in pixel values.
    """
    networks.analysis.get_layer("linear").set_weights([basis / step, -mean @ basis / step])
    networks.synthesis.get_layer("linear").set_weights([basis.T * step, mean])


class SpaceToDepth(layers.Layer):
    """Cells of 2x2 pixels as channels, (row, column, channel): (h, w, c) -> (h / 2, w / 2, 4 c)."""

    def call(self, x: Any) -> Any:
        height, width, channels = x.shape[1:]
        x = ops.reshape(x, (-1, height // 2, 2, width // 2, 2, channels))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        return ops.reshape(x, (-1, height // 2, width // 2, 4 * channels))


class DepthToSpace(layers.Layer):
    """The inverse of `SpaceToDepth`: (h, w, 4 c) -> (2 h, 2 w, c)."""

    def call(self, x: Any) -> Any:
        height, width, channels = x.shape[1:]
        x = ops.reshape(x, (-1, height, width, 2, 2, channels // 4))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        return ops.reshape(x, (-1, 2 * height, 2 * width, channels // 4))


def _networks(preset: Preset, image: Any, outputs: Any, latents: Any, x: Any) -> Networks:
    if x.shape[1:] != preset.image_shape:
        raise ValueError(f"expected synthesis to give {preset.image_shape}, found {x.shape[1:]}")
    analysis = keras.Model(image, outputs, name="analysis")
    return Networks(analysis, keras.Model(latents, x, name="synthesis"))


def _check_sides(preset: Preset, multiple: int, least: int = 0) -> None:
    height, width, _ = preset.image_shape
    if height % multiple or width % multiple or min(height, width) < least:
        limit = f" and at least {least}" if least else ""
        raise ValueError(
            f"expected images whose sides are multiples of {multiple}{limit}, found {width}x{height}"
        )


def _conv(x: Any, filters: int, size: int = 3, kind: Any = layers.Conv2D, **options: Any) -> Any:
    return kind(filters, size, padding="same", **options)(x)


def _downward(preset: Preset, x: Any) -> Any:
    """Images -> the smallest grid."""
    for number, filters in enumerate(preset.filters):
        x = _conv(x, filters, strides=2, activation="relu", name=f"down{number}")
    return x


def _level(x: Any, filters: tuple[int, ...], number: int) -> Any:
    """A level of the U-Net: half the resolution of `x`, with the coarser levels inside."""
    size = 3 if number == 0 else 1
    x = _conv(SpaceToDepth()(x), filters[0], size, activation="relu", name=f"enter{number}")
    x = _block(x, f"before{number}")
    if len(filters) == 1:
        return x
    coarse = _level(x, filters[1:], number + 1)
    coarse = _conv(coarse, 4 * filters[0], 1, name=f"leave{number + 1}")
    return _block(layers.Add()([x, DepthToSpace()(coarse)]), f"after{number}")


def _block(x: Any, name: str) -> Any:
    """A residual block without normalization."""
    y = _conv(x, x.shape[-1], activation="relu", name=f"{name}a")
    return layers.Add()([x, _conv(y, x.shape[-1], name=f"{name}b")])
