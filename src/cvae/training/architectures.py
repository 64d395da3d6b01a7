"""The architectures: what each needs to build, train and export, and which options it has.

Keras is imported by the methods that need it. A new architecture is one object in `ARCHITECTURES`.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cvae.errors import TrainingError
from cvae.training.preset import Preset

if TYPE_CHECKING:
    from cvae.data.images import Images
    from cvae.training.checkpoints import Machine
    from cvae.training.datasets import Dataset
    from cvae.training.export.codec import Networks as Exported
    from cvae.training.export.graph import Floats
    from cvae.training.export.model import Made, Report
    from cvae.training.networks.losses import Perceptual, Trainable
    from cvae.training.runs import Run

# Images that show the first spread of the latents.
_DENSITY_IMAGES = 2000


class Architecture:
    """Networks that are trained by epochs with Keras, and coded by their latents."""

    closed_form = False  # fitted at once by numpy, without Keras
    codes = True  # it has latents, and is exported as a codec
    components = False  # latents are or start as principal components of the training images
    has_rate = True  # the loss weighs the distortion against a rate

    def __init__(self, builder: str = "", loss: str = "") -> None:
        """Names a function of `networks.builders` and a class of `networks.losses`."""
        self._builder, self._loss = builder, loss

    def refusal(self, preset: Preset, options: Collection[str]) -> str:
        """Why one of the given options of `cvae train` does not apply; empty if all do.

        Args:
            preset: the recipe, with the options in place.
            options: their names, those of a preset's fields where they change one.
        """
        if "latent_dim" in options and not self.codes:
            return f"{preset.name} is a denoiser, which has no latents"
        if "distortion_weight" in options and not (self.has_rate or preset.perceptual_weight):
            return f"{preset.name} has nothing that --distortion-weight would be weighed against"
        if "features" in options and not preset.perceptual_weight:
            return "--features takes effect only with a --perceptual-weight above 0"
        return ""

    def check(self, preset: Preset) -> None:
        """Raises TrainingError when the networks do not fit the preset's sides or latents."""
        self.model(preset)

    def model(
        self, preset: Preset, seed: int = 0, perceptual: Perceptual | None = None
    ) -> Trainable:
        """The trainable model of a preset, uncompiled.

        Raises:
            TrainingError: the networks do not fit the preset's sides or latents.
        """
        from cvae.training.networks import builders, losses

        try:
            networks = getattr(builders, self._builder)(preset)
        except ValueError as error:
            advice = "--size changes it"
            raise TrainingError(f"{error}", where=preset.name, advice=advice) from error
        model: Trainable = getattr(losses, self._loss)(networks, preset, seed, perceptual)
        return model

    def build(self, run: Run, train_images: int, machine: Machine | None = None) -> Trainable:
        """See `checkpoints.build`."""
        from cvae.training import checkpoints

        return checkpoints.build(self.model, run, train_images, machine)

    def load(self, run: Run, machine: Machine | None = None) -> Trainable:
        """See `checkpoints.load`."""
        from cvae.training import checkpoints

        return checkpoints.load(self.model, run, machine)

    def start(self, run: Run, train: Images, machine: Machine) -> Trainable:
        """The model as training starts, with the weights of the run that it fine-tunes, if any.

        Raises:
            TrainingError: that run has other networks.
        """
        model = self.build(run, len(train), machine)
        if not run.begin:
            self._begin(model, run, train)
            return model
        from cvae.training.runs import Run

        begun = Run.open(Path(run.begin))
        try:
            model.set_weights(of(begun.preset).load(begun).get_weights())
        except ValueError as error:
            raise TrainingError(
                f"--fine-tune {run.begin}: expected the networks of {run.preset.name}, found those "
                f"of {begun.preset.name}: {error}"
            ) from error
        return model

    def fit(self, run: Run, train: Images) -> None:
        """Fits the run to the training images, where that is done in closed form."""
        raise NotImplementedError

    def export(
        self,
        run: Run,
        dataset: Dataset,
        name: str | None = None,
        output: Path | None = None,
        force: bool = False,
    ) -> Report:
        """Makes the model file of a run, see `export.model.export`."""
        from cvae.training.export import model

        return model.export(self._make, run, dataset, name, output, force)

    def _begin(self, model: Trainable, run: Run, train: Images) -> None:
        """Sets first weights that depend on the data."""

    def _make(self, run: Run, dataset: Dataset) -> Made:
        from cvae.training.export import codec

        return codec.make(run, dataset, lambda images: self._networks(run, images))

    def _networks(self, run: Run, images: Floats) -> Exported:
        """The trained networks of a codec and their graphs."""
        from cvae.training.export import codec

        return codec.from_keras(self._trained(run), run.preset, images)

    def _trained(self, run: Run) -> Any:
        """The trained model, computing in float32."""
        from cvae.training import backend

        backend.whole_precision()
        return self.load(run)


class Residual(Architecture):
    """A linear codec, and networks that learn what it misses."""

    components = True

    def _begin(self, model: Any, run: Run, train: Images) -> None:
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

    components, has_rate = True, False

    def _networks(self, run: Run, images: Floats) -> Exported:
        from cvae.training.export import codec

        return codec.rotated(self._trained(run), run, images)


class Denoiser(Architecture):
    """A U-Net for images of any size, without latents."""

    codes = has_rate = False

    def _make(self, run: Run, dataset: Dataset) -> Made:
        from cvae.training.export import denoiser

        return denoiser.make(run, dataset, self._trained(run))


class Linear(Architecture):
    """Principal components, fitted by numpy."""

    closed_form = components = True

    def refusal(self, preset: Preset, options: Collection[str]) -> str:
        if not {*options} - {"latent_dim"}:
            return ""
        return (
            f"{preset.name} is fitted in closed form by numpy; it has --latents but no other option"
        )

    def check(self, preset: Preset) -> None:
        """Fits all sides."""

    def fit(self, run: Run, train: Images) -> None:
        from cvae.training.export import linear

        linear.fit(run, train)

    def _networks(self, run: Run, images: Floats) -> Exported:
        from cvae.training.export import linear

        return linear.load(run)


ARCHITECTURES: dict[str, Architecture] = {
    "cvae": Architecture("build_cvae", "VariationalAutoencoder"),
    "residual": Residual("build_residual", "QuantizedAutoencoder"),
    "linear": Linear(),
    "autoencoder": PlainAutoencoder("build_autoencoder", "PlainAutoencoder"),
    "vae": Architecture("build_vae", "VariationalAutoencoder"),
    "denoiser": Denoiser("build_denoiser", "Denoiser"),
}


def of(preset: Preset) -> Architecture:
    """The preset's architecture. Raises TrainingError when there is none of that name."""
    try:
        return ARCHITECTURES[preset.architecture]
    except KeyError:
        raise TrainingError(
            f"expected one of {', '.join(ARCHITECTURES)}, found {preset.architecture!r}",
            where=preset.name,
        ) from None
