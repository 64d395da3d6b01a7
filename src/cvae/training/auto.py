"""`cvae train auto`: looks at a folder of images and chooses a recipe for coding them."""

from __future__ import annotations

import json
import math
import shlex
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cvae.data import folders, images
from cvae.data.reading import Reading, is_grey
from cvae.errors import DataError
from cvae.models import registry
from cvae.models.file import Manifest
from cvae.training import begin
from cvae.training.begin import Begin
from cvae.training.preset import Preset
from cvae.training.presets import LOSSLESS, LOSSLESS_PHOTO, OWN, OWN_GREY, PHOTO

# Files whose header is read, and how many of them are decoded.
_SEEN, _DECODED = 500, 100
_LOOK = Reading((0, 0, 3), "any")
# Values of an image; principal components of more take too long.
_MOST_VALUES = 4096
# Images of `_UNIT` values in all epochs: some ten minutes on two cores.
_PASSES, _UNIT = 400_000, 3072
_EPOCHS = (10, 200)
_LATENTS = (8, 128)
# Pictures of such sides show more than textures to networks that look at parts of them; these skip or
# reflect small ones, so that a share of the pictures has to be so large.
_LARGE, _MANY = 128, 0.25
_MINUTES = 60.0  # for networks that are never done
_TUNING = 30.0  # and for those that can code already
# What networks of any size are made of.
_NETWORKS = ("architecture", "latent_dim", "filters", "refine", "grid")
_SIZES = ("up", "side", "predicts", "placed", "hidden")  # of the lossless ones
# The model that a recipe goes on from, where it is one of another name.
_FORERUNNERS = {LOSSLESS.name: LOSSLESS_PHOTO.name}


@dataclass(frozen=True)
class Survey:
    """What the images of a folder are like."""

    count: int  # all files
    side: int  # the most common shorter side, in pixels
    grey: bool  # no decoded image has colour
    large: bool = False  # of many, the shorter side has at least `_LARGE` pixels


def survey(folder: Path) -> Survey:
    """Reads some of the files, evenly spaced. Raises DataError when none of them is an image."""
    names = folders.find(folder, lambda _: None)  # what is wrong is said when the folder is read
    sides: Counter[int] = Counter()
    grey = True
    for number, name in enumerate(names[:: max(1, len(names) // _SEEN)]):
        try:
            image = images.open_image(images.read_file(folder / name, name), name)
            if number % (_SEEN // _DECODED) == 0:
                grey = grey and is_grey(_LOOK.picture(image, name).image)
        except Exception:  # Pillow's readers have no common base class
            continue  # it is named when the folder is read
        sides[min(image.size)] += 1
    if not sides:
        raise DataError("expected images, found none in this folder", where=folder)
    common, times = sides.most_common(1)[0]
    if times < sides.total() / 2:
        common = int(np.median(list(sides.elements())))
    large = sum(times for side, times in sides.items() if side >= _LARGE)
    return Survey(len(names), common, grey, large >= _MANY * sides.total())


def choose(found: Survey, size: int | None, grey: bool | None, scaled: bool = False) -> Preset:
    """The recipe for a folder, with the user's size and colour where given.

    Pictures that would have to be scaled down keep their sizes where many of them are large, unless
    the user wants them `scaled`, of a size or grey.
    """
    base = OWN_GREY if (found.grey if grey is None else grey) else OWN
    channels = base.image_shape[2]
    most = math.isqrt(_MOST_VALUES // channels)
    if found.large and found.side > most and not (size or grey or scaled):
        return replace(PHOTO, minutes=_MINUTES)
    side = size or max(8, min(found.side, most) // 4 * 4)
    values = side * side * channels
    train = max(1, found.count * 8 // 10)
    latents = int(np.clip(min(values, train) // 8, *_LATENTS))
    epochs = int(np.clip(_PASSES * _UNIT / values / train, *_EPOCHS))
    return replace(base, image_shape=(side, side, channels), latent_dim=latents, epochs=epochs)


def tuned(recipe: Preset) -> tuple[Preset, Begin | None]:
    """The recipe to go on from the known model of its name, or of its forerunner's, and that model.

    This is for recipes whose weights can be read back out of a model file.
    """
    name = _FORERUNNERS.get(recipe.name, recipe.name)
    known, _ = registry.known_models()
    named = [manifest for _, manifest in known if manifest.name == name]
    taken = Path(name).exists()  # which the name would mean
    if len(named) != 1 or taken or not _has_networks(named[0], recipe):
        return recipe, None
    found = begin.find(name)
    return replace(recipe, minutes=_TUNING), replace(found, name=name)


def _has_networks(manifest: Manifest, recipe: Preset) -> bool:
    ours: dict[str, Any] = json.loads(json.dumps(recipe.to_json()))  # which knows no tuples
    theirs = {"architecture": manifest.kind, **manifest.preset}
    sizes, others = ours["lossless"], theirs.get("lossless", {})
    return all(theirs.get(name, ours[name]) == ours[name] for name in _NETWORKS) and all(
        others.get(name, sizes[name]) == sizes[name] for name in _SIZES
    )


def explain(
    found: Survey, recipe: Preset, data: str, out: Path, further: list[str], begun: str = ""
) -> list[str]:
    """What was found and chosen, and the command that trains the same with the user's other options.

    `begun` is the name of a model whose weights it starts from, which was chosen, too.
    """
    side, _, channels = recipe.image_shape
    own = recipe.crop > 0
    limit = "minutes" if recipe.minutes else "epochs"
    length = f"{getattr(recipe, limit):g}"
    units = limit if length != "1" else limit[:-1]
    scaling = [] if own else ["--size", str(side)]
    latents = [] if own else ["--latents", str(recipe.latent_dim)]
    command = [
        "cvae", "train", recipe.name, "--data", data, *scaling, "-o", str(out),
        *latents, f"--{limit}", length, *(["--fine-tune", begun] if begun else []), *further,
    ]  # fmt: skip
    colour = "grey" if (found.grey if own else channels == 1) else "colour"
    smaller = f"; scaled down to {side}x{side}" if side < found.side else ""
    seen = f"; many have {_LARGE} or more, and they keep their sizes" if own else smaller
    networks = recipe.summary if own else f"{recipe.summary}; {recipe.latent_dim} latents"
    start = (
        f"begins with the weights of the model {begun}, learning slowly: {recipe.learning_rate:g}"
    )
    return [
        f"{found.count:,} files, typically of {found.side} pixels a side, {colour}{seen}",
        f"{networks}{';' if own else ','} {length} {units}",
        *([start] if begun else []),
        f"the same again: {shlex.join(command)}",
    ]
