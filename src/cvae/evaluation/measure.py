"""A data set through a codec: rate and distortion of every image, one summary, speed."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvae import kinds
from cvae.bitstream import container
from cvae.codec import WHITE, Codec
from cvae.data import folders, images, metrics, places
from cvae.data.contents import What, what_lies_at
from cvae.data.images import Images, Pixels
from cvae.data.photos import Photos
from cvae.data.reading import Reading
from cvae.data.sources import Which, array_source
from cvae.errors import DataError, Refuse
from cvae.evaluation.coded import rounded
from cvae.models.file import Model
from cvae.models.recorded import recorded_reading
from cvae.options import DEFAULT_EFFORT, EncodeOptions
from cvae.packs.source import open_images


def load(
    source: str | Path, which: Which, reading: Reading, refuse: Refuse = None
) -> tuple[Pixels, list[str]]:
    """The images of a folder, an array, an archive, a pack or an image file, here or at a URL.

    `refuse` is called with what cannot be read, and with notices; see `errors.told`.

    Returns:
        uint8 (n, h, w, c), and the name of each: its path in a folder, its index in an array.

    Raises:
        DataError: the source cannot be read, or has no images.
        ImageError: an image cannot be read, or is not of the model's shape, and `refuse` is None.
    """
    pixels, names = open_images([source], reading, which=which, refuse=refuse).all()
    if not len(pixels):
        raise DataError("expected images, found none", where=source)
    return pixels, names


def load_pictures(
    source: str | Path, which: Which, reading: Reading, refuse: Refuse = None
) -> tuple[list[Pixels], list[str]]:
    """As `load`, of images that keep their sizes: uint8 (h, w, c) each."""
    pixels: list[Pixels] = []
    names: list[str] = []
    for batch in open_images([source], reading, which=which, refuse=refuse).batches():
        pixels += list(batch.pixels)
        names += batch.names or []
    if not pixels:
        raise DataError("expected images, found none", where=source)
    return pixels, names or [str(number) for number in range(len(pixels))]


@dataclass(frozen=True, eq=False)
class Part:
    """A part of a folder, split as it was for training."""

    names: list[str]  # paths below the folder
    images: Images  # (n, h, w, c), as training reads them
    skipped: list[str]  # `NAME: why` of each skipped file of the folder
    changes: dict[str, Sequence[str]]  # by name, what of an image was lost or converted
    warning: str  # that the model was trained on something else, or nothing

    def whole(self, count: int) -> list[Pixels]:
        """The first images at their own sizes, uint8 (h, w, c) each."""
        assert isinstance(self.images, Photos)
        return [self.images.whole(number) for number in range(count)]


def load_part(folder: Path, split: str, model: Model, watch: folders.Watch = iter) -> Part:
    """The images that training set aside as `split`: test, validation or train.

    `watch` is that of `folders.read`.

    Raises:
        DataError: the folder cannot be split, or that part of it is empty.
        ModelError: the manifest's account of how images are read is damaged.
    """
    found, manifest = folders.read(folder, reading_of(model), watch), model.manifest
    if not found.names[split]:
        raise DataError(f"the {split} split has no images", where=folder)
    other = f"{folder}: not the images that {manifest.name} was trained on, or some were added or removed"
    warning = "" if manifest.data.get("sha256") == found.sha256 else other
    names, pixels = found.names[split], found.images[split]
    return Part(names, pixels, found.skipped, found.changes, warning)


def reading_of(model: Model) -> Reading:
    """How a folder's images are brought to the model's shape: as for training, where it was a folder.

    Raises ModelError when the manifest's account of it is damaged.
    """
    manifest = model.manifest
    kind = kinds.of(manifest, model.path)
    if known := recorded_reading(model):
        return known
    if kind.any_size and kind.codes:
        return Reading(manifest.image_shape, "own", WHITE)
    return Reading(manifest.image_shape, "crop")


def split_name(source: str, which: Which) -> str:
    """What a result says of the split: that of an `.npz` file or a folder, or that there is none."""
    if Path(source).is_dir():
        return which.split or "all"
    if what_lies_at(source) is What.ARRAY:
        return array_source(places.locate(source), which).split
    return "all"


@dataclass(frozen=True, eq=False)
class Measured:
    """Every image encoded to a file of its own and decoded again; one value an image.

    Of a model of any size, `pixels` and `decoded` are lists of arrays (h, w, c), `symbols` of arrays.
    """

    quality: int
    effort: int
    pixels: Any  # uint8 (n, h, w, c)
    decoded: Any  # uint8 (n, h, w, c)
    symbols: Any  # int32 (n, elements)
    file_bytes: NDArray[np.int64]  # (n,)
    payload_bytes: NDArray[np.int64]  # (n,)
    information_bits: NDArray[np.float64]  # (n,)
    mse: NDArray[np.float64]  # (n,), of 8-bit pixels
    warned: int  # images below the model's expected PSNR
    encode_seconds: float
    decode_seconds: float

    @property
    def psnr(self) -> NDArray[np.float64]:
        """(n,) in dB."""
        return metrics.psnr_of_mse(self.mse)

    @cached_property
    def ssim(self) -> NDArray[np.float64] | None:
        """(n,), NaN where an image is too small; None without scikit-image."""
        return metrics.ssim_each(self.pixels, self.decoded)


def measure(
    codec: Codec, pixels: Any, quality: int | None = None, effort: int = DEFAULT_EFFORT
) -> Measured:
    """Encodes every image to a file of its own and decodes it again.

    `pixels` is uint8 (n, h, w, c), or a list of (h, w, c) for a model of any size.
    """
    quality = codec.quality(quality)
    options = EncodeOptions(quality=quality, effort=effort)
    batches = list(images.alike(pixels)) if codec.any_size else [pixels]
    codec.encode_batch(
        batches[0][:1], options
    )  # loads the networks, so that the rates are of work alone
    started = time.perf_counter()
    coded = [item for batch in batches for item in codec.encode_batch(batch, options)]
    encoded = time.perf_counter()
    found = codec.decode_containers([container.unpack(c.data) for c in coded])
    symbols = [c.symbols for c in coded]
    decoded = found if codec.any_size else np.stack(found)
    return Measured(
        quality=quality,
        effort=effort,
        pixels=pixels,
        decoded=decoded,
        symbols=symbols if codec.any_size else np.stack(symbols),
        file_bytes=np.array([len(c.data) for c in coded]),
        payload_bytes=np.array([c.payload_bytes for c in coded]),
        information_bits=np.array([c.information_bits for c in coded]),
        mse=metrics.each(metrics.mse, pixels, decoded),
        warned=sum(c.poor for c in coded),
        encode_seconds=encoded - started,
        decode_seconds=time.perf_counter() - encoded,
    )


def summarize(codec: Codec, measured: Measured) -> dict[str, Any]:
    """The figures that `cvae eval --json` prints.

    Sizes are in bytes. PSNR is in dB of 8-bit pixels, at most 99, and the mean over the images unless
    the key says otherwise. A model of any size has no `psnr_of_means`, that of its latents before
    quantization: in several stages there are none.
    """
    pixels, of_means = measured.pixels, {}
    if not codec.staged:
        unquantized = codec.to_pixels(codec.latents(pixels))
        of_means = {"psnr_of_means": float(metrics.psnr(pixels, unquantized).mean())}
    shape = metrics.mean_shape(image.shape for image in pixels)
    figures = metrics.figures(
        shape if codec.any_size else codec.image_shape, int(measured.file_bytes.sum()), measured.mse
    )
    return {
        "images": figures["images"],
        "quality": measured.quality,
        "effort": measured.effort,
        "file_bytes_mean": figures["file_bytes_mean"],
        "payload_bytes_mean": float(measured.payload_bytes.mean()),
        "information_bits_mean": float(measured.information_bits.mean()),
        "compression_ratio": figures["compression_ratio"],
        "bpp": figures["bpp"],
        "psnr_mean": figures["psnr_mean"],
        "psnr_of_mean_mse": figures["psnr_of_mean_mse"],
        **of_means,
        **_exactly(codec, measured),
        "mse_mean": figures["mse_mean"],
        **metrics.ssim_figures(measured.ssim),
        "warned": measured.warned,
        "encode_images_per_second": rounded(len(pixels) / measured.encode_seconds),
        "decode_images_per_second": rounded(len(pixels) / measured.decode_seconds),
    }


def _exactly(codec: Codec, measured: Measured) -> dict[str, Any]:
    """What is said of a lossless model alone."""
    if not codec.lossless:
        return {}
    values = sum(image.size for image in measured.pixels)
    return {
        "bits_per_dimension": 8 * int(measured.file_bytes.sum()) / values,
        "images_that_differ": int((measured.mse > 0).sum()),
    }


def table(measured: Measured, labels: list[str]) -> str:
    """One CSV row an image: its name, bytes, bits, PSNR in dB and SSIM (empty where there is none)."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["image", "file_bytes", "payload_bytes", "information_bits", "psnr", "ssim"])
    sizes = zip(measured.file_bytes, measured.payload_bytes, strict=True)
    figures = zip(measured.information_bits, measured.psnr, strict=True)
    ssim = [np.nan] * len(labels) if measured.ssim is None else measured.ssim.tolist()
    for name, size, (bits, psnr), value in zip(labels, sizes, figures, ssim, strict=True):
        similarity = "" if np.isnan(value) else f"{value:.6f}"
        # So that no spreadsheet takes a name for a formula.
        label = f"./{name}" if name.startswith(("=", "+", "-", "@", "\t", "\r")) else name
        writer.writerow([label, *size, f"{bits:.4f}", f"{psnr:.4f}", similarity])
    return buffer.getvalue()
