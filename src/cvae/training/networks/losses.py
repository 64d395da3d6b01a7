"""The trainable Keras models, rate and distortion; all of it backend-neutral (`keras.ops`)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from cvae.training import backend
from cvae.training.networks.builders import Networks
from cvae.training.preset import Preset

# Of the gradient of pixels beyond [0, 1], so that they can return.
_SLOPE = 0.1
# Two batches of images (batch, h, w, c) -> the difference of their features (batch,).
Perceptual = Callable[[Any, Any], Any]


def squared_error(x: Any, x_hat: Any) -> Any:
    """Squared error summed over the pixels of each image: (batch, h, w, c) twice -> (batch,)."""
    return ops.sum(ops.square(x - x_hat), axis=(1, 2, 3))


def cross_entropy(x: Any, x_hat: Any) -> Any:
    """Binary cross-entropy in nats summed over the pixels of each image: -> (batch,)."""
    return ops.sum(ops.binary_crossentropy(x, x_hat), axis=(1, 2, 3))


def kl_divergence(mean: Any, log_var: Any) -> Any:
    """KL(N(mean, exp(log_var)) || N(0, 1)) in nats: (batch, d) twice -> (batch,).

    Kingma & Welling 2014, arXiv:1312.6114, appendix B.
    """
    return 0.5 * ops.sum(ops.square(mean) + ops.exp(log_var) - 1.0 - log_var, axis=1)


DISTORTIONS = {"mse": squared_error, "bce": cross_entropy}


class Trainable(keras.Model):
    """`distortion_weight * distortion + rate` in nats, averaged over the batch.

    `call` of a subclass returns the decoded images (batch, h, w, c) and their rates (batch,). The
    preset's noise is added to its input, the preset's perceptual loss to the distortion.
    """

    def __init__(
        self, preset: Preset, seed: int, perceptual: Perceptual | None = None, **options: Any
    ) -> None:
        super().__init__(name=preset.name.replace("-", "_"), **options)
        self.distortion = DISTORTIONS[preset.distortion]
        self.distortion_weight = preset.distortion_weight
        self.noise_level = preset.noise
        self.perceptual = perceptual
        self.noise = keras.random.SeedGenerator(seed)
        self.replicas = backend.replicas()
        self.distortion_tracker = keras.metrics.Mean(name="distortion")
        self.rate_tracker = keras.metrics.Mean(name="rate")
        if perceptual is not None:
            self.perceptual_weight = preset.perceptual_weight
            self.perceptual_tracker = keras.metrics.Mean(name="perceptual")

    def disturbed(self, x: Any) -> Any:
        """The images with the preset's noise, within [0, 1]."""
        if not self.noise_level:
            return x
        noise = keras.random.normal(ops.shape(x), dtype=x.dtype, seed=self.noise)
        return ops.clip(x + self.noise_level * noise, 0, 1)

    def compute_loss(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None, training: bool = True
    ) -> Any:
        # Half precision is too coarse for sums of so many terms.
        x_hat, rates = (ops.cast(value, "float32") for value in y_pred)
        distortion = self.distortion(x, x_hat)
        # One value an image, so that a smaller last batch has its own weight.
        self.distortion_tracker.update_state(distortion)
        self.rate_tracker.update_state(rates)
        loss = self.distortion_weight * distortion + rates
        if self.perceptual is not None:
            difference = self.perceptual(x, x_hat)
            self.perceptual_tracker.update_state(difference)
            loss = loss + self.perceptual_weight * difference
        # Gradients are summed over the devices, and each takes the mean of its own part.
        return ops.mean(loss) / self.replicas


class Autoencoder(Trainable):
    """Analysis and synthesis, without a rate; subclasses have one, and other latents."""

    def __init__(self, networks: Networks, *settings: Any) -> None:
        super().__init__(*settings)
        self.analysis, self.synthesis = networks

    def code(self, outputs: Any, training: bool) -> Any:
        """The outputs of analysis -> the latents (batch, d) for synthesis."""
        return outputs

    def rate(self, outputs: Any, y: Any) -> Any:
        """The rate of the latents in nats: (batch,)."""
        return ops.zeros((ops.shape(y)[0],))

    def call(self, x: Any, training: bool = False) -> tuple[Any, Any]:
        outputs = self.analysis(self.disturbed(x), training=training)
        y = self.code(outputs, training)
        return self.synthesis(y, training=training), self.rate(outputs, y)


