"""The architectures: what each needs to build, train and export, and which options it has.

Keras is imported by the methods that need it. A new architecture is one object in `ARCHITECTURES`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from cvae.errors import TrainingError
from cvae.training.preset import Preset

if TYPE_CHECKING:
    from cvae.data.images import Images
    from cvae.training.datasets import Dataset
    from cvae.training.export.codec import Networks
    from cvae.training.export.graph import Floats
    from cvae.training.export.made import Made
    from cvae.training.networks.losses import Perceptual, Trainable
    from cvae.training.runs import Run

# Images that show the first spread of the latents.
_DENSITY_IMAGES = 2000


class Architecture:
    """Networks that are trained by epochs with Keras, and coded by their latents."""

    closed_form = False  # fitted at once by numpy, without Keras
    codes = True  # it has latents, and is exported as a codec
    components = False  # latents are or start as principal components of the training images
    rotated = False  # its latents are rotated to components at export
    has_rate = True  # the loss weighs the distortion against a rate

    def __init__(self, builder: str = "", loss: str = "") -> None:
        """Names a function of `networks.builders` and a class of `networks.losses`."""
        self._builder, self._loss = builder, loss

    def refusal(self, preset: Preset, options: Collection[str]) -> str:
        """Why one of the given options of `cvae train` does not apply; empty if all do.

        `options` are names of the preset's fields where they change one; the preset has the changes.
        """
        if "latent_dim" in options and not self.codes:
            return f"{preset.name} is a denoiser, which has no latents"
        if "distortion_weight" in options and not (self.has_rate or preset.perceptual_weight):
            return f"{preset.name} has nothing that --distortion-weight would be weighed against"
        if "features" in options and not preset.perceptual_weight:
            return "--features takes effect only with a --perceptual-weight above 0"
        return ""

    def model(
        self, preset: Preset, seed: int = 0, perceptual: Perceptual | None = None
    ) -> Trainable:
        """The trainable model of a preset, uncompiled.

        Raises TrainingError when the networks do not fit the preset's sides or latents.
        """
        from cvae.training.networks import builders, losses

        try:
            networks = getattr(builders, self._builder)(preset)
        except ValueError as error:
            advice = "--size changes it"
            raise TrainingError(f"{error}", where=preset.name, advice=advice) from error
        model: Trainable = getattr(losses, self._loss)(networks, preset, seed, perceptual)
        return model

    def begin(self, model: Trainable, run: Run, train: Images) -> None:
        """Sets first weights that depend on the data."""

    def fit(self, run: Run, train: Images) -> None:
        """Fits the run to the training images, where that is done in closed form."""
        raise NotImplementedError

    def make(self, run: Run, dataset: Dataset, model: Any) -> Made:
        """What a model file is written from; the model is None where it was fitted in closed form.

        Raises TrainingError when the graphs differ from the trained networks.
        """
        from cvae.training.export import codec

        return codec.make(run, dataset, lambda images: self._networks(run, model, images))

    def _networks(self, run: Run, model: Any, images: Floats) -> Networks:
        """The trained networks of a codec and their graphs."""
        from cvae.training.export import codec

        return codec.from_keras(model, run, images, self.rotated)


class Residual(Architecture):
    """A linear codec, and networks that learn what it misses."""

    components = True

    def begin(self, model: Any, run: Run, train: Images) -> None:
        """Starts from the linear codec of the data."""
        from cvae.data import images
        from cvae.training import datasets
        from cvae.training.export import linear
        from cvae.training.networks import builders

        sample = datasets.sample(train)
        mean, basis = linear.components(sample, run.preset.latent_dim, str(run.folder))
        builders.start_from_components(model, mean, basis, run.preset.linear_step)
        x = images.as_floats(sample[:_DENSITY_IMAGES])
        model.density.fit(model.analysis.predict(x, verbose=0))


class PlainAutoencoder(Architecture):
    """An autoencoder without a rate, whose latents are rotated at export."""

    components = rotated = True
    has_rate = False


class Denoiser(Architecture):
    """A U-Net for images of any size, without latents."""

    codes = has_rate = False

    def make(self, run: Run, dataset: Dataset, model: Any) -> Made:
        from cvae.training.export import denoiser

        return denoiser.make(run, dataset, model)


class Linear(Architecture):
    """Principal components, fitted by numpy."""

    closed_form = components = True

    def refusal(self, preset: Preset, options: Collection[str]) -> str:
        if {*options} <= {"latent_dim"}:
            return ""
        return f"{preset.name} is fitted in closed form by numpy; its only option is --latents"

    def fit(self, run: Run, train: Images) -> None:
        from cvae.training.export import linear

        linear.fit(run, train)

    def _networks(self, run: Run, model: Any, images: Floats) -> Networks:
        from cvae.training.export import linear

        return linear.load(run)


ARCHITECTURES: dict[str, Architecture] = {
    "cvae": Architecture("build_cvae", "VariationalAutoencoder"),
    "residual": Residual("build_residual", "QuantizedAutoencoder"),
    "linear": Linear(),
    "autoencoder": PlainAutoencoder("build_autoencoder", "Autoencoder"),
    "vae": Architecture("build_vae", "VariationalAutoencoder"),
    "denoiser": Denoiser("build_denoiser", "Denoiser"),
}


def of(preset: Preset) -> Architecture:
    """The preset's architecture. Raises TrainingError when there is none of that name."""
    if preset.architecture in ARCHITECTURES:
        return ARCHITECTURES[preset.architecture]
    text = f"expected one of {', '.join(ARCHITECTURES)}, found {preset.architecture!r}"
    raise TrainingError(text, where=preset.name)
