"""What the commands do, as functions: `cvae.NAME` is that of this module, loaded when it is used."""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from cvae import decoder, denoising, kinds, sampling
from cvae import lossless as exactly
from cvae.bitstream import container
from cvae.checks import truth, whole
from cvae.codec import Codec, QualityWarning, find_codec, open_model
from cvae.data import contents, given
from cvae.data.images import Pixels, alike, flat
from cvae.errors import CvaeError, at
from cvae.models import registry
from cvae.options import DEFAULT_EFFORT, EncodeOptions

_MOST = 1_000_000  # images of one call
_MAX_SEED = 2**32 - 1


@dataclass(frozen=True, repr=False)
class ModelInfo:
    """A model at hand, as `list_models` gives it."""

    name: str
    id: int  # what containers name it by
    kind: str  # codec, grid (a codec of pictures of any size) or denoiser
    images: str  # what it takes: `28x28 grey`, `any size RGB`
    denoises: bool  # `denoise` takes it
    summary: str
    path: Path

    def __repr__(self) -> str:
        noise = ", denoises" if self.denoises else ""
        return f"<{self.kind} {self.name}, id {self.id:#06x}, {self.images}{noise}: {self.summary}>"


def list_models() -> list[ModelInfo]:
    """The models that every function finds by name: shipped ones, those in CVAE_MODELS, added ones.

    Files that cannot be read are left out with a warning.
    """
    entries, errors = kinds.known_models()
    for error in errors:
        given.warn(str(error), UserWarning)
    found = []
    for path, manifest in entries:
        kind = kinds.of(manifest)
        takes, denoises = kind.describe(manifest), kind.denoises(manifest)
        name, summary = manifest.name, manifest.summary
        found.append(ModelInfo(name, manifest.id, manifest.kind, takes, denoises, summary, path))
    return found


@overload
def encode(
    image: Pixels | Image, model: str | Path | Codec | None = ..., quality: int | None = ...,
    effort: int = ..., *, max_bytes: int | None = ..., min_psnr: float | None = ..., lossless: bool = ...,
) -> bytes: ...  # fmt: skip
@overload
def encode(
    image: Sequence[Pixels | Image], model: str | Path | Codec | None = ..., quality: int | None = ...,
    effort: int = ..., *, max_bytes: int | None = ..., min_psnr: float | None = ..., lossless: bool = ...,
) -> list[bytes]: ...  # fmt: skip
def encode(
    image: Pixels | Image | Sequence[Pixels | Image],
    model: str | Path | Codec | None = None,
    quality: int | None = None,
    effort: int = DEFAULT_EFFORT,
    *,
    max_bytes: int | None = None,
    min_psnr: float | None = None,
    lossless: bool = False,
) -> bytes | list[bytes]:
    """A uint8 image (h, w) or (h, w, c), or one of Pillow, as a container; of several a list of them.

    Several are a list, or an array (n, h, w) or (n, h, w, c); see `Codec.encode`. The model is mnist where
    none is named. With `lossless` every pixel is kept, by the model that is named, or for each image by
    that of the shortest file; a lossless model by its name does without it.
    """
    if not truth(lossless, "lossless"):
        codec = open_model(registry.DEFAULT if model is None else model)
        return codec.encode(image, quality, effort, max_bytes=max_bytes, min_psnr=min_psnr)
    if any(asked is not None for asked in (quality, max_bytes, min_psnr)):
        text = (
            "lossless=True keeps every pixel: expected no quality, max_bytes or min_psnr, found one"
        )
        raise CvaeError(text)
    if model is None:
        return exactly.encode(image, EncodeOptions(effort=effort))
    codec = open_model(model)
    if not codec.lossless:
        advice = "without a model, lossless=True takes one that is"
        raise CvaeError(f"model {codec.name} is not lossless", advice=advice)
    return codec.encode(image, None, effort)


