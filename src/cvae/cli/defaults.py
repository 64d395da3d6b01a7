"""Which model codes a picture: the one that -m names, else the default of such pictures."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from cvae.cli.talk import Talk
from cvae.errors import CvaeError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from PIL.Image import Image

    from cvae.codec import Codec
    from cvae.data.batches import Source
    from cvae.data.images import Pixels, Shape
    from cvae.data.sources import Which

PHOTO = "photo"  # the default for all but small grey images, where a model of that name is there
TEXT = "mnist for 28x28 grey images, else photo"  # what `--help` says

_LOSSLESS_ADVICE = (
    "`cvae models` lists the lossless models, `cvae train auto --lossless` makes others"
)
_SIDE = 28
_FIRST = 64  # pictures that the lossless model of a pack is chosen by


class Models:
    """Codecs for pictures; each is opened once, and photo named on stderr where nobody asked for it."""

    def __init__(self, name: str | None, talk: Talk, lossless: bool = False) -> None:
        """`name` is that of -m. Raises ModelError when there is no such model, or it does not code.

        Raises CvaeError when it is to be lossless and is not, or nothing is.
        """
        from cvae import codec as codecs

        self._talk, self._photo = talk, None if name or lossless else _find_photo()
        self._lossless = _lossless() if lossless and not name else []
        if lossless:  # neither photo nor --fit would keep the pixels
            talk.advice = _LOSSLESS_ADVICE
        if self._lossless:
            self.only = None
            return
        # The one model for all pictures, if there is but one.
        self.only = None if self._photo else codecs.open_model(name) if name else self._small
        if self.only and lossless and not self.only.lossless:
            text = f"model {self.only.name} is not lossless"
            raise CvaeError(text, advice="without -m, --lossless takes one that is")
        if self.only and self.only.any_size:
            _give_back()

    def of(self, data: bytes, name: str) -> Codec:
        """The codec of an image file. Raises ImageError, which names it, when it is no image."""
        from cvae.data import images

        return self.only or self.of_image(images.open_image(data, name))

    def of_image(self, image: Image) -> Codec:
        """The codec of an opened image."""
        if self._lossless:
            return self._lossless_of(image)
        return self.only or (self._small if _is_small(image) else self._large)

    def of_first(self, inputs: Iterable[str | Source], which: Which) -> Codec:
        """The codec of the first image of these inputs that can be read."""
        from cvae.packs.source import first_image

        if self.only:
            return self.only
        inputs = list(inputs)
        image = first_image(inputs, which)
        if image is None:
            return self._lossless[0] if self._lossless else self._small
        codec = self.of_image(image)
        return self._best(codec, inputs, which) if self._lossless else codec

    def _best(self, codec: Codec, inputs: list[str | Source], which: Which) -> Codec:
        """The codec, or the lossless one that codes the first pictures in fewer bits."""
        from cvae import lossless
        from cvae.data.images import grey_if_equal
        from cvae.packs.source import open_images

        first: list[Pixels] = []
        if all(isinstance(item, str) for item in inputs):  # stdin is read but once
            stream = open_images(inputs, codec.reading(), which=which, refuse=lambda error: None)
            for batch in stream.batches():
                first += list(batch.pixels)
                if len(first) >= _FIRST:
                    break
            grey = [grey_if_equal(picture) for picture in first]
            first = grey if all(picture.shape[2] == 1 for picture in grey) else first
        shapes = {picture.shape for picture in first}
        others = self.rivals(codec, shapes.pop()) if len(shapes) == 1 else []
        return lossless.fewest_bits([codec, *others], first[:_FIRST])

    def rivals(self, codec: Codec, shape: Shape, grey: bool = False) -> list[Codec]:
        """The other lossless codecs for pictures (h, w, c); the shortest file is kept.

        Those for one channel, too, where the pictures are `grey`, however they are stored.
        """
        shapes = [shape, (*shape[:2], 1)] if grey else [shape]
        return [
            other
            for other in self._lossless
            if other is not codec and any(map(other.takes, shapes))
        ]

    def _lossless_of(self, image: Image) -> Codec:
        """One for any size where there is one; its `rivals` take the same pictures."""
        any_size = [codec for codec in self._lossless if codec.any_size]
        sides = image.size[::-1]
        own = [codec for codec in self._lossless if codec.image_shape[:2] in (sides, sides[::-1])]
        return [*any_size, *own, *self._lossless][0]

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


def _lossless() -> list[Codec]:
    from cvae import lossless

    return lossless.codecs()


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
