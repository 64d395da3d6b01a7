"""`cvae train auto`: looks at a folder of images and chooses a recipe for coding them."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from cvae.data import folders, images
from cvae.errors import DataError
from cvae.training.preset import Preset
from cvae.training.presets import OWN, OWN_GREY

# Files whose header is read, and how many of them are decoded.
_SEEN, _DECODED = 500, 100
# Values of an image; principal components of more take too long.
_MOST_VALUES = 4096
# Images of `_UNIT` values in all epochs: some ten minutes on two cores.
_PASSES, _UNIT = 400_000, 3072
_EPOCHS = (10, 200)
_LATENTS = (8, 128)


@dataclass(frozen=True)
class Survey:
    """What the images of a folder are like."""

    count: int  # all files
    side: int  # the most common shorter side, in pixels
    grey: bool  # no decoded image has colour


def survey(folder: Path) -> Survey:
    """Reads some of the files, evenly spaced. Raises DataError when none of them is an image."""
    names = folders.find(folder)
    sides: Counter[int] = Counter()
    grey = True
    for number, name in enumerate(names[:: max(1, len(names) // _SEEN)]):
        try:
            image = images.open_image(images.read_file(folder / name, name), name)
            if number % (_SEEN // _DECODED) == 0:
                grey = grey and _is_grey(image)
        except Exception:  # Pillow's readers have no common base class
            continue  # it is named when the folder is read
        sides[min(image.size)] += 1
    if not sides:
        raise DataError("expected images, found none in this folder", where=folder)
    common, times = sides.most_common(1)[0]
    if times < sides.total() / 2:
        common = int(np.median(list(sides.elements())))
    return Survey(len(names), common, grey)


def _is_grey(image: Image.Image) -> bool:
    pixels = np.asarray(images.flatten(image).convert("RGB"), np.int16)
    return bool((pixels == pixels[..., :1]).all())


def choose(found: Survey, size: int | None, grey: bool | None) -> Preset:
    """The recipe for a folder, with the user's size and colour where given."""
    base = OWN_GREY if (found.grey if grey is None else grey) else OWN
    channels = base.image_shape[2]
    side = size or max(8, min(found.side, math.isqrt(_MOST_VALUES // channels)) // 4 * 4)
    values = side * side * channels
    train = max(1, found.count * 8 // 10)
    latents = int(np.clip(min(values, train) // 8, *_LATENTS))
    epochs = int(np.clip(_PASSES * _UNIT / values / train, *_EPOCHS))
    return replace(base, image_shape=(side, side, channels), latent_dim=latents, epochs=epochs)


def explain(found: Survey, recipe: Preset, data: str, out: Path, further: list[str]) -> list[str]:
    """What was found and chosen, and the command that trains the same with the user's other options."""
    side, _, channels = recipe.image_shape
    colour = "grey" if channels == 1 else "colour"
    command = [
        "cvae", "train", recipe.name, "--data", data, "--size", str(side), "-o", str(out),
        "--latents", str(recipe.latent_dim), "--epochs", str(recipe.epochs), *further,
    ]  # fmt: skip
    smaller = f"; scaled down to {side}x{side}" if side < found.side else ""
    return [
        f"{found.count:,} files, typically of {found.side} pixels a side, {colour}{smaller}",
        f"{recipe.summary}; {recipe.latent_dim} latents, {recipe.epochs} epochs",
        f"the same again: {shlex.join(command)}",
    ]
