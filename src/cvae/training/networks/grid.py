"""Networks for images of any size, and the training of all of them together; backend-neutral.

Latents `y` lie on a grid of 16x16 pixels each. Analysis and synthesis begin as principal components of
such blocks, to which networks add what is missing. The entropy model has hyper latents `z` (Balle et
al. 2018, arXiv:1802.01436) and codes `y` group by group of channels (He et al. 2022,
arXiv:2203.10886), each in the two stages of a checkerboard (He et al. 2021, arXiv:2103.15306); in a
stage a network of whole numbers gives mean and scale of each latent from all that was coded before.
One model serves all qualities: it is trained on steps of all sizes, with gains of each channel (Cui et
al. 2021, arXiv:2003.02012).
"""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers, ops

from cvae.kinds.context import (
    CLASS_SHIFT,
    CLASSES,
    FINENESS,
    HYPER_SCALE,
    MEAN_SHIFT,
    USUAL_CLASS,
)
from cvae.kinds.exactnet import MOST
from cvae.kinds.grid import CELL
from cvae.training.networks.exact import Exact, companded, rounded
from cvae.training.networks.losses import Trainable
from cvae.training.preset import GridSizes, Preset

CHANNELS = 3
SCALE_LEAST, SCALE_MOST = 0.11, 256.0  # standard deviations of the first and last class, in steps
LINEAR = "linear"  # the layers that begin as principal components
KNOTS = 9  # levels between which gains are interpolated

# Bits of rate that the mean of the squared errors in 8-bit levels is worth, at levels 0 and 1; see `weights`.
LAMBDA_LEAST, LAMBDA_MOST, LAMBDA_UNIT = 0.0006, 0.5, 0.013


def lagrangian(level: Any) -> Any:
    """The weight of the distortion at levels in [0, 1]."""
    return LAMBDA_LEAST * (LAMBDA_MOST / LAMBDA_LEAST) ** level


def step(level: Any) -> Any:
    """The step of all channels without gains; its square goes with the slope of rate and distortion."""
    return (LAMBDA_UNIT / lagrangian(level)) ** 0.5


class GridNetworks(NamedTuple):
    """See the functions that build them. Images are float32 (n, h, w, 3) in [0, 1], sides multiples of 16."""

    analysis: keras.Model
    synthesis: keras.Model
    hyper_analysis: keras.Model
    hyper_synthesis: list[Exact]
    stages: list[list[Exact]]


