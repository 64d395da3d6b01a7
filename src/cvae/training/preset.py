"""What a training recipe is, as data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal


@dataclass(frozen=True)
class GridSizes:
    """Channels of the entropy model of a grid; those of `photo`, unless a preset has others."""

    groups: tuple[int, ...] = (
        64,
        128,
        128,
    )  # coded together, in two stages each; all latents in sum
    # Within the networks of a group's stages, one pair a group.
    hidden: tuple[tuple[int, int], ...] = ((256, 160), (256, 160), (128, 96))
    features: int = 128  # of the hyper synthesis
    hyper: int = 64  # hyper latents
    hyper_sees: int = 192  # latents that hyper analysis looks at, the first ones
    hyper_hidden: int = 96  # within hyper analysis


@dataclass(frozen=True)
class LosslessSizes:
    """The network of a lossless model, and what it sees."""

    up: int = 5  # rows of the window above a pixel
    side: int = 5  # columns to each side
    predicts: bool = False  # sees differences from what a simple predictor says, and codes these
    placed: bool = True  # knows where in the picture it is; of models of one size
    hidden: tuple[int, int, int] = (128, 96, 64)  # two layers of all channels, one of each
    pictures: int = 256  # of which the pixels of a batch are taken
    # The share of batches whose crops are scaled down by two, as of pictures that were JPEG; any size only.
    halved: float = 0.0


@dataclass(frozen=True)
class Preset:
    """A named training recipe: networks, loss, optimizer and what calibration needs.

    The loss of one image is ``distortion_weight * D + R`` in nats, where ``D`` is summed over the
    pixels in [0, 1] and the rate ``R`` is the Kullback-Leibler divergence of the posterior from
    N(0, 1) (cvae, vae), that of the rounded latents under a learned density (residual), or nothing
    (autoencoder, denoiser). That of grid is said in `networks.grid`.
    """

    name: str
    summary: str
    dataset: str  # a public one that is downloaded (see `datasets`), or what to call that of --data
    image_shape: tuple[int, int, int]
    architecture: str = "cvae"  # a name in `architectures.ARCHITECTURES`
    latent_dim: int = 16  # coded latents; of an autoencoder, components after its rotation
    # autoencoder and vae: the layers of both networks in the words of `networks.chains`
    analysis: tuple[str, ...] = ()
    synthesis: tuple[str, ...] = ()
    filters: tuple[int, ...] = (32, 64)
    dense: int = 128  # cvae only
    # Channels of synthesis, by level: of the U-Net (residual), or from the latents on (grid).
    refine: tuple[int, ...] = ()
    grid: GridSizes = GridSizes()  # grid only
    lossless: LosslessSizes = LosslessSizes()  # lossless only; batches are of pixels, not of images
    linear_step: float = (
        0.2  # residual: step of the linear codec that training starts from, in pixels
    )
    distortion: Literal["bce", "mse"] = "mse"
    distortion_weight: float = 1.0
    noise: float = 0.0  # standard deviation, added to the input in pixel values; then clipped
    perceptual_weight: float = 0.0  # see `networks.features`
    features: str = "cifar10"
    batch_size: int = 128
    epochs: int = 50
    minutes: float = 0.0  # of training, whatever the epochs; 0: as many epochs as above
    learning_rate: float = 1e-3
    # Share of it where training goes on from learned weights: all of it would lead away from them.
    fine_tuning: float = 0.1
    # auto: mixed_bfloat16 where the machine has it, until training starts
    precision: Literal["float32", "mixed_bfloat16", "auto"] = "float32"
    # plateau: halved after 5 epochs without a better validation loss
    schedule: Literal["constant", "cosine", "plateau"] = "constant"
    warmup: int = 0  # of cosine: steps of a growing learning rate, at most a twentieth of all
    # The momentum of averaged weights, which are validated and exported; see `optimizer`. 0: the last.
    average: float = 0.0
    # Dropout acts in the first epochs, this share of them: it costs accuracy at the end.
    dropout_share: float = 1.0
    # Epochs without a better validation loss before training stops and exports the best; 0: never.
    patience: int = 0
    # Augmentation: flip (left to right), shift (by a pixel), brightness and contrast (by a tenth).
    augment: tuple[Literal["flip", "shift", "brightness", "contrast"], ...] = ()
    crop: int = 0  # the side of random square crops; 0 for whole images
    passes: int = 1  # how often an epoch sees each image
    steps: int = 0  # batches an epoch, whatever the passes; grid only
    # The quantization step at the default quality. Its unit: posterior widths (cvae, vae), the
    # integers that training rounded to (residual), or pixels in [0, 1] projected on orthonormal
    # vectors (linear; autoencoder after its rotation).
    step_width: float = 2.0

    def to_json(self) -> dict[str, Any]:
        """The preset as JSON types; `from_json` is its inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Any) -> Preset:
        """Raises ValueError when the values are not a preset's, or unknown fields are among them."""
        import msgspec  # here because `--help` does without

        preset = msgspec.convert(values, cls)
        if unknown := values.keys() - {field.name for field in fields(cls)}:
            raise ValueError(f"unknown fields: {', '.join(sorted(unknown)):.80}")
        return preset