@overload
def decode(data: bytes, max_pixels: int | None = ...) -> Pixels: ...
@overload
def decode(data: Sequence[bytes], max_pixels: int | None = ...) -> list[Pixels]: ...
def decode(data: bytes | Sequence[bytes], max_pixels: int | None = None) -> Pixels | list[Pixels]:
    """The uint8 image of a container, with the model that it names; of a list of containers a list.

    Each of a list may name a model of its own. `max_pixels` is how many pixels an image may have that
    was fitted, and is restored. See `Codec.decode`.
    """
    codecs: dict[int, Codec] = {}

    def codec_of(item: container.Container) -> Codec:
        if item.model_id not in codecs:
            codecs[item.model_id] = find_codec(item.model_id).restoring(max_pixels)
        return codecs[item.model_id]

    return decoder.decode(data, codec_of)


def encode_pack(
    images: NDArray[np.uint8] | Iterable[NDArray[np.uint8] | Image],
    path: str | Path,
    model: str | Path | Codec = registry.DEFAULT,
    quality: int | None = None,
    effort: int = DEFAULT_EFFORT,
    names: Iterable[str] | None = None,
    force: bool = False,
    labels: NDArray[np.integer] | Iterable[Any] | None = None,
    block_images: int = 4096,
    verify: bool = True,
) -> None:
    """Writes any number of uint8 images of the model's shape to one pack.

    Args:
        images: an array (n, h, w) or (n, h, w, c), or an iterable of single images, arrays or
            Pillow's, read once.
        path: the file to write.
        model: name or path of the model, or its codec.
        quality: 1 (smallest) to 100 (best); None for the model's default.
        effort: 0 (plain rounding) to 9 (longest search).
        names: a name for every image, kept in the pack.
        force: overwrite a file that exists.
        labels: a label for every image, kept in the pack: an array of integers, one or a row of them for
            each; or any values that JSON has, None for an image without.
        block_images: images a block, 1 to 4,096; with few, single images come back sooner.
        verify: decode everything again, for a QualityWarning where images come back badly; off, effort 0
            is much faster.

    Raises:
        ImageError: an image is of another dtype or shape.
        CvaeError: there are fewer or more names or labels than images, or quality or effort is out of
            range.
        OutputError: the file exists and `force` is off, or cannot be written.
    """
    from cvae.packs import encode as packing

    block_images = whole(block_images, "1 to 4,096 images a block", 1, 4096)
    codec, verify = open_model(model), truth(verify, "verify")
    options = EncodeOptions(
        quality=quality,
        effort=effort,
        verify=verify and not codec.lossless,
        block_images=block_images,
    )
    worst = math.inf

    def poor(_: str, psnr: float) -> None:
        nonlocal worst
        worst = min(worst, psnr)

    tally = packing.encode_pack(images, path, codec, options, names, force, labels, poor)
    if tally.poor:
        least = (
            f"{codec.expected_psnr(codec.quality(quality)):.1f} dB expected of model {codec.name}"
        )
        text = f"{tally.poor:,} of {tally.images:,} images came back below the {least}"
        given.warn(f"{text}, the worst at {worst:.1f} dB", QualityWarning)


def sample(
    n: int = 16, model: str | Path | Codec = registry.DEFAULT, seed: int | None = None
) -> Pixels:
    """Draws `n` images from a model: uint8 (n, h, w), of colour models (n, h, w, 3).

    The same seed, 0 to 2**32 - 1, draws the same images again; None draws others each time. See
    `sampling.sample` for what is drawn.

    Raises:
        CvaeError: `n` is not 1 to 1,000,000, or the seed is out of range.
        ModelKindError: the model takes images of any size, or does not code.
    """
    n = whole(n, f"1 to {_MOST:,} images", 1, _MOST)
    if seed is None:
        seed = secrets.randbits(32)
    seed = whole(seed, "a seed of 0 to 2**32 - 1, or None", 0, _MAX_SEED)
    return flat(sampling.sample(open_model(model), n, seed))