class Denoiser(Trainable):
    """A network from noisy images to clean ones of any size, without latents."""

    def __init__(self, network: keras.Model, *settings: Any) -> None:
        super().__init__(*settings)
        self.network = network

    def call(self, x: Any, training: bool = False) -> tuple[Any, Any]:
        x_hat = self.network(self.disturbed(x), training=training)
        return x_hat, ops.zeros((ops.shape(x)[0],))


class VariationalAutoencoder(Autoencoder):
    """The rate is the KL divergence from N(0, 1).

    Latents are sampled from the posterior while training, and are its means otherwise.
    """

    def code(self, outputs: Any, training: bool) -> Any:
        mean, log_var = outputs
        if not training:
            return mean
        noise = keras.random.normal(ops.shape(mean), dtype=mean.dtype, seed=self.noise)
        return mean + ops.exp(0.5 * log_var) * noise

    def rate(self, outputs: Any, y: Any) -> Any:
        # Near zero it is a small difference of large terms, too small for half precision.
        return kl_divergence(*(ops.cast(output, "float32") for output in outputs))


class QuantizedAutoencoder(Autoencoder):
    """The rate is that of latents rounded to integers, under a learned density of each element.

    Uniform noise stands for rounding while training (Balle, Laparra, Simoncelli 2017,
    arXiv:1611.01704); otherwise latents are rounded.
    """

    def __init__(self, networks: Networks, preset: Preset, *settings: Any) -> None:
        super().__init__(networks, preset, *settings)
        self.density = Density()
        self.density.build((None, preset.latent_dim))

    def code(self, outputs: Any, training: bool) -> Any:
        if not training:
            return ops.round(outputs)
        shape, dtype = ops.shape(outputs), outputs.dtype
        return outputs + keras.random.uniform(shape, -0.5, 0.5, dtype=dtype, seed=self.noise)

    def rate(self, outputs: Any, y: Any) -> Any:
        return self.density(y)

    def call(self, x: Any, training: bool = False) -> tuple[Any, Any]:
        x_hat, rates = super().call(x, training)
        clipped = ops.clip(x_hat, 0, 1)
        return (clipped + _SLOPE * (x_hat - clipped) if training else clipped), rates


class Density(keras.layers.Layer):
    """Mixtures of logistic distributions, one for each latent element: (batch, d) -> nats (batch,)."""

    # Where the components of a mixture lie, in scales.
    _SPREAD = np.linspace(-1, 1, 3)
    # The least probability, so that a latent far out has a finite rate.
    _FLOOR = 1e-7

    def __init__(self) -> None:
        super().__init__(name="density", dtype="float32")

    def build(self, input_shape: tuple[int | None, int]) -> None:
        shape = (input_shape[1], len(self._SPREAD))
        start = keras.initializers.Constant(self._SPREAD)
        self.log_weight = self.add_weight(shape=shape, initializer="zeros", name="log_weight")
        self.location = self.add_weight(shape=shape, initializer=start, name="location")
        self.log_scale = self.add_weight(shape=shape, initializer="zeros", name="log_scale")

    def fit(self, latents: NDArray[np.float32]) -> None:
        """Sets location and scale from latents (n, d)."""
        # The standard deviation of a logistic distribution is its scale times pi / sqrt(3).
        scale = np.maximum(latents.std(axis=0) * math.sqrt(3) / math.pi, 0.1)[:, np.newaxis]
        location = latents.mean(axis=0)[:, np.newaxis] + scale * self._SPREAD
        self.location.assign(location)
        self.log_scale.assign(np.broadcast_to(np.log(scale), location.shape))

    def call(self, y: Any) -> Any:
        y = ops.expand_dims(y, -1)
        inverse = ops.exp(-self.log_scale)
        # On the side where both sigmoids are small, so that their difference is exact.
        side = ops.where(ops.stop_gradient(y) > ops.stop_gradient(self.location), -1.0, 1.0)
        upper = ops.sigmoid(side * (y + 0.5 - self.location) * inverse)
        lower = ops.sigmoid(side * (y - 0.5 - self.location) * inverse)
        weight = ops.softmax(self.log_weight, axis=-1)
        p = ops.sum(weight * ops.abs(upper - lower), axis=-1)
        return -ops.sum(ops.log(ops.maximum(p, self._FLOOR)), axis=-1)
