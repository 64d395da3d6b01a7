"""The architectures: what each needs to build, train and export, and which options it has.

Keras is imported by the methods that need it. A new architecture is one object in `ARCHITECTURES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from cvae.errors import TrainingError, translated
from cvae.training.preset import Preset

if TYPE_CHECKING:
    import keras

    from cvae.data.images import Images
    from cvae.data.photos import Photos
    from cvae.models.file import Model
    from cvae.training.datasets import Dataset
    from cvae.training.export.codec import Networks
    from cvae.training.export.graph import Floats
    from cvae.training.export.made import Made, Say
    from cvae.training.networks.losses import Perceptual, Trainable
    from cvae.training.runs import Run

# Images that show the first spread of the latents.
_DENSITY_IMAGES = 2000
_VALIDATION_VALUES = 1 << 21  # of a batch of images to validate


class Architecture:
    """Networks that are trained by epochs with Keras, and coded by their latents."""

    closed_form = False  # fitted at once by numpy, without Keras
    codes = True  # it has latents, and is exported as a codec
    components = False  # latents are or start as principal components of the training images
    rotated = False  # its latents are rotated to components at export
    restores = ""  # the kind of model files that weights can be read back out of
    has_rate = True  # the loss weighs the distortion against a rate
    reads: Literal["crop", "own"] = "crop"  # how a folder is read, see `data.reading`

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
        if "model_file" in options and not self.restores:
            others = " and ".join(name for name, kind in ARCHITECTURES.items() if kind.restores)
            return (
                f"{preset.name} starts from the folder of a run as --fine-tune; weights are read back"
                f" out of model files of {others} alone"
            )
        if {"epochs", "minutes"} <= {*options}:
            return "--minutes takes the place of --epochs: give one of them"
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

    def shape(self, preset: Preset) -> tuple[int | None, ...]:
        """That of a batch, which the networks are built for."""
        sides = (preset.crop, preset.crop) if preset.crop else preset.image_shape[:2]
        return None, *sides, preset.image_shape[2]

    def begin(self, model: Trainable, run: Run, train: Images) -> None:
        """Sets first weights that depend on the data."""

    def restore(self, model: Trainable, source: Model) -> None:
        """Sets all weights, of float32, to those of a model file of the kind that it `restores`.

        Raises TrainingError when the file has other networks.
        """
        raise NotImplementedError

    def batches(
        self, run: Run, train: Images, epoch: int, devices: int
    ) -> AbstractContextManager[keras.utils.PyDataset]:
        """The batches of an epoch, counted from 0: a function of the run's seed and the epoch."""
        from cvae.training.batches import Batches

        preset = run.preset
        return nullcontext(Batches(
            train, preset.batch_size, (run.seed, epoch), preset.augment, preset.crop,
            preset.passes, devices,
        ))  # fmt: skip

    def validation(self, run: Run, images: Images, devices: int) -> keras.utils.PyDataset:
        """The batches of images that an epoch ends with."""
        from cvae.training.batches import Batches

        batch = max(1, min(1000, _VALIDATION_VALUES // math.prod(run.preset.image_shape)))
        return Batches(images, batch, devices=devices)

    def fit(self, run: Run, train: Images) -> None:
        """Fits the run to the training images, where that is done in closed form."""
        raise NotImplementedError

    def make(self, run: Run, dataset: Dataset, model: Any, say: Say) -> Made:
        """What a model file is written from; the model is None where it was fitted in closed form.

        Raises TrainingError when the graphs differ from the trained networks.
        """
        from cvae.training.export import codec

        return codec.make(run, dataset, lambda images: self._networks(run, model, images), say)

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

    def make(self, run: Run, dataset: Dataset, model: Any, say: Say) -> Made:
        from cvae.training.export import denoiser

        return denoiser.make(run, dataset, model, say)


class Linear(Architecture):
    """Principal components, fitted by numpy."""

    closed_form = components = True

    def refusal(self, preset: Preset, options: Collection[str]) -> str:
        if {*options} <= {"latent_dim", "size", "grey", "cropped"}:
            return ""
        return f"{preset.name} is fitted in closed form by numpy; its only option is --latents"

    def fit(self, run: Run, train: Images) -> None:
        from cvae.training.export import linear

        linear.fit(run, train)

    def _networks(self, run: Run, model: Any, images: Floats) -> Networks:
        from cvae.training.export import linear

        return linear.load(run)


class Grid(Architecture):
    """A codec for images of any size, trained on random crops of pictures at their own sizes."""

    reads = "own"
    restores = "grid"

    def refusal(self, preset: Preset, options: Collection[str]) -> str:
        if found := _refused(preset, options):
            return found
        for name in ("latent_dim", "distortion_weight", "perceptual_weight", "features"):
            if name in options:
                option = "--latents" if name == "latent_dim" else f"--{name.replace('_', '-')}"
                return (
                    f"{preset.name} is one model for all qualities, which {option} does not change"
                )
        return super().refusal(preset, options)

    def model(
        self, preset: Preset, seed: int = 0, perceptual: Perceptual | None = None
    ) -> Trainable:
        import keras

        from cvae.training.networks import grid

        policy = keras.config.dtype_policy().name
        # It says itself which layers may be of half precision.
        keras.config.set_dtype_policy("float32")
        try:
            with translated(TrainingError, "its sizes do not fit", preset.name, ValueError):
                networks = grid.build(replace(preset, precision=policy))
            return grid.GridAutoencoder(networks, preset, seed)
        finally:
            keras.config.set_dtype_policy(policy)

    def begin(self, model: Any, run: Run, train: Images) -> None:
        """Starts from principal components of blocks of the training pictures."""
        from cvae.kinds.grid import CELL
        from cvae.training import crops
        from cvae.training.export.rotation import leading_eigenvectors
        from cvae.training.networks import grid

        mean, covariance = crops.blocks(_photos(train, run), CELL)
        _, basis = leading_eigenvectors(covariance, run.preset.latent_dim)
        grid.start_from_components(model, mean, basis)

    def restore(self, model: Trainable, source: Model) -> None:
        from cvae.training.export import gridweights

        gridweights.restore(model, source)

    def batches(
        self, run: Run, train: Images, epoch: int, devices: int
    ) -> AbstractContextManager[keras.utils.PyDataset]:
        from cvae.training.batches import shared
        from cvae.training.crops import Crops

        preset = run.preset
        _, batch = shared(devices, preset.batch_size, devices)
        flip = "flip" in preset.augment
        seed = run.seed, epoch
        pictures = _photos(train, run)
        return closing(Crops(pictures, preset.crop, batch, preset.steps, seed, flip))

    def validation(self, run: Run, images: Images, devices: int) -> keras.utils.PyDataset:
        from cvae.training.crops import Middles

        return Middles(_photos(images, run), devices)

    def make(self, run: Run, dataset: Dataset, model: Any, say: Say) -> Made:
        from cvae.training.export import grid

        train, validation = _photos(dataset.train, run), _photos(dataset.validation, run)
        return grid.make(run, train, validation, model, say)


class Lossless(Architecture):
    """A network that gives the probabilities of each pixel from those before it."""

    codes = has_rate = False
    restores = "lossless"

    def refusal(self, preset: Preset, options: Collection[str]) -> str:
        for name in ("latent_dim", "perceptual_weight", "features"):
            if name in options:
                return f"{preset.name} has neither latents nor a loss of pictures"
        return super().refusal(preset, options)

    def shape(self, preset: Preset) -> tuple[int | None, ...]:
        from cvae.training import pixels

        sizes, channels = preset.lossless, preset.image_shape[2]
        return None, pixels.window(sizes).inputs(channels) + channels

    def model(
        self, preset: Preset, seed: int = 0, perceptual: Perceptual | None = None
    ) -> Trainable:
        from cvae.training import pixels
        from cvae.training.networks import lossless

        pixels.check_size(preset)
        return lossless.Lossless(preset, seed)

    def begin(self, model: Any, run: Run, train: Images) -> None:
        """Splits the trees where the values of training pictures are halved."""
        from cvae.training import pixels

        model.set_splits(pixels.splits(run.preset, self._draw(run, train, False)))

    def restore(self, model: Trainable, source: Model) -> None:
        from cvae.training.export import losslessweights

        losslessweights.restore(model, source)

    def batches(
        self, run: Run, train: Images, epoch: int, devices: int
    ) -> AbstractContextManager[keras.utils.PyDataset]:
        from cvae.training.batches import shared
        from cvae.training.pixels import PixelBatches

        preset = run.preset
        _, count = shared(devices, preset.batch_size, devices)
        draw = self._draw(run, train, "flip" in preset.augment)
        return nullcontext(PixelBatches(draw, preset, count, (run.seed, epoch)))

    def validation(self, run: Run, images: Images, devices: int) -> keras.utils.PyDataset:
        from cvae.training.pixels import AllPixels

        return AllPixels(self._draw(run, images, False), run.preset)

    def make(self, run: Run, dataset: Dataset, model: Any, say: Say) -> Made:
        from cvae.training.export import lossless

        return lossless.make(run, dataset, model, say)

    def _draw(self, run: Run, images: Images, flip: bool) -> Callable[[Any], Any]:
        """What draws pictures of one size for a batch, by a random generator."""
        from cvae.training import pixels

        return pixels.any_of(images, run.preset.lossless.pictures, flip)


class LosslessAny(Lossless):
    """The same for pictures of any size, of which it sees crops."""

    reads = "own"
    restores = "lossless-any"

    def refusal(self, preset: Preset, options: Collection[str]) -> str:
        return _refused(preset, options) or super().refusal(preset, options)

    def _draw(self, run: Run, images: Images, flip: bool) -> Callable[[Any], Any]:
        from cvae.training import pixels

        return pixels.crops_of(_photos(images, run), run.preset, flip)


# What an option about images would do.
_REFUSED = {
    "size": "which --size would scale",
    "grey": "of which --grey would take the colour",
    "cropped": "which --crop or --resize would change",
}


def _refused(preset: Preset, options: Collection[str]) -> str:
    """Why pictures that keep their sizes and colours are not brought to others."""
    scaled = [name for name in _REFUSED if name in options]
    why = f"{preset.name} learns from colour pictures at their own sizes"
    return f"{why}, {_REFUSED[scaled[0]]}" if scaled else ""


def _photos(images: Images, run: Run) -> Photos:
    """Raises TrainingError when the images were not read at their own sizes."""
    from cvae.data.photos import Photos

    if not isinstance(images, Photos):
        text = f"expected a folder of pictures as --data, found arrays in {run.source}"
        raise TrainingError(text, where=run.preset.name)
    return images


ARCHITECTURES: dict[str, Architecture] = {
    "cvae": Architecture("build_cvae", "VariationalAutoencoder"),
    "residual": Residual("build_residual", "QuantizedAutoencoder"),
    "linear": Linear(),
    "autoencoder": PlainAutoencoder("build_autoencoder", "Autoencoder"),
    "vae": Architecture("build_vae", "VariationalAutoencoder"),
    "grid": Grid(),
    "denoiser": Denoiser("build_denoiser", "Denoiser"),
    "lossless": Lossless(),
    "lossless-any": LosslessAny(),
}


def of(preset: Preset) -> Architecture:
    """The preset's architecture. Raises TrainingError when there is none of that name."""
    if preset.architecture in ARCHITECTURES:
        return ARCHITECTURES[preset.architecture]
    text = f"expected one of {', '.join(ARCHITECTURES)}, found {preset.architecture!r}"
    raise TrainingError(text, where=preset.name)