def interpolate(a: Any, b: Any, steps: int = 8, model: str | Path | Codec | None = None) -> Pixels:
    """Pictures on the way from image `a` to image `b` through the latents of a model.

    Args:
        a: a uint8 image (h, w) or (h, w, 3), one of Pillow, or the bytes of a container.
        b: the same.
        steps: how many pictures, both ends included; 2 or more.
        model: name or path of a model, or its codec; None for that of a container, else the default.

    Returns:
        uint8 (steps, h, w), of colour models (steps, h, w, 3).

    Raises:
        ImageError: an image is not of the model's shape.
        FormatError: a container is damaged.
        CvaeError: `steps` is not 2 to 1,000,000.
        ModelKindError: the model takes images of any size, or does not code.
        ModelNotFoundError: a container was written by another model.
    """
    steps = whole(steps, f"2 to {_MOST:,} pictures", 2, _MOST)
    ends = []
    for name, end in (("a", a), ("b", b)):
        with at(name):
            ends.append(contents.unpack(end) if isinstance(end, bytes) else end)
    coded = [end for end in ends if isinstance(end, container.Container)]
    if model is None and coded:
        codec = find_codec(coded[0].model_id)
    else:
        codec = open_model(registry.DEFAULT if model is None else model)
    sampling.check_latents(codec)
    found = []
    for name, end in zip("ab", ends, strict=True):
        with at(name):
            if isinstance(end, container.Container):
                found.append(codec.payload_latents(end))
            else:
                found.append(codec.latents(given.as_picture_of(end, codec.image_shape)))
    return flat(np.concatenate([*sampling.interpolate_batches(codec, found[0], found[1], steps)]))


def denoise(images: Any, model: str | Path | Codec | None = None) -> Any:
    """Images with less noise, of the same sizes and colours.

    Args:
        images: a uint8 image (h, w) or (h, w, 3), or one of Pillow; a list of such, of any sizes; or
            an array (n, h, w, c), of a model of grey images of one size (n, h, w), too.
        model: name or path of a model that denoises, or its codec; None for fashion-dae for grey
            images of 28x28 pixels, else photo-dae.

    Returns:
        uint8 (h, w) or (h, w, 3); of a list a list, of an array of several the same shape.

    Raises:
        ImageError: an image is of another dtype or shape than the model takes.
        ModelKindError: the model was not trained on noisy images.
        ModelNotFoundError: there is no such model.
    """
    known = None if model is None else denoising.open_model(model)
    array = None if given.is_list(images) else given.as_array(images)
    if array is not None and denoising.takes_stack(known, array.shape):
        pictures = given.as_pictures(array[..., np.newaxis])
    else:
        pictures = given.as_pictures(images if array is None else array)
    clean = [
        picture
        for batch in alike(pictures)
        for picture in denoising.denoise_any(known or denoising.default_of(batch), batch)
    ]
    if array is None:
        return [flat(picture) for picture in clean]
    return np.array(clean, np.uint8).reshape(array.shape)


def latents(images: Any, model: str | Path | Codec = registry.DEFAULT) -> Any:
    """The latents of images, not quantized: float32 (elements,) of one, (n, elements) of several.

    Images are those of `Codec.encode`. A model of any size gives a list for a list. Raises ImageError
    when an image is not what the model codes.
    """
    return open_model(model).latents(images)


def from_latents(latents: Any, model: str | Path | Codec = registry.DEFAULT) -> Pixels:
    """The pictures that latents stand for: the way back from `latents`.

    Args:
        latents: finite numbers (elements,), or (n, elements) of several.
        model: name or path of the model, or its codec.

    Returns:
        uint8 (h, w) or (h, w, 3) of one, (n, h, w) or (n, h, w, 3) of several.

    Raises:
        CvaeError: the latents are none of this model.
        ModelKindError: the model takes images of any size, or does not code.
    """
    codec, rows = open_model(model), given.as_array(latents)
    sampling.check_one_size(codec)
    elements = codec.coding.elements
    fits = rows.dtype.kind in "fiu" and rows.ndim in (1, 2) and rows.shape[-1] == elements
    if not fits or not np.isfinite(rows).all():
        expected = f"finite numbers of shape ({elements},) or (n, {elements})"
        raise CvaeError(f"expected {expected}, found {given.described(rows)}")
    floats = rows if rows.dtype.kind == "f" else rows.astype(np.float32)
    pictures = flat(codec.to_pixels(floats.reshape(-1, elements)))
    return pictures if rows.ndim == 2 else np.asarray(pictures[0])
