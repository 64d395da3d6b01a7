"""What the tabs show, as functions of arrays and bytes: nothing here knows the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cvae import denoising, sampling
from cvae.checks import whole
from cvae.codec import Codec, find_codec, open_model
from cvae.data import contents, grids, images
from cvae.data.images import Pixels
from cvae.data.reading import Picture, Reading
from cvae.errors import CvaeError, ImageError
from cvae.evaluation import noise
from cvae.models import registry
from cvae.models.file import Model
from cvae.options import EncodeOptions

AUTOMATIC = "automatic"  # in place of a model's name: what `cvae encode` takes
LATENTS = registry.DEFAULT  # the model whose latents have sliders
PHOTO = "photo"
UPLOAD = 20 << 20  # bytes of a file
# A picture of more pixels is refused, one of fewer scaled down to what visitors wait for.
MOST_READ, MOST_CODED, MOST_DENOISED = 24_000_000, 1_000_000, 250_000
MOST_DRAWN, MOST_STEPS = 36, 32
BOUND = 4.0  # of a latent's slider; those of a VAE spread as N(0, 1)
_SEEN = 280  # pixels: smaller pictures are enlarged about so far
_FULL = 64  # levels of error from which on the map has its last colour
_RAMP = np.array([[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]])


@dataclass(frozen=True)
class Read:
    """A picture as a model takes it, and what was changed on the way."""

    pixels: Pixels  # (h, w, c)
    changes: tuple[str, ...]


@dataclass(frozen=True)
class Coded:
    """A picture that was coded and decoded."""

    read: Read
    back: Pixels  # (h, w, c)
    data: bytes
    model: str
    quality: int
    psnr: float  # dB
    notes: tuple[str, ...]


@lru_cache(maxsize=24)
def codec_of(name: str) -> Codec:
    """The codec of a model by its name or path; opened once."""
    return open_model(name)


@lru_cache(maxsize=4)
def denoiser_of(name: str) -> Model:
    return denoising.open_model(name)


def choose(name: str, data: bytes) -> Codec:
    """The codec that is named; for `AUTOMATIC` the one that an image file gets without `-m`."""
    if name != AUTOMATIC:
        return codec_of(name)
    small = _opened(data).size == codec_of(registry.DEFAULT).image_shape[1::-1]
    return codec_of(registry.DEFAULT if small else PHOTO)


def read(data: bytes, codec: Codec) -> Read:
    """An image file as a codec takes it: brought to its size, or to one that visitors wait for.

    Raises ImageError when it is no image, too large, or not for a lossless model.
    """
    reading = codec.reading(EncodeOptions(fit=not codec.lossless))
    return _read(data, reading, MOST_CODED)


def code(found: Read, codec: Codec, quality: int, effort: int, invert: bool = False) -> Coded:
    """Encodes a picture and decodes the container again; lossless models have no qualities."""
    asked = None if codec.lossless else quality
    options = EncodeOptions(quality=asked, effort=effort, invert=invert)
    (item,) = codec.encode_batch(found.pixels[np.newaxis], options)
    notes = list(found.changes)
    if item.poor:
        notes.append(f"below the {item.expected_psnr:.1f} dB expected of {codec.name}")
        notes += _inverts(found, codec, options, item.psnr)
    back = codec.decode(item.data).reshape(found.pixels.shape)
    return Coded(found, back, item.data, codec.name, item.quality, item.psnr, tuple(notes))


def _inverts(found: Read, codec: Codec, options: EncodeOptions, psnr: float) -> list[str]:
    """The advice to invert a picture of the other polarity."""
    if codec.staged or options.invert:
        return []
    other = EncodeOptions(quality=options.quality, effort=options.effort, invert=True)
    (item,) = codec.encode_batch(found.pixels[np.newaxis], other)
    better = item.psnr > psnr and not item.poor
    return [f"it is dark on light: inverted it reaches {item.psnr:.1f} dB"] if better else []


def decode(data: bytes, own: Codec | None = None) -> tuple[Pixels, str]:
    """The picture (h, w, c) of a container, and the name of the model, `own` or one at hand.

    Raises FormatError when it is damaged or claims too many pixels, ModelNotFoundError without a model.
    """
    item = contents.unpack(data)
    fits = own is not None and own.model.manifest.id == item.model_id
    codec = own if own is not None and fits else find_codec(item.model_id)
    # Pixels are paid for before the payload is known to be worth them.
    width, height = item.original_size or (1, 1)
    if width * height > MOST_CODED:
        text = f"expected a picture of at most {MOST_CODED:,} pixels, found {width}x{height}"
        raise ImageError(text, advice="`cvae decode` takes larger ones")
    pixels = codec.decode(data)
    return pixels.reshape(*pixels.shape[:2], -1), codec.name


def error_map(original: Pixels, back: Pixels) -> Pixels:
    """How far each pixel is off, (h, w, 3): from black for none to yellow for 64 levels and more."""
    off = np.abs(original.astype(np.int16) - back).mean(axis=2)
    place = np.minimum(off / _FULL, 1) * (len(_RAMP) - 1)
    knots = np.arange(len(_RAMP))
    channels = [np.interp(place, knots, _RAMP[:, channel]) for channel in range(3)]
    return np.asarray(np.rint(np.stack(channels, axis=2)), np.uint8)


def shown(pixels: Pixels) -> Pixels:
    """A picture (h, w, c) as (h, w, 3), each pixel repeated where the picture is small."""
    zoom = max(1, _SEEN // max(pixels.shape[:2]))
    large = pixels.repeat(zoom, axis=0).repeat(zoom, axis=1)
    return np.repeat(large, 3, axis=2) if large.shape[2] == 1 else large


def grey(image: Image.Image) -> Pixels:
    """An opened image as grey pixels (h, w, 1)."""
    return Reading((0, 0, 1), "own").pixels(Reading((0, 0, 1), "own").picture(image, "the drawing"))


def digit_of(drawing: Pixels) -> Pixels:
    """A white drawing on black (h, w, 1) as MNIST has its digits: 20 pixels in the middle of 28.

    Raises ImageError when nothing was drawn.
    """
    rows, columns = (np.flatnonzero(drawing[..., 0].max(axis=axis)) for axis in (1, 0))
    if not len(rows):
        raise ImageError("nothing was drawn", advice="draw a digit with mouse or finger")
    part = drawing[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = 20 / max(part.shape[:2])
    width, height = (max(1, round(side * scale)) for side in part.shape[1::-1])
    small = images.resize(part, width, height)[..., 0]
    weight = small.sum(dtype=np.float64) or 1.0
    centre_y = (small.sum(axis=1) * np.arange(height)).sum() / weight
    centre_x = (small.sum(axis=0) * np.arange(width)).sum() / weight
    top = int(np.clip(round(13.5 - centre_y), 0, 28 - height))
    left = int(np.clip(round(13.5 - centre_x), 0, 28 - width))
    digit = np.zeros((28, 28, 1), np.uint8)
    digit[top : top + height, left : left + width, 0] = small
    return digit


def latents_of(data: bytes) -> list[float]:
    """The latents of an image file as sliders show them."""
    codec = codec_of(LATENTS)
    found = codec.latents(read(data, codec).pixels)
    return [round(float(value), 2) for value in np.clip(found, -BOUND, BOUND)]


def picture_of(latents: Sequence[float]) -> Pixels:
    """The picture (h, w, c) that latents stand for."""
    row: NDArray[np.float32] = np.array(latents, np.float32).reshape(1, -1)
    if not np.isfinite(row).all() or np.abs(row).max(initial=0) > BOUND:
        raise CvaeError(f"expected latents from {-BOUND:g} to {BOUND:g}")
    return np.asarray(codec_of(LATENTS).to_pixels(row)[0])


def animation(first: bytes, last: bytes, name: str, steps: int) -> bytes:
    """A GIF that goes from one image file to another through the latents of a model, and back."""
    codec = codec_of(name)
    sampling.check_latents(codec)
    steps = whole(steps, f"2 to {MOST_STEPS} pictures", 2, MOST_STEPS)
    start, end = (codec.latents(read(data, codec).pixels) for data in (first, last))
    frames = np.concatenate([*sampling.interpolate_batches(codec, start, end, steps)])
    return grids.animation(frames, max(1, _SEEN // max(frames.shape[1:3])))


def noisy(data: bytes, name: str, factor: float) -> tuple[Read, Pixels, Model]:
    """An image file as a denoiser takes it, the same with noise, and the denoiser."""
    image = _opened(data)
    chosen = denoising.default(image.size, image.mode) if name == AUTOMATIC else name
    model = denoiser_of(chosen)
    reading = denoising.reading(model)
    if reading.fit == "exact":
        reading = Reading(reading.shape, "stretch", reading.background)
    found = _read(data, reading, MOST_DENOISED)
    return found, noise.add_noise(found.pixels, factor, 0), model


def denoised(model: Model, pixels: Pixels) -> Pixels:
    """A picture (h, w, c) with less noise."""
    clean: Pixels = denoising.denoise_any(model, pixels[np.newaxis])[0]
    return clean


def drawn(name: str, count: int, seed: int) -> Pixels:
    """Pictures drawn from a model as a grid (h, w, c)."""
    count = whole(count, f"1 to {MOST_DRAWN} pictures", 1, MOST_DRAWN)
    seed = whole(seed, "a seed of 0 to 2**32 - 1", 0, 2**32 - 1)
    pixels = sampling.sample(codec_of(name), count, seed)
    columns = int(np.ceil(np.sqrt(count)))
    rows = [pixels[start : start + columns] for start in range(0, count, columns)]
    return grids.grid(rows, grids.zoom_for(pixels.shape[1:]))


def line(error: CvaeError) -> str:
    """What a visitor is told of an error: one line, without the folders of this machine."""
    said = f"{error.text}; {error.advice}" if error.advice else error.text
    words = " ".join(said.split()).split(" ")
    return " ".join(word.rsplit("/", 1)[-1] if word.count("/") > 1 else word for word in words)


def load(path: str | Path) -> bytes:
    """The bytes of an uploaded file. Raises ImageError when it is too large or gone."""
    data = images.read_file(Path(path), "the file")
    if len(data) > UPLOAD:
        raise ImageError(f"expected at most {UPLOAD >> 20} MB, found {len(data):,} bytes")
    return data


def _opened(data: bytes) -> Image.Image:
    image = images.open_image(data, "the picture")
    if image.width * image.height > MOST_READ:
        found = f"{image.width}x{image.height}"
        raise ImageError(f"expected at most {MOST_READ:,} pixels, found {found}")
    return image


def _read(data: bytes, reading: Reading, most: int) -> Read:
    picture = reading.picture(_opened(data), "the picture")
    changes = list(picture.changes)
    height, width, _ = reading.shape
    if reading.keeps:
        picture, scaled = _shrunk(picture, most)
    else:
        scaled = f"scaled from {picture.size[0]}x{picture.size[1]} to {width}x{height}"
        scaled = "" if picture.size == (width, height) else scaled
    changes += [scaled] if scaled else []
    return Read(reading.pixels(picture), tuple(changes))


def _shrunk(picture: Picture, most: int) -> tuple[Picture, str]:
    """A picture of at most so many pixels, and what is said of it."""
    image = picture.image
    if image.width * image.height <= most:
        return picture, ""
    scale = (most / (image.width * image.height)) ** 0.5
    size = max(1, int(image.width * scale)), max(1, int(image.height * scale))
    text = f"scaled from {image.width}x{image.height} to {size[0]}x{size[1]}, as pages are to answer at once"
    return picture._replace(image=image.resize(size, Image.Resampling.LANCZOS), box=None), text


def own_codec(path: Path) -> Codec:
    """The codec of a model file that a visitor brings; no code of it runs."""
    return open_model(path)


def smoothed(original: Pixels, pixels: Pixels) -> tuple[Pixels, float]:
    """A noisy picture by total variation, at the weight that comes nearest to the original.

    The error falls and then rises with the weight, so that a search between weights finds the least.
    """
    noise.check_tv()
    tried: dict[int, tuple[float, Pixels]] = {}

    def error(place: int) -> float:
        if place not in tried:
            clean = noise.tv(pixels[np.newaxis], noise.TV_WEIGHTS[place])[0]
            tried[place] = float(np.square(original.astype(np.float32) - clean).mean()), clean
        return tried[place][0]

    low, high = 0, len(noise.TV_WEIGHTS) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if error(middle) <= error(middle + 1) else (middle + 1, high)
    error(low)
    return tried[low][1], noise.TV_WEIGHTS[low]


def samples_folder() -> Path:
    """The pictures that come with the package: inside it, or at the top of a checkout."""
    inside = Path(__file__).with_name("samples")
    return inside if inside.is_dir() else Path(__file__).parents[3] / "samples"
