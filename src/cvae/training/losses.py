"""The variational autoencoder as a trainable Keras model; its loss is backend-neutral (`keras.ops`)."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from cvae.training.architectures import Networks
from cvae.training.presets import Preset


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


class VariationalAutoencoder(keras.Model):
    """`distortion_weight * distortion + KL`, averaged over the batch.

    Latents are sampled from the posterior while training, and are its means otherwise.
    """

    def __init__(self, networks: Networks, preset: Preset, seed: int) -> None:
        super().__init__(name=preset.name.replace("-", "_"))
        self.analysis = networks.analysis
        self.synthesis = networks.synthesis
        self.distortion = DISTORTIONS[preset.distortion]
        self.distortion_weight = preset.distortion_weight
        self.noise = keras.random.SeedGenerator(seed)
        self.distortion_tracker = keras.metrics.Mean(name="distortion")
        self.kl_tracker = keras.metrics.Mean(name="kl")

    def call(self, x: Any, training: bool = False) -> tuple[Any, Any, Any]:
        mean, log_var = self.analysis(x, training=training)
        y = mean
        if training:
            noise = keras.random.normal(ops.shape(mean), seed=self.noise)
            y = mean + ops.exp(0.5 * log_var) * noise
        return self.synthesis(y, training=training), mean, log_var

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        x_hat, mean, log_var = y_pred
        distortion = ops.mean(self.distortion(x, x_hat))
        kl = ops.mean(kl_divergence(mean, log_var))
        self.distortion_tracker.update_state(distortion)
        self.kl_tracker.update_state(kl)
        return self.distortion_weight * distortion + kl
