"""A picture of every model for docs/models.md, of nothing but own drawings and what models draw.

python benchmarks/pictures.py docs/models [MODEL...]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from cvae import denoising, kinds, sampling
from cvae.codec import Codec
from cvae.data import grids, images
from cvae.data.images import Pixels
from cvae.data.reading import Reading
from cvae.data.sources import open_images
from cvae.evaluation import noise
from cvae.models import registry
from cvae.models.file import Model

ROOT = Path(__file__).parents[1]
LANDSCAPE = ROOT / "docs" / "models" / "landscape.png"
_COLUMNS = 10
_SEED = 0
_SIDE = 64  # pixels
# A VAE draws what others are tried on.
_DRAWS = {"mnist": "mnist", "fashion_mnist": "fashion"}


def picture(model: Model) -> Pixels:
    """Rows of uint8 (h, w, c): of a codec originals and reconstructions, or what it draws where there
    are no originals of its kind; of a denoiser originals, with noise, denoised."""
    manifest = model.manifest
    factor = float(manifest.preset.get("noise", 0))
    if not kinds.codes(manifest):
        clean = np.asarray(Image.open(LANDSCAPE).convert("RGB"))[np.newaxis]
        return grid([np.concatenate([clean, *_with_and_without(model, clean, factor)])])
    codec = Codec(model)
    originals = _originals(codec)
    if originals is None:
        drawn = _smaller(sampling.sample(codec, 2 * _COLUMNS, _SEED))
        return grid([drawn[:_COLUMNS], drawn[_COLUMNS:]])
    if factor:
        return grid([originals, *_with_and_without(model, originals, factor)])
    quality = codec.quality(None)
    coded = codec.synthesize(codec.quantize(originals, quality), quality)
    return grid([originals, coded])


def _smaller(pixels: Pixels) -> Pixels:
    """Means of squares of pixels, so that no side is much over `_SIDE`."""
    count, height, width, channels = pixels.shape
    cell = max(1, height // _SIDE)
    cells = pixels.reshape(count, height // cell, cell, width // cell, cell, channels)
    return np.rint(cells.mean(axis=(2, 4))).astype(np.uint8)


def grid(rows: list[Pixels]) -> Pixels:
    return grids.grid(rows, grids.zoom_for(rows[0].shape[1:]))


def _originals(codec: Codec) -> Pixels | None:
    data = str(codec.model.manifest.preset.get("dataset"))
    if data == "mnist":
        paths = sorted((ROOT / "samples").glob("digit_?.png"))
        return open_images(paths, Reading(codec.image_shape, "exact")).all()[0][:_COLUMNS]
    if data in _DRAWS and codec.name != _DRAWS[data]:
        return sampling.sample(Codec(registry.open_model(_DRAWS[data])), _COLUMNS, _SEED)
    return None


def _with_and_without(model: Model, clean: Pixels, factor: float) -> tuple[Pixels, Pixels]:
    noisy = np.stack([noise.add_noise(x, factor, i) for i, x in enumerate(clean)])
    return noisy, denoising.denoise(model, noisy)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("model", nargs="*", help="names or files; all that are found by default")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.model or [e.manifest.name for e in registry.known_models()[0]]:
        model = registry.open_model(name)
        path = options.out / f"{model.manifest.name}.png"
        path.write_bytes(images.encode_image(picture(model), path.name))


if __name__ == "__main__":
    main()
