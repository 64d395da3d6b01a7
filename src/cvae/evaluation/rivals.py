"""General image codecs on the same images, through Pillow: as single files and as mosaics.

Each codec is data: the options that its encoder is tried with. No choice of them is best for every kind
of image, so all are tried on a sample, what another beats in bytes and in PSNR is dropped, and of
the rest those around the PSNR of interest are measured on all images.
"""

from __future__ import annotations

import io
import itertools
import math
import os
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features
from PIL import __version__ as pillow_version

from cvae.data import metrics
from cvae.data.images import MAX_PIXELS, Pixels
from cvae.errors import CvaeError, MissingExtraError

Layout = Literal["single", "mosaic"]
Options = dict[str, Any]  # of Pillow's `save`
Grid = dict[str, list[Any]]  # option -> the values that are tried, every combination of them
Progress = Callable[[str], None]

MOSAIC_TILES = 1000
# Images that the options are compared on.
_SAMPLE = 128

_QUALITIES = [0, 2, 5, 8, 12, 16, 20, 25, 30, 36, 42, 50, 60, 70, 80, 90, 95]


@dataclass(frozen=True)
class Rival:
    """A format and what its encoder is tried with."""

    name: str
    format: str  # what Pillow calls it
    feature: str  # what `PIL.features` calls it; empty for the plug-in
    fixed: Options = field(default_factory=dict)
    lossy: Grid = field(default_factory=dict)
    lossless: Grid = field(default_factory=dict)
    single: Grid = field(default_factory=dict)
    mosaic: Grid = field(default_factory=dict)
    grey: Grid = field(default_factory=dict)
    colour: Grid = field(default_factory=dict)

    def settings(self, layout: Layout, channels: int) -> list[Options]:
        """Every lossy combination for images of 1 or 3 channels in a layout; empty without any."""
        return self._combinations(self.lossy, layout, channels)

    def lossless_settings(self, layout: Layout, channels: int) -> list[Options]:
        """Every combination that keeps every pixel; empty where the format is not used so."""
        return self._combinations(self.lossless, layout, channels)

    def _combinations(self, grid: Grid, layout: Layout, channels: int) -> list[Options]:
        if not grid:
            return []
        by_layout = self.single if layout == "single" else self.mosaic
        by_colour = self.grey if channels == 1 else self.colour
        whole = {**by_layout, **by_colour, **grid}
        return [
            {**self.fixed, **dict(zip(whole, values, strict=True))}
            for values in itertools.product(*whole.values())
        ]

    def describe(self, options: Options) -> str:
        """`quality=20 effort=9`: options without those that are always the same."""
        chosen = {name: value for name, value in options.items() if name not in self.fixed}
        return " ".join(
            f"{name}={value[0] if isinstance(value, list) else value}"
            for name, value in chosen.items()
        )


PNG = Rival(
    "png",
    "PNG",
    "zlib",
    # zlib's strategies: chosen by Pillow, default, filtered, Huffman only, run lengths.
    lossless={
        "optimize": [True, False],
        "compress_level": [9],
        "compress_type": [-1, 0, 1, 2, 3],
    },
)

WEBP = Rival(
    "webp",
    "WEBP",
    "webp",
    fixed={"method": 6},
    lossy={"quality": _QUALITIES},
    lossless={"lossless": [True], "quality": [100], "exact": [True]},
)

JPEG = Rival(
    "jpeg",
    "JPEG",
    "jpg",
    fixed={"optimize": True},
    # Pillow reads 0 as its default, 75.
    lossy={"quality": [1, *_QUALITIES[1:]], "progressive": [False, True]},
    colour={"subsampling": ["4:2:0", "4:4:4"]},
)

AVIF = Rival(
    "avif",
    "AVIF",
    "avif",
    # Pillow's default is tuned to the eye; in PSNR that costs a fifth of the bytes.
    fixed={"codec": "aom", "max_threads": 1, "autotiling": False, "advanced": {"tune": "psnr"}},
    lossy={"quality": _QUALITIES},
    # Slower gains nothing on small files. On a mosaic speed 2 takes four times as long as 4 for 0 to 3 %
    # of the bytes.
    single={"speed": [4]},
    mosaic={"speed": [4]},
    grey={"subsampling": ["4:0:0"]},
    colour={"subsampling": ["4:2:0", "4:4:4"]},
)

JXL = Rival(
    "jxl",
    "JXL",
    "",
    fixed={"num_threads": 0},
    # Effort 9 reaches lower, 5 is often as good for its bytes; at 18 PSNR leaps.
    lossy={"quality": sorted([*_QUALITIES, 17, 18, 19]), "effort": [5, 9]},
    lossless={"lossless": [True], "effort": [5, 7, 9, 10]},
)

