"""What the commands do, as functions: `cvae.NAME` is that of this module, loaded when it is used."""

from __future__ import annotations

import secrets
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from cvae import denoising, kinds, sampling
from cvae import lossless as exactly
from cvae.bitstream import container
from cvae.checks import truth, whole
from cvae.codec import Codec, find_codec, open_model, open_model_of
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
        warnings.warn(str(error), stacklevel=2)
    found = []
    for path, manifest in entries:
        kind = kinds.of(manifest)
        takes, denoises = kind.describe(manifest), kind.denoises(manifest)
        name, summary = manifest.name, manifest.summary
        found.append(ModelInfo(name, manifest.id, manifest.kind, takes, denoises, summary, path))
    return found


def encode(
    image: NDArray[np.uint8] | Image,
    model: str | Path | Codec = registry.DEFAULT,
    quality: int | None = None,
    effort: int = DEFAULT_EFFORT,
    *,
    max_bytes: int | None = None,
    min_psnr: float | None = None,
    lossless: bool = False,
) -> bytes:
    """One uint8 image (h, w) or (h, w, c), or one of Pillow, as a container; see `Codec.encode`.

    With `lossless` every pixel is kept, by the model of the shortest file; it takes nothing else than the
    image. A lossless model by its name does without it.
    """
    if truth(lossless, "lossless"):
        usual = (registry.DEFAULT, None, DEFAULT_EFFORT, None, None)
        asked = (model, quality, effort, max_bytes, min_psnr)
        if any(one is not other for one, other in zip(asked, usual, strict=True)):
            raise CvaeError("lossless=True chooses the model and has no quality, found one, too")
        return exactly.encode(image)
    codec = open_model(model)
    return codec.encode(image, quality, effort, max_bytes=max_bytes, min_psnr=min_psnr)


def decode(data: bytes, max_pixels: int | None = None) -> NDArray[np.uint8]:
    """The uint8 image of a container, with the model that the container names; see `Codec.decode`.

    `max_pixels` is how many pixels an image may have that was fitted, and is restored.
    """
    return open_model_of(data).restoring(max_pixels).decode(data)


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

    Raises:
        ImageError: an image is of another dtype or shape.
        CvaeError: there are fewer or more names or labels than images, or quality or effort is out of
            range.
        OutputError: the file exists and `force` is off, or cannot be written.
    """
    from cvae.packs import encode as packing

    block_images = whole(block_images, "1 to 4,096 images a block", 1, 4096)
    options = EncodeOptions(quality=quality, effort=effort, verify=False, block_images=block_images)
    packing.encode_pack(images, path, open_model(model), options, names, force, labels)


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
            is_coded = isinstance(end, container.Container)
            found.append(codec.payload_latents(end) if is_coded else codec.latents([end])[0])
    return flat(np.concatenate([*sampling.interpolate_batches(codec, found[0], found[1], steps)]))


def denoise(images: Any, model: str | Path | Codec | None = None) -> Any:
    """Images with less noise, of the same sizes and colours.

    Args:
        images: a uint8 image (h, w) or (h, w, 3), or one of Pillow; a list of such, of any sizes; or
            an array (n, h, w, c).
        model: name or path of a model that denoises, or its codec; None for fashion-dae for grey
            images of 28x28 pixels, else photo-dae.

    Returns:
        uint8 (h, w) or (h, w, 3); of a list a list, of an array (n, h, w, c) the same shape.

    Raises:
        ImageError: an image is of another dtype or shape than the model takes.
        ModelKindError: the model was not trained on noisy images.
        ModelNotFoundError: there is no such model.
    """
    several = given.is_list(images)
    whole_array = not several and given.as_array(images).ndim > 3
    pictures = given.as_pictures(images)
    known = None if model is None else denoising.open_model(model)
    clean = [
        picture
        for batch in alike(pictures)
        for picture in denoising.denoise_any(known or denoising.default_of(batch), batch)
    ]
    if whole_array:
        return np.stack(clean) if clean else np.array(images)
    clean = [flat(picture) for picture in clean]
    return clean if several else clean[0]


def latents(images: Any, model: str | Path | Codec = registry.DEFAULT) -> Any:
    """The latents of images, not quantized: float32 (elements,) of one, (n, elements) of several.

    Images are those of `Codec.encode`. A model of any size gives a list for a list. Raises ImageError
    when an image is not what the model codes.
    """
    return open_model(model).latents(images)


def from_latents(latents: Any, model: str | Path | Codec = registry.DEFAULT) -> Pixels:
    """The pictures that latents stand for: the way back from `latents`.

    Args:
        latents: finite floats (elements,), or (n, elements) of several.
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
    fits = rows.dtype.kind == "f" and rows.ndim in (1, 2) and rows.shape[-1] == elements
    if not fits or not np.isfinite(rows).all():
        expected = f"finite floats of shape ({elements},) or (n, {elements})"
        raise CvaeError(f"expected {expected}, found {given.described(rows)}")
    pictures = flat(codec.to_pixels(rows.reshape(-1, elements)))
    return pictures if rows.ndim == 2 else np.asarray(pictures[0])
