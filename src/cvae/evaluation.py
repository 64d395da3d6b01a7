"""A data set through a codec: one summary of rate, distortion and speed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from cvae import container, images, metrics
from cvae.codec import DEFAULT_EFFORT, Codec
from cvae.errors import DataError, ImageError, MissingExtraError
from cvae.images import Pixels, Shape


def load(source: Path, split: str, shape: Shape) -> Pixels:
    """The images to evaluate on: a split of an `.npz` file, a folder, or one image file.

    Returns:
        uint8 (n, h, w, c).

    Raises:
        DataError: the source cannot be read, or has no images.
        ImageError: its images are not of the model's shape.
    """
    if source.is_dir():
        paths = images.find_images(source)
        if not paths:
            raise DataError(f"{source}: expected images, found none in this folder")
        return images.read_images(paths, shape)
    if not source.exists():
        raise DataError(f"{source}: there is no such file or folder")
    if source.suffix.lower() != ".npz":
        return images.read_images([source], shape)
    pixels = images.read_npz(source, split)
    if pixels.shape[1:] != shape:
        height, width, channels = pixels.shape[1:]
        raise ImageError(
            f"{source}: the model codes {images.describe(shape)}, "
            f"found {width}x{height} with {channels} channels"
        )
    if not len(pixels):
        raise DataError(f"{source}: the {split} split has no images")
    return pixels


def evaluate(
    codec: Codec, pixels: Pixels, quality: int | None = None, effort: int = DEFAULT_EFFORT
) -> dict[str, Any]:
    """Encodes every image to a file of its own and decodes it again.

    Args:
        codec: the model's codec.
        pixels: uint8 (n, h, w, c) of its shape.
        quality: 1 to 100, or None for the model's default.
        effort: 0 (plain rounding) to 9.

    Returns:
        The figures that `cvae eval --json` prints; sizes in bytes, PSNR in dB of 8-bit pixels, as a
        mean over the images of per-image PSNR (at most 99) unless the key says otherwise.
    """
    quality = codec.quality(quality)
    # Loads the networks, so that the rates are of work alone.
    codec.encode_batch(pixels[:1], quality, effort=effort)
    started = time.perf_counter()
    coded = codec.encode_batch(pixels, quality, effort=effort)
    encode_seconds = time.perf_counter() - started

    started = time.perf_counter()
    decoded = np.stack(codec.decode_containers([container.unpack(c.data) for c in coded]))
    decode_seconds = time.perf_counter() - started

    latents = codec.model.analysis(images.as_floats(pixels))
    of_means = codec.to_pixels(latents)
    mse = metrics.mse(pixels, decoded)
    file_bytes = np.array([len(c.data) for c in coded])
    return {
        "images": len(pixels),
        "quality": quality,
        "effort": effort,
        "file_bytes_mean": float(file_bytes.mean()),
        "payload_bytes_mean": float(np.mean([c.payload_bytes for c in coded])),
        "information_bits_mean": float(np.mean([c.information_bits for c in coded])),
        "compression_ratio": float(pixels.nbytes / file_bytes.sum()),
        "bpp": metrics.bits_per_pixel(float(file_bytes.mean()), codec.image_shape),
        "psnr_mean": float(metrics.psnr_of_mse(mse).mean()),
        "psnr_of_mean_mse": float(metrics.psnr_of_mse(mse.mean(keepdims=True))[0]),
        "psnr_of_means": float(metrics.psnr(pixels, of_means).mean()),
        "mse_mean": float(mse.mean()),
        "ssim_mean": _ssim_mean(pixels, decoded),
        "warned": sum(c.poor for c in coded),
        "encode_images_per_second": round(len(pixels) / encode_seconds, 1),
        "decode_images_per_second": round(len(pixels) / decode_seconds, 1),
    }


def _ssim_mean(x: Pixels, x_hat: Pixels) -> float | None:
    try:
        mean = float(metrics.ssim(x, x_hat).mean())
    except MissingExtraError:
        return None
    return None if np.isnan(mean) else mean