def build(preset: Preset) -> GridNetworks:
    """Raises ValueError when the sizes of the preset do not belong together."""
    sizes, latents, stages = preset.grid, preset.latent_dim, list[list[Exact]]()
    _check(sizes, latents)
    for number in range(2 * len(sizes.groups)):
        hidden, known = sizes.hidden[number // 2], context(sizes.groups, number)
        stage = [
            Exact(hidden[0], 1, *(side for _, side in known), bits=8, name=f"stage{number}a"),
            Exact(hidden[1], 1, name=f"stage{number}b"),
            Exact(2 * sizes.groups[number // 2], 1, last=True, name=f"stage{number}c"),
        ]
        stage[0].make(sizes.features + 1, *(channels for channels, _ in known))
        stage[1].make(hidden[0])
        stage[2].make(hidden[1])
        stages.append(stage)
    hyper = [
        Exact(4 * sizes.hyper, 3, name="hyper0"),
        Exact(4 * sizes.hyper, 3, name="hyper1"),
        Exact(sizes.features, 3, name="hyper2"),
    ]
    for layer, level in zip(hyper, (1, 0, 0), strict=True):
        layer.make(sizes.hyper + level)
    return GridNetworks(
        _analysis(latents, preset.filters, preset.precision),
        _synthesis(latents, preset.refine, preset.precision),
        _hyper_analysis(sizes), hyper, stages,
    )  # fmt: skip


def _check(sizes: GridSizes, latents: int) -> None:
    if sum(sizes.groups) != latents or len(sizes.hidden) != len(sizes.groups):
        found = f"groups {sizes.groups} of hidden {sizes.hidden}"
        raise ValueError(f"expected groups of {latents} latents in sum, found {found}")
    if sizes.hyper_sees > latents:
        raise ValueError(f"expected to see at most {latents} latents, found {sizes.hyper_sees}")


def context(groups: tuple[int, ...], stage: int) -> list[tuple[int, int]]:
    """What a stage sees of earlier ones: channels, and the side of what is around a latent.

    These are all groups before its own and, in the second half of a checkerboard, the first half.
    """
    group, turn = divmod(stage, 2)
    before = [(channels, 1 if group > 1 else 3) for channels in groups[:group]]
    return before + ([(groups[group], 3 if group else 5)] if turn else [])


def _analysis(latents: int, wide: tuple[int, ...], precision: str) -> keras.Model:
    """Images -> latents (n, h / 16, w / 16, c)."""
    image = keras.Input((None, None, CHANNELS), name="image")
    linear = _conv(image, latents, CELL, LINEAR, strides=CELL)
    x = _conv(image, wide[0], 8, "cells", precision, strides=4)
    x = _blocks(x, 2, "quarter", precision)
    x = _conv(x, wide[1], 4, "down0", precision, strides=2)
    x = _blocks(x, 2, "eighth", precision)
    x = _conv(x, wide[2], 4, "down1", precision, strides=2)
    x = _blocks(x, 2, "sixteenth", precision)
    x = _conv(x, latents, 1, "last", precision, kernel_initializer="zeros")
    return keras.Model(image, _sum(linear, x), name="analysis")


def _synthesis(latents: int, wide: tuple[int, ...], precision: str) -> keras.Model:
    """Latents and, in one more channel, the level -> images, not clipped."""
    given = keras.Input((None, None, latents + 1), name="latents")
    # As cells of 4x4 pixels, at a quarter of the resolution.
    linear = _shuffle(_conv(given, CELL * CELL * CHANNELS, 1, LINEAR), 4)
    x = _conv(given, wide[0], 3, "enter", precision, activation="relu")
    x = _blocks(x, 2, "sixteenth", precision)
    x = _shuffle(_conv(x, 4 * wide[1], 1, "up0", precision), 2)
    x = _blocks(x, 3, "eighth", precision)
    x = _shuffle(_conv(x, 4 * wide[2], 1, "up1", precision), 2)
    x = _sum(x, _conv(linear, wide[2], 3, "cells", precision), precision)
    x = _blocks(x, 2, "quarter", precision)
    x = _conv(x, 4 * 4 * CHANNELS, 3, "last", precision, kernel_initializer="zeros")
    return keras.Model(given, _shuffle(_sum(linear, x), 4), name="synthesis")


def _hyper_analysis(sizes: GridSizes) -> keras.Model:
    """Companded latents in steps and, in one more channel, the level -> hyper latents, not rounded."""
    given = keras.Input((None, None, sizes.hyper_sees + 1), name="steps")
    x = _conv(given, sizes.hyper_hidden, 3, "hyper_in", activation="relu")
    x = _conv(x, sizes.hyper_hidden, 4, "hyper_down0", strides=2, activation="relu")
    z = _conv(x, sizes.hyper, 4, "hyper_down1", strides=2)
    return keras.Model(given, z, name="hyper_analysis")


def _conv(
    x: Any, filters: int, size: int, name: str, precision: str = "float32", **options: Any
) -> Any:
    return layers.Conv2D(filters, size, padding="same", name=name, dtype=precision, **options)(x)


def _blocks(x: Any, count: int, name: str, precision: str) -> Any:
    """Residual blocks without normalization."""
    for block in range(count):
        y = _conv(x, x.shape[-1], 3, f"{name}{block}a", precision, activation="relu")
        y = _conv(y, x.shape[-1], 3, f"{name}{block}b", precision)
        x = layers.Activation("relu", dtype=precision)(_sum(x, y, precision))
    return x


def _sum(x: Any, y: Any, precision: str = "float32") -> Any:
    return layers.Add(dtype=precision)([x, y])


def _shuffle(x: Any, side: int) -> Any:
    return Shuffle(side, dtype=x.dtype)(x)


class Shuffle(layers.Layer):
    """Channels (row, column, channel) as cells of pixels: (h, w, b b c) -> (b h, b w, c)."""

    def __init__(self, side: int, **options: Any) -> None:
        super().__init__(**options)
        self.side = side

    def call(self, x: Any) -> Any:
        return ops.depth_to_space(x, self.side, data_format="channels_last")


class GridAutoencoder(Trainable):
    """All networks; `call` returns decoded images, their rates in nats and their levels.

    The loss of an image is what `lagrangian` says over the rate that is usual at its level, so that
    all qualities count alike. While training, levels are drawn at random, noise stands for rounding in
    the rate, and rounded latents go on (Minnen, Singh 2020, arXiv:2007.08739); otherwise all is rounded
    and levels take turns. Of what is shown while it trains, the distortion is the mean squared error in
    8-bit levels, and the rate is in bits per pixel.
    """

    def __init__(self, networks: GridNetworks, preset: Preset, seed: int) -> None:
        super().__init__(preset, seed, dtype="float32")
        self.analysis, self.synthesis, self.hyper_analysis = networks[:3]
        self.hyper_synthesis, self.stages = networks.hyper_synthesis, networks.stages
        self.latents, self.sizes = preset.latent_dim, preset.grid
        zeros = {"initializer": "zeros", "dtype": "float32"}
        self.gains = self.add_weight(shape=(KNOTS, self.latents), name="gains", **zeros)
        # Of the logistic distributions of the hyper latents: location and logarithm of the scale at
        # level 0, and their slopes.
        self.hyper_density = self.add_weight(
            shape=(4, self.sizes.hyper), name="hyper_density", **zeros
        )
        self.built = True

    def steps(self, level: Any) -> Any:
        """Levels (n,) -> steps of the channels (n, 1, 1, c)."""
        place = ops.expand_dims(level * (KNOTS - 1), -1)
        near = ops.maximum(0.0, 1.0 - ops.abs(place - ops.arange(KNOTS, dtype="float32")))
        gain = ops.exp(ops.matmul(near, self.gains))
        return ops.reshape(ops.expand_dims(step(level), -1) * gain, (-1, 1, 1, self.latents))

    def draw_levels(self, n: Any, training: bool) -> Any:
        if not training:
            return (ops.cast(ops.arange(n) % 5, "float32") + 1.0) / 6.0
        t = keras.random.uniform((n,), seed=self.noise)
        usual = 0.15 + 0.55 * keras.random.uniform((n,), seed=self.noise)
        return ops.where(keras.random.uniform((n,), seed=self.noise) < 0.7, usual, t)

    def call(self, x: Any, training: bool = False) -> tuple[Any, Any, Any]:
        x = _in_unit_range(x)
        level = self.draw_levels(ops.shape(x)[0], training)
        steps = self.steps(level)
        y = self.analysis(x) / steps
        plane = ops.zeros_like(y[..., :1]) + ops.reshape(level, (-1, 1, 1, 1))
        y_hat, rates = self.code(y, plane, training)
        x_hat = self.synthesis(ops.concatenate([y_hat * steps, plane], -1))
        return x_hat, rates, level

    def code(self, y: Any, plane: Any, training: bool) -> tuple[Any, Any]:
        """Latents in steps and levels -> rounded latents, and nats (n,)."""
        seen = y[..., : self.sizes.hyper_sees]
        z = self.hyper_analysis(ops.concatenate([ops.arcsinh(seen / 2.0), plane], -1))
        density = self.hyper_density
        t = plane[:, :1, :1]
        rates = self._nats(
            z, density[0] + t * density[1], 0.5 * ops.exp(density[2] + t * density[3]), training
        )
        rates = ops.sum(rates, (1, 2, 3))
        z = rounded(z)
        known = ops.round(plane * MOST)
        features = ops.concatenate([self.hyper_features(z, known, ops.shape(y)), known], -1)
        even = _checkerboard(y)
        parts = ops.split(y, list(accumulate(self.sizes.groups[:-1])), axis=-1)
        known_groups: list[Any] = []
        decoded = []
        for group, part in enumerate(parts):
            here = None
            for turn, mask in enumerate((even, 1.0 - even)):
                seen = [*known_groups, companded(here) * even] if turn else known_groups
                mean, scale = self.parameters(2 * group + turn, [features, *seen])
                nats = self._nats(part - mean, 0.0, scale * (math.sqrt(3) / math.pi), training)
                rates = rates + ops.sum(nats * mask, (1, 2, 3))
                value = (rounded(part - mean) + mean) * mask
                here = value if here is None else here + value
            decoded.append(here)
            known_groups.append(companded(here))
        return ops.concatenate(decoded, -1), rates

    def hyper_features(self, z: Any, known: Any, shape: Any) -> Any:
        """Rounded hyper latents -> activations (n, h, w, features)."""
        first, second, third = self.hyper_synthesis
        x = ops.clip(float(HYPER_SCALE) * z, -MOST, MOST)
        level = known[:, :1, :1] + ops.zeros_like(x[..., :1])
        x = ops.depth_to_space(
            first(ops.concatenate([x, level], -1)), 2, data_format="channels_last"
        )
        x = ops.depth_to_space(second(x), 2, data_format="channels_last")
        return third(x[:, : shape[1], : shape[2]])

    def parameters(self, number: int, known: list[Any]) -> tuple[Any, Any]:
        """Mean and standard deviation in steps of the latents of a stage, from what is known."""
        first, second, last = self.stages[number]
        x = last(second(first(*known)))
        half = last.filters // 2
        mean = rounded(x[..., :half] * 2.0**-MEAN_SHIFT) / FINENESS
        place = ops.clip(x[..., half:] * 2.0**-CLASS_SHIFT + USUAL_CLASS, 0, CLASSES - 1)
        return mean, SCALE_LEAST * ops.exp(
            place * (math.log(SCALE_MOST / SCALE_LEAST) / (CLASSES - 1))
        )

    def _nats(self, y: Any, location: Any, scale: Any, training: bool) -> Any:
        """-log of the probability of a logistic distribution within half a step of each value."""
        y = y - location
        y = (
            y + keras.random.uniform(ops.shape(y), -0.5, 0.5, seed=self.noise)
            if training
            else ops.round(y)
        )
        return -(
            ops.log_sigmoid((y + 0.5) / scale)
            + ops.log_sigmoid((0.5 - y) / scale)
            + ops.log(-ops.expm1(-1.0 / scale) + 1e-9)
        )

    def compute_loss(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None, training: bool = True
    ) -> Any:
        x_hat, rates, level = y_pred
        x = _in_unit_range(x)
        x_hat = x_hat if training else ops.clip(x_hat, 0, 1)
        pixels = ops.cast(ops.shape(x)[1] * ops.shape(x)[2], "float32")
        mse = ops.mean(ops.square(x - x_hat), (1, 2, 3)) * 255.0**2
        bits = rates / (math.log(2) * pixels)
        self.distortion_tracker.update_state(mse)
        self.rate_tracker.update_state(bits)
        weight = lagrangian(level)
        usual = 0.57 * (weight / LAMBDA_UNIT) ** 0.45
        return ops.mean((weight * mse + bits) / usual) / self.replicas


def _in_unit_range(x: Any) -> Any:
    """Images of bytes, or of floats in [0, 1] -> float32 in [0, 1]."""
    scale = 255.0 if keras.backend.is_int_dtype(x.dtype) else 1.0
    return ops.cast(x, "float32") / scale


def _checkerboard(y: Any) -> Any:
    """1 where row + column is even, else 0: (h, w, 1)."""
    rows, columns = ops.arange(ops.shape(y)[1]), ops.arange(ops.shape(y)[2])
    even = (ops.expand_dims(rows, 1) + columns + 1) % 2
    return ops.cast(ops.expand_dims(even, -1), "float32")


def start_from_components(model: GridAutoencoder, mean: Any, basis: Any) -> None:
    """Makes both linear paths principal components of blocks: mean (768,), basis (768, c), orthonormal."""
    unit = 45.0 / 255.0  # the step that suits them at the level of LAMBDA_UNIT
    kernel = (basis / unit).reshape(CELL, CELL, CHANNELS, -1).astype(np.float32)
    model.analysis.get_layer(LINEAR).set_weights([kernel, -mean @ basis / unit])

    # Pixels (row, column, channel) -> (row of cells, column of cells, row, column, channel).
    def cells(x: Any) -> Any:
        x = x.reshape(-1, 4, 4, 4, 4, CHANNELS)
        return x.transpose(0, 1, 3, 2, 4, 5).reshape(len(x), -1)

    backward = np.concatenate([cells(basis.T * unit), np.zeros((1, len(mean)))])
    model.synthesis.get_layer(LINEAR).set_weights([
        backward[np.newaxis, np.newaxis].astype(np.float32), cells(mean[np.newaxis])[0],
    ])  # fmt: skip
