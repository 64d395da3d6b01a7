"""Which model codes a picture: the one that -m names, else the default of such pictures."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from cvae.cli.talk import Talk

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from PIL.Image import Image

    from cvae.codec import Codec
    from cvae.data.batches import Source
    from cvae.data.sources import Which

PHOTO = "photo"  # the default for all but small grey images, where a model of that name is there
TEXT = "mnist for 28x28 grey images, else photo"  # what `--help` says

_SIDE = 28


class Models:
    """Codecs for pictures; each is opened once, and photo named on stderr where nobody asked for it."""

    def __init__(self, name: str | None, talk: Talk) -> None:
        """`name` is that of -m. Raises ModelError when there is no such model, or it does not code."""
        from cvae import codec as codecs

        self._talk, self._photo = talk, None if name else _find_photo()
        # The one model for all pictures, if there is but one.
        self.only = None if self._photo else codecs.open_model(name) if name else self._small
        if self.only and self.only.any_size:
            _give_back()

    def of(self, data: bytes, name: str) -> Codec:
        """The codec of an image file. Raises ImageError, which names it, when it is no image."""
        from cvae.data import images

        return self.only or self.of_image(images.open_image(data, name))

    def of_image(self, image: Image) -> Codec:
        """The codec of an opened image."""
        return self.only or (self._small if _is_small(image) else self._large)

    def of_first(self, inputs: Iterable[str | Source], which: Which) -> Codec:
        """The codec of the first image of these inputs that can be read."""
        from cvae.packs.source import first_image

        if self.only:
            return self.only
        image = first_image(inputs, which)
        return self._small if image is None else self.of_image(image)

    @cached_property
    def _small(self) -> Codec:
        from cvae import codec as codecs

        return codecs.open_model()

    @cached_property
    def _large(self) -> Codec:
        from cvae.codec import open_model
        from cvae.models import registry

        assert self._photo is not None
        _give_back()
        others = f"images other than {_SIDE}x{_SIDE} grey ones, which {registry.DEFAULT} takes"
        self._talk.say(f"model {PHOTO}, the default for {others}; -m names another")
        return open_model(self._photo)


def _give_back() -> None:
    from cvae.cli.memory import give_back_large_arrays

    give_back_large_arrays()


def _find_photo() -> Path | None:
    """The file of the model for photographs, if it is there and takes images of any size."""
    from cvae import kinds

    for path, manifest in kinds.known_models()[0]:
        kind = kinds.KINDS[manifest.kind]
        if manifest.name == PHOTO and kind.codes and kind.any_size:
            return path
    return None


def _is_small(image: Image) -> bool:
    """Whether a picture's pixels are grey, however they are stored, and 28x28."""
    from cvae.data.reading import Reading
    from cvae.errors import CvaeError, ImageShapeError

    if image.size != (_SIDE, _SIDE):
        return False
    try:
        Reading((_SIDE, _SIDE, 1), "exact").picture(image, "")
    except ImageShapeError:
        return False
    except CvaeError:
        return True  # who reads it says what is wrong
    return True
