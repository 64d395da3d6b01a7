"""From a preset and the options of `cvae train` to the recipe that is trained, and how images are read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from cvae.cli.common import Talk
from cvae.training import presets

if TYPE_CHECKING:
    from cvae.reading import Reading
    from cvae.training.preset import Preset

AUTO = "auto"


class Images(NamedTuple):
    """What the options say of the images; None where they say nothing."""

    data: str | None
    size: int | None
    grey: bool | None
    crop: bool | None
    background: str | None


def choose(preset: str, images: Images, wishes: dict[str, Any], out: Path, talk: Talk) -> Preset:
    """The preset, or what `auto` makes of a folder, with the wishes put in its place.

    Raises:
        click.UsageError: the preset has no such option.
        DataError: `auto` found no images.
    """
    base = _auto(images, wishes, out, talk) if preset == AUTO else presets.get(preset)
    recipe = replace(base, **wishes)
    if recipe.architecture == "linear" and wishes.keys() - {"latent_dim"}:
        raise click.UsageError(f"{preset} is fitted in closed form; it has no such option")
    if recipe.architecture == "denoiser" and "latent_dim" in wishes:
        raise click.UsageError(f"{preset} is a denoiser, which has no latents")
    if "features" in wishes and not recipe.perceptual_weight:
        raise click.UsageError("--features takes effect only with a --perceptual-weight above 0")
    return recipe


def read_as(
    recipe: Preset, images: Images, before: Reading | None
) -> tuple[Preset, Reading | None]:
    """The recipe for images of the size that was asked for, and how a folder is read; `before` in a
    run that is resumed.

    Raises:
        click.UsageError: the options are for a folder, and there is none.
    """
    from cvae.reading import Reading
    from cvae.training import datasets

    if (
        images.data is not None
        and Path(images.data).is_dir()
        and images.data not in datasets.LICENCES
    ):
        reading = _changed(before or Reading(recipe.image_shape), images)
        return replace(recipe, image_shape=reading.shape), reading
    if any(wish is not None for wish in images[1:]):
        raise click.UsageError(
            "--size, --grey, --colour, --crop, --resize and --background are for a folder of images "
            "as --data"
        )
    return recipe, None


def _auto(images: Images, wishes: dict[str, Any], out: Path, talk: Talk) -> Preset:
    from cvae.training import auto

    data = images.data
    if data is None or not Path(data).is_dir():
        raise click.UsageError(
            f"auto looks at a folder of images: expected one as --data, found {data}"
        )
    found = auto.survey(Path(data))
    recipe = replace(auto.choose(found, images.size, images.grey), **wishes)
    for line in auto.explain(found, recipe, data, out, _further_options()):
        talk.say(f"auto: {line}")
    return recipe


def _further_options() -> list[str]:
    """What was asked for besides what `auto` chooses and names, as it would be typed again."""
    context = click.get_current_context()
    named = {"preset", "data", "size", "grey", "latent_dim", "epochs", "out", "resume", "force"}
    words: list[str] = []
    for option in context.command.params:
        name, value = option.name or "", context.params.get(option.name or "")
        given = context.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE
        if name in named or not given:
            continue
        if isinstance(option, click.Option) and option.is_flag:
            words.append((option.opts if value else option.secondary_opts)[-1])
        else:
            words += [option.opts[-1], str(value)]
    return words


def _changed(reading: Reading, images: Images) -> Reading:
    """`reading` with what the options say otherwise."""
    height, width, channels = reading.shape
    if images.size is not None:
        height = width = images.size
    if images.grey is not None:
        channels = 1 if images.grey else 3
    reading = replace(reading, shape=(height, width, channels))
    if images.crop is not None:
        reading = replace(reading, fit="crop" if images.crop else "resize")
    if images.background is not None:
        reading = replace(reading, background=_colour(images.background))
    return reading


def _colour(text: str) -> str:
    """A colour's name as `#rrggbb`."""
    from PIL import ImageColor

    try:
        red, green, blue = ImageColor.getrgb(text)[:3]
    except ValueError as error:
        raise click.BadParameter(
            f"expected a colour such as white or '#ffffff', found {text!r}",
            param_hint="'--background'",
        ) from error
    return f"#{red:02x}{green:02x}{blue:02x}"
