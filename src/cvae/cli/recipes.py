"""From a preset and the options of `cvae train` to the recipe that is trained, and how images are read."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from cvae.cli.talk import Talk, counted
from cvae.errors import TrainingError
from cvae.training import architectures, presets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cvae.data.reading import Reading
    from cvae.training.begin import Begin
    from cvae.training.datasets import Dataset
    from cvae.training.preset import Preset
    from cvae.training.runs import Run

AUTO = "auto"
# What is worth a word: fewer batches an epoch, and images of so many times the size.
_FEW_BATCHES, _MUCH_LARGER = 16, 4


class Images(NamedTuple):
    """The options about images; None where they are not given."""

    data: str | None
    size: int | None
    grey: bool | None
    crop: bool | None
    background: str | None
    key: str | None = None
    lossless: bool = False  # of auto

    @property
    def given(self) -> set[str]:
        """Those that say how pictures are scaled or what colour they keep."""
        found = {"size": self.size, "grey": self.grey, "cropped": self.crop is not None}
        return {name for name, value in found.items() if value}

    @property
    def folder(self) -> Path | None:
        """`data` where it is a folder."""
        return Path(self.data) if self.data is not None and Path(self.data).is_dir() else None


def wishes(mixed_precision: bool | None, **values: Any) -> dict[str, Any]:
    """The fields of a preset that options change."""
    if mixed_precision is not None:
        values["precision"] = "mixed_bfloat16" if mixed_precision else "float32"
    return {name: value for name, value in values.items() if value is not None}


def choose(
    preset: str, images: Images, wishes: dict[str, Any], out: Path, talk: Talk,
    begin: Begin | None = None, before: Run | None = None,
) -> tuple[Preset, Begin | None]:  # fmt: skip
    """The preset, or what `auto` makes of a folder, with the wishes put in its place.

    With it comes what training starts from: `begin` where it is given, or what `auto` found. `before`
    is a run that is resumed. Raises click.UsageError when `auto` has no folder, DataError when it
    found no images.
    """
    if images.lossless and preset != AUTO:
        named = ", ".join(name for name in presets.PRESETS if name.startswith("lossless"))
        raise click.UsageError(f"--lossless is for auto; the presets {named} are lossless")
    if preset == AUTO:
        return _auto(images, wishes, out, talk, begin, before)
    return _changed(presets.PRESETS[preset], wishes, begin), begin


def _changed(base: Preset, wishes: dict[str, Any], begin: Begin | None) -> Preset:
    """The recipe with the wishes; of epochs and minutes, that which was wished for is the limit."""
    if begin:
        base = replace(base, learning_rate=base.learning_rate * base.fine_tuning)
    if "epochs" in wishes and "minutes" not in wishes:
        base = replace(base, minutes=0.0)
    return replace(base, **wishes)


def settled(recipe: Preset, before: Run | None) -> Preset:
    """The recipe in the precision of this machine, or of the run that is resumed, where it is free."""
    from cvae.training import backend

    if recipe.precision != "auto":
        return recipe
    return replace(recipe, precision=before.preset.precision if before else backend.precision())


def capped(recipe: Preset, images: int, wanted: bool, talk: Talk) -> Preset:
    """The recipe with no more latents than images, where latents are components of these.

    Raises TrainingError when the user asked for more.
    """
    architecture, found = architectures.of(recipe), recipe.latent_dim
    most = min(images, math.prod(recipe.image_shape))
    if not architecture.components or found <= most:
        return recipe
    if wanted:
        expected = f"expected at most {most} of {images} images to train on"
        raise TrainingError(f"--latents: {expected}, found {found}")
    if not architecture.closed_form:  # which takes as many as there are
        talk.say(f"{most} latents and not {found}: there are {images} images to train on")
    return replace(recipe, latent_dim=most)


def concerns(recipe: Preset, dataset: Dataset) -> Iterator[str]:
    """What is likely to go wrong with such images: too few of them, or far too large ones."""
    from cvae.data.reading import UNSEEN

    architecture, images, batch = architectures.of(recipe), len(dataset.train), recipe.batch_size
    seen = recipe.passes * images
    if not (architecture.closed_form or recipe.steps) and seen < _FEW_BATCHES * batch:
        batches = -(-seen // batch)
        yield (
            f"{counted(images, 'image')} to train, {batches} x {batch} an epoch, are few: "
            "more images, a smaller --batch-size or more --epochs help"
        )
    if architecture.codes and architecture.reads != "own" and images < recipe.latent_dim:
        yield f"{counted(images, 'image')} to train are fewer than the {recipe.latent_dim} latents of one"
    folder, side = dataset.folder, min(recipe.image_shape[:2])
    if folder and (unseen := folder.changed(UNSEEN)):
        yield (
            f"of {counted(unseen, 'image')} nothing is seen on {folder.reading.background}; --background "
            "lays them on another colour"
        )
    if folder and not folder.reading.keeps and folder.side >= _MUCH_LARGER * side:
        yield (
            f"most images have some {folder.side} pixels a side and are scaled to {side}; --size N keeps "
            "more of them, and photo learns from pictures at their own sizes"
        )


def read_as(
    recipe: Preset, images: Images, before: Reading | None
) -> tuple[Preset, Reading | None]:
    """The recipe for images of the wanted size, and how image files are read.

    `before` is how a run that is resumed read them. Raises click.UsageError when the options are for
    image files, and there are none.
    """
    from cvae.codec import BLACK, WHITE
    from cvae.data.reading import Reading
    from cvae.training import datasets

    own, data = architectures.of(recipe).reads == "own", images.data
    if own and data and not images.folder and (data in datasets.LICENCES or _is_there(data)):
        raise click.UsageError(f"{recipe.name} is for a folder of pictures as --data")
    if data is None or not datasets.of_files(data):
        wishes = (images.size, images.grey, images.crop, images.background)
        if any(wish is not None for wish in wishes):
            options = "--size, --grey, --colour, --crop, --resize and --background"
            raise click.UsageError(f"{options} are for a folder of images or an archive as --data")
        return recipe, None
    fit = architectures.of(recipe).reads
    reading = before or Reading(recipe.image_shape, fit, WHITE if fit == "own" else BLACK)
    height, width, channels = reading.shape
    if images.size is not None:
        height = width = images.size
    if images.grey is not None:
        channels = 1 if images.grey else 3
    changes: dict[str, Any] = {"shape": (height, width, channels)}
    if images.crop is not None:
        changes["fit"] = "crop" if images.crop else "resize"
    if images.background is not None:
        changes["background"] = images.background
    reading = replace(reading, **changes)
    return replace(recipe, image_shape=reading.shape), reading


def _is_there(data: str) -> bool:
    from cvae.data import places
    from cvae.data.contents import What, what_lies_at

    return places.is_pattern(data) or what_lies_at(data) is not What.NOTHING


def _auto(
    images: Images, wishes: dict[str, Any], out: Path, talk: Talk, begin: Begin | None,
    before: Run | None,
) -> tuple[Preset, Begin | None]:  # fmt: skip
    from cvae.training import auto

    data = images.data
    looks = "auto looks at a folder of images:"
    if data is None:
        raise click.UsageError(f"{looks} name it with --data")
    if images.folder is None:
        other = "another kind of file" if Path(data).exists() else "nothing of that name"
        raise click.UsageError(f"{looks} expected one as --data {data}, found {other}")
    found = auto.survey(images.folder)
    if images.lossless:
        recipe = presets.LOSSLESS
    else:
        recipe = auto.choose(found, images.size, images.grey, images.crop is not None)
    own = begin is None and (before is None or before.begin)
    if own and architectures.of(recipe).restores:
        recipe, begin = auto.tuned(recipe)
    recipe = _changed(recipe, wishes, begin)
    begun = begin.name if begin else ""
    for line in auto.explain(found, recipe, data, out, _further_options(), begun):
        talk.say(f"auto: {line}")
    return recipe, begin


def _further_options() -> list[str]:
    """The given options that `auto` neither chooses nor names, as typed."""
    context = click.get_current_context()
    named = {
        "preset",
        "data",
        "size",
        "grey",
        "lossless",
        "latent_dim",
        "epochs",
        "minutes",
        "out",
        "resume",
        "force",
    }
    words: list[str] = []
    for option in context.command.params:
        name = option.name or ""
        value = context.params.get(name)
        given = context.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE
        if name in named or not given:
            continue
        if isinstance(option, click.Option) and option.is_flag:
            words.append((option.opts if value else option.secondary_opts)[-1])
        else:
            words += [option.opts[-1], str(value)]
    return words
