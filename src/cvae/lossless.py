"""Which lossless model keeps a picture in the fewest bytes, where nobody names one."""

from __future__ import annotations

from collections.abc import Sequence

from cvae import kinds
from cvae.codec import Codec, open_model
from cvae.data import given
from cvae.data.images import Pixels, Shape
from cvae.errors import ImageShapeError, ModelNotFoundError, at
from cvae.options import EncodeOptions


def codecs() -> list[Codec]:
    """All lossless models that are found here. Raises ModelNotFoundError where there are none."""
    known = kinds.known_models()[0]
    found = [open_model(path) for path, manifest in known if kinds.KINDS[manifest.kind].lossless]
    if not found:
        raise ModelNotFoundError("no lossless model was found", advice="`cvae models` lists all")
    return found


def fitting(found: Sequence[Codec], shape: Shape) -> list[Codec]:
    """Those that take pictures (h, w, c)."""
    return [codec for codec in found if codec.takes(shape)]


def fewest_bits(found: Sequence[Codec], pictures: Sequence[Pixels]) -> Codec:
    """That which codes pictures of one shape in the fewest bits; the first where there is but one."""
    return min(found, key=lambda codec: codec.bits(pictures)) if len(found) > 1 else found[0]


def encode(images: object, options: EncodeOptions) -> bytes | list[bytes]:
    """The shortest container of one image, or of each of several, as `Codec.encode` takes them.

    Raises ImageShapeError when no lossless model takes one.
    """
    several = given.is_list(images) or given.as_array(images).ndim > 3
    pictures, found = given.as_pictures(images, (1, 3, 4)), codecs()
    coded = []
    for number, picture in enumerate(pictures):
        with at(f"image {number}" if several else ""):
            coded.append(_shortest(found, picture, options))
    return coded if several else coded[0]


def _shortest(found: Sequence[Codec], picture: Pixels, options: EncodeOptions) -> bytes:
    able = fitting(found, picture.shape)
    if not able:
        text = f"no lossless model takes pictures of shape {picture.shape}"
        raise ImageShapeError(text, advice="`cvae models` lists all")
    return min((codec.encode_batch(picture[None], options)[0].data for codec in able), key=len)