JPEG2000 = Rival(
    "jpeg2000",
    "JPEG2000",
    "jpg_2000",
    # A bare codestream is 85 bytes smaller than a .jp2; a blank as comment saves the encoder's own.
    fixed={"no_jp2": True, "comment": " ", "quality_mode": "dB"},
    lossy={
        "irreversible": [True],
        "quality_layers": [[db] for db in (*range(12, 36), 38, 41, 44, 48)],
    },
    lossless={"irreversible": [False]},
    # Each resolution level costs a small file a header.
    single={"num_resolutions": [1, 2, 3]},
    mosaic={"num_resolutions": [1, 3, 4, 6]},
    colour={"mct": [1]},
)

RIVALS = {rival.name: rival for rival in (PNG, WEBP, JPEG, AVIF, JXL, JPEG2000)}


@dataclass(frozen=True, eq=False)
class Point:
    """One setting of one codec on all images."""

    settings: str
    total_bytes: int
    mse: NDArray[np.float64]  # (n,), of 8-bit pixels
    decoded: Pixels  # (n, h, w, c)
    lossless: bool = False

    @property
    def psnr(self) -> float:
        """The mean over the images in dB."""
        return float(metrics.psnr_of_mse(self.mse).mean())

    @property
    def mean_bytes(self) -> float:
        return self.total_bytes / len(self.mse)


def check(rival: Rival) -> None:
    """Raises CvaeError, saying what to install, when the codec is missing here."""
    if not rival.feature:
        try:
            import pillow_jxl  # noqa: F401  (registers the format)
        except ImportError as error:
            raise MissingExtraError("pillow-jxl-plugin", "jxl") from error
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an old Pillow does not know the name
        found = features.check(rival.feature)
    if not found:
        raise CvaeError(
            f"expected a Pillow with {rival.format}, found Pillow {pillow_version} without",
            where=rival.name,
            advice="pip install --upgrade pillow brings one",
        )


def encode(rival: Rival, image: Pixels, options: Options) -> bytes:
    """One uint8 image (h, w, c) as a file. Raises CvaeError when the encoder refuses."""
    buffer = io.BytesIO()
    try:
        Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(
            buffer, format=rival.format, **options
        )
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        height, width, _ = image.shape
        raise CvaeError(
            f"cannot code {width}x{height} with {rival.describe(options)}: {error}",
            where=rival.name,
        ) from error
    return buffer.getvalue()


def decode(rival: Rival, data: bytes, channels: int) -> Pixels:
    """The uint8 image (h, w, c) of a file that `encode` made."""
    with Image.open(io.BytesIO(data), formats=[rival.format]) as image:
        pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"), np.uint8)
    return pixels.reshape(*pixels.shape[:2], channels)


def measure(rival: Rival, pixels: Pixels, layout: Layout, options: Options) -> Point:
    """Codes all images and decodes them again.

    Args:
        rival: the codec.
        pixels: uint8 (n, h, w, c).
        layout: "single", a file an image, or "mosaic", a file for up to 1,000 images.
        options: of Pillow's `save`.

    Raises:
        CvaeError: the encoder refuses the images or the options.
    """
    code = partial(_code, rival, options=options)
    pictures = pixels if layout == "single" else mosaics(pixels)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        coded = list(pool.map(code, pictures))
    images = [decoded for _, decoded in coded]
    decoded = np.stack(images) if layout == "single" else cut(images, pixels.shape)
    error = metrics.mse(pixels, decoded)
    total = sum(size for size, _ in coded)
    return Point(rival.describe(options), total, error, decoded, lossless=not error.any())


def _code(rival: Rival, image: Pixels, options: Options) -> tuple[int, Pixels]:
    data = encode(rival, image, options)
    return len(data), decode(rival, data, image.shape[2])


