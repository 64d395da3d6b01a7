"""Training recipes as data. Adding a model means adding a constant here."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from cvae.errors import TrainingError


@dataclass(frozen=True)
class Preset:
    """A named training recipe: networks, loss, optimizer and what calibration needs.

    The loss of one image is ``distortion_weight * D + R`` in nats, where ``D`` is summed over the
    pixels in [0, 1] and the rate ``R`` is the Kullback-Leibler divergence of the posterior from
    N(0, 1) (cvae), or that of the rounded latents under a learned density (residual).
    """

    name: str
    summary: str
    dataset: Literal["mnist", "fashion_mnist", "cifar10", "tiles"]  # tiles only by --data
    image_shape: tuple[int, int, int]
    architecture: Literal["cvae", "residual", "linear"] = "cvae"
    latent_dim: int = 16
    filters: tuple[int, ...] = (32, 64)
    dense: int = 128  # cvae only
    refine: tuple[int, ...] = ()  # residual only: channels of the U-Net in synthesis, by level
    # residual: the step of the linear codec that training starts from, in pixel values
    linear_step: float = 0.2
    distortion: Literal["bce", "mse"] = "mse"
    distortion_weight: float = 1.0
    batch_size: int = 128
    epochs: int = 50
    learning_rate: float = 1e-3
    schedule: Literal["constant", "cosine"] = "constant"
    # What each epoch sees the images through: flip (left to right), shift (by a pixel).
    augment: tuple[Literal["flip", "shift"], ...] = ()
    # The quantization step at the default quality: in posterior widths (cvae), in the integers
    # that training rounded to (residual), or in the latents' own unit, pixels in [0, 1] projected
    # on orthonormal vectors (linear).
    step_width: float = 2.0

    def to_json(self) -> dict[str, Any]:
        """The preset as JSON types; `from_json` is its inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Preset:
        known = {field.name for field in fields(cls)}
        if set(values) - known:
            raise TrainingError(f"preset has unknown fields: {sorted(set(values) - known)}")
        # JSON has no tuples.
        restored: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
        return cls(**restored)


MNIST_CVAE = Preset(
    name="mnist-cvae",
    summary="16 latents, the textbook CVAE: cross-entropy + KL",
    dataset="mnist",
    image_shape=(28, 28, 1),
    distortion="bce",
)

MNIST = Preset(
    name="mnist",
    summary="16 latents, trained for coding: weighted squared error + KL",
    dataset="mnist",
    image_shape=(28, 28, 1),
    distortion="mse",
    distortion_weight=25.0,
    epochs=120,
    learning_rate=2e-3,
    schedule="cosine",
    step_width=3.6,
)

FASHION = replace(
    MNIST,
    name="fashion",
    summary="the networks and recipe of mnist, for Fashion-MNIST",
    dataset="fashion_mnist",
)

MNIST_HQ = Preset(
    name="mnist-hq",
    summary="96 latents from a linear codec and a network on top, for pictures close to the original",
    dataset="mnist",
    image_shape=(28, 28, 1),
    architecture="residual",
    latent_dim=96,
    refine=(48, 64),
    distortion_weight=195.0,
    epochs=30,
    learning_rate=2e-3,
    schedule="cosine",
    step_width=1.25,
)

FASHION_HQ = replace(
    MNIST_HQ,
    name="fashion-hq",
    summary="the networks of mnist-hq with 128 latents, for Fashion-MNIST",
    dataset="fashion_mnist",
    latent_dim=128,
    distortion_weight=160.0,
)

CIFAR = replace(
    MNIST_HQ,
    name="cifar",
    summary="the networks of mnist-hq with 192 latents, for CIFAR-10 in colour",
    dataset="cifar10",
    image_shape=(32, 32, 3),
    latent_dim=192,
    distortion_weight=42.0,
    linear_step=0.4,
    learning_rate=1e-3,
    epochs=80,
    augment=("flip",),
    step_width=1.0,
)

TILES = replace(
    CIFAR,
    name="tiles",
    summary="the networks of cifar with 128 latents, for the drawn 32x32 tiles of a game",
    dataset="tiles",
    latent_dim=128,
    epochs=60,
    augment=("flip", "shift"),
)

LINEAR_MNIST = Preset(
    name="linear-mnist",
    summary="400 principal components: what a network has to beat",
    dataset="mnist",
    image_shape=(28, 28, 1),
    architecture="linear",
    latent_dim=400,
    step_width=0.6,  # the middle of the range in which codecs are compared
)

LINEAR_FASHION = replace(
    LINEAR_MNIST,
    name="linear-fashion",
    summary="400 principal components of Fashion-MNIST",
    dataset="fashion_mnist",
)

LINEAR_CIFAR = replace(
    LINEAR_MNIST,
    name="linear-cifar",
    summary="192 principal components of CIFAR-10, as many as cifar has latents",
    dataset="cifar10",
    image_shape=(32, 32, 3),
    latent_dim=192,
    step_width=0.5,
)

LINEAR_TILES = replace(
    LINEAR_CIFAR,
    name="linear-tiles",
    summary="128 principal components of the tiles",
    dataset="tiles",
    latent_dim=128,
)

# Trains in seconds on a few hundred 8x8 images; only for tests.
TINY = Preset(
    name="tiny",
    summary="for tests only: 8x8 images, 4 latents",
    dataset="mnist",
    image_shape=(8, 8, 1),
    latent_dim=4,
    filters=(4, 8),
    dense=16,
    distortion_weight=30.0,
    batch_size=32,
    epochs=30,
    learning_rate=1e-2,
    schedule="cosine",
)

TINY_HQ = replace(
    TINY,
    name="tiny-hq",
    summary="for tests only: 8x8 images, 40 latents, residual",
    architecture="residual",
    latent_dim=40,
    refine=(8, 8),
    distortion_weight=200.0,
    learning_rate=2e-3,
    epochs=8,
    augment=("flip", "shift"),
    linear_step=0.2,
    step_width=1.0,
)

PRESETS = {
    preset.name: preset
    for preset in (
        MNIST, MNIST_HQ, MNIST_CVAE, FASHION, FASHION_HQ, CIFAR, TILES,
        LINEAR_MNIST, LINEAR_FASHION, LINEAR_CIFAR, LINEAR_TILES, TINY, TINY_HQ,
    )
}  # fmt: skip


def get(name: str) -> Preset:
    """The preset of that name. Raises TrainingError, which lists the names there are."""
    try:
        return PRESETS[name]
    except KeyError:
        raise TrainingError(
            f"no preset {name!r}; there are: {', '.join(sorted(PRESETS))}"
        ) from None