def tiles_a_mosaic(shape: tuple[int, ...]) -> int:
    """How many images (h, w, c) go into one mosaic: 1,000, fewer where that would be too large."""
    return max(1, min(MOSAIC_TILES, MAX_PIXELS // (shape[0] * shape[1])))


def mosaics(pixels: Pixels) -> list[Pixels]:
    """uint8 (n, h, w, c) -> pictures of up to 1,000 images, each as near to a square as can be."""
    tiles = tiles_a_mosaic(pixels.shape[1:])
    return [_tile(pixels[start : start + tiles]) for start in range(0, len(pixels), tiles)]


def cut(pictures: Iterable[Pixels], shape: tuple[int, ...]) -> Pixels:
    """The inverse of `mosaics`: pictures -> (n, h, w, c), the shape of what they were made of."""
    count, height, width, channels = shape
    tiles = tiles_a_mosaic(shape[1:])
    parts = []
    for number, picture in enumerate(pictures):
        rows, columns = picture.shape[0] // height, picture.shape[1] // width
        grid = picture.reshape(rows, height, columns, width, channels).swapaxes(1, 2)
        held = min(tiles, count - number * tiles)
        parts.append(grid.reshape(rows * columns, height, width, channels)[:held])
    return np.concatenate(parts)


def _tile(pixels: Pixels) -> Pixels:
    """(n, h, w, c) -> one picture in reading order; places that are left over are black."""
    count, height, width, channels = pixels.shape
    columns = min(count, max(1, round(math.sqrt(count * height / width))))
    rows = -(-count // columns)
    grid = np.zeros((rows * columns, height, width, channels), np.uint8)
    grid[:count] = pixels
    grid = grid.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    return grid.reshape(rows * height, columns * width, channels)


def curve(
    rival: Rival, pixels: Pixels, layout: Layout, target: float, progress: Progress
) -> list[Point]:
    """Points of a codec around a PSNR of interest, and its lossless one if it has any.

    Args:
        rival: the codec.
        pixels: uint8 (n, h, w, c).
        layout: "single" or "mosaic".
        target: the PSNR of interest in dB.
        progress: is told what is being measured.

    Raises:
        CvaeError: the codec is missing here, or its encoder takes none of its settings.
    """
    check(rival)
    title = f"{rival.name}, {layout}"
    points = []
    candidates = _candidates(rival, pixels[:_SAMPLE], layout, progress)
    if candidates:
        psnrs = [psnr for _, psnr in candidates]

        def measured(index: int) -> Point:
            options = candidates[index][0]
            progress(f"{title}: {rival.describe(options)}")
            return measure(rival, pixels, layout, options)

        points = bracket(measured, psnrs, target)
    lossless = rival.lossless_settings(layout, pixels.shape[3])
    if lossless:
        progress(f"{title}: lossless")
        points.append(measure(rival, pixels, layout, _smallest(rival, pixels, layout, lossless)))
    return points


def _smallest(rival: Rival, pixels: Pixels, layout: Layout, settings: list[Options]) -> Options:
    """The options that take the fewest bytes, by a sample."""
    sample = pixels[:_SAMPLE]
    return min(settings, key=lambda options: measure(rival, sample, layout, options).total_bytes)


def _candidates(
    rival: Rival, sample: Pixels, layout: Layout, progress: Progress
) -> list[tuple[Options, float]]:
    """The lossy settings that no other beats on a sample, from smallest to best, with their PSNR."""
    settings = rival.settings(layout, sample.shape[3])
    found: list[tuple[Options, Point]] = []
    refused: CvaeError | None = None
    for number, options in enumerate(settings, 1):
        progress(f"{rival.name}, {layout}: setting {number} of {len(settings)} on a sample")
        try:
            found.append((options, measure(rival, sample, layout, options)))
        except CvaeError as error:
            refused = error  # some do not take small pictures
    if refused is not None and not found:
        raise refused
    keep = front([(point.mean_bytes, point.psnr) for _, point in found])
    return [(found[i][0], found[i][1].psnr) for i in keep]


def front(points: list[tuple[float, float]]) -> list[int]:
    """Indexes of the (bytes, PSNR) that no other beats in both, from the fewest bytes on."""
    kept: list[int] = []
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if not kept or points[i][1] > points[kept[-1]][1]:
            kept.append(i)
    return kept


_AT_LEAST = 5  # points of a curve, where the codec has as many


def bracket(measured: Callable[[int], Point], psnrs: list[float], target: float) -> list[Point]:
    """The smallest setting, and some nearest to the target, those directly below and above among them.

    Args:
        measured: measures a setting, by its index, on all images.
        psnrs: what each setting reaches on a sample in dB, rising.
        target: in dB; the bracket is exact on all images, too.
    """
    above = int(np.searchsorted(psnrs, target))
    chosen = {0, max(above - 1, 0), min(above, len(psnrs) - 1)}
    by_distance = sorted(range(len(psnrs)), key=lambda i: abs(psnrs[i] - target))
    for i in by_distance:
        if len(chosen) >= _AT_LEAST:
            break
        chosen.add(i)
    points = {i: measured(i) for i in sorted(chosen)}
    # A sample and all images differ a little: go on until the neighbours of the target are known.
    while (missing := _missing({i: p.psnr for i, p in points.items()}, len(psnrs), target)) >= 0:
        points[missing] = measured(missing)
    return [points[i] for i in sorted(points)]


def _missing(psnr: dict[int, float], count: int, target: float) -> int:
    """The next setting to measure so that the target lies between neighbours; -1 if it does."""
    below = max((i for i in psnr if psnr[i] < target), default=-1)
    above = min((i for i in psnr if psnr[i] >= target and i > below), default=count)
    middle = (below + above) // 2
    return -1 if above - below <= 1 else middle
