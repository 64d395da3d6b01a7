"""General image codecs on the same images, through Pillow: as single files and as mosaics.

No options of an encoder are best for every kind of image. All are tried on a sample, and those that
another beats in bytes and PSNR are dropped. The rest around the PSNR of interest code all images.
"""

from __future__ import annotations

import io
import itertools
import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features
from PIL import __version__ as pillow_version

from cvae.data import images, metrics, pipeline
from cvae.data.images import MAX_PIXELS, Pixels
from cvae.errors import CvaeError, MissingExtraError, translated

Layout = Literal["single", "mosaic"]
LAYOUTS: tuple[Layout, ...] = ("single", "mosaic")
Options = dict[str, Any]  # of Pillow's `save`
Grid = dict[str, list[Any]]  # option -> the values that are tried, every combination of them
Progress = Callable[[str], None]

MOSAIC_TILES = 1000
# Images that the options are compared on, and their pixels.
_SAMPLE, _SAMPLE_PIXELS = 128, 1 << 22
_AT_LEAST = 5  # points of a curve, where the codec has as many

_QUALITIES = [0, 2, 5, 8, 12, 16, 20, 25, 30, 36, 42, 50, 60, 70, 80, 90, 95]


@dataclass(frozen=True)
class Rival:
    """A format and what its encoder is tried with."""

    name: str  # also what Pillow calls the format
    feature: str  # what `PIL.features` calls it; empty for the plug-in
    fixed: Options = field(default_factory=dict)
    lossy: Grid = field(default_factory=dict)
    lossless: Grid = field(default_factory=dict)
    single: Grid = field(default_factory=dict)
    mosaic: Grid = field(default_factory=dict)
    grey: Grid = field(default_factory=dict)
    colour: Grid = field(default_factory=dict)

    def settings(self, layout: Layout, channels: int, lossless: bool = False) -> list[Options]:
        """Every combination for images of 1 or 3 channels; empty where the format is not used so."""
        grid = self.lossless if lossless else self.lossy
        if not grid:
            return []
        by_layout = self.single if layout == "single" else self.mosaic
        by_colour = self.grey if channels == 1 else self.colour
        whole = {**by_layout, **by_colour, **grid}
        return [
            {**self.fixed, **dict(zip(whole, values, strict=True))}
            for values in itertools.product(*whole.values())
        ]

    def in_grey(self, options: Options) -> Options:
        """Options for colour as they are for grey images that stand among others."""
        kept = {name: value for name, value in options.items() if name not in self.colour}
        return kept | {name: values[0] for name, values in self.grey.items()}

    def describe(self, options: Options) -> str:
        """`quality=20 effort=9`: options without those that are always the same."""
        return " ".join(
            f"{name}={value[0] if isinstance(value, list) else value}"
            for name, value in options.items()
            if name not in self.fixed
        )


PNG = Rival(
    "png",
    "zlib",
    # zlib's strategies: chosen by Pillow, default, filtered, Huffman only, run lengths.
    lossless={"optimize": [True, False], "compress_level": [9], "compress_type": [-1, 0, 1, 2, 3]},
)

WEBP = Rival(
    "webp",
    "webp",
    fixed={"method": 6},
    lossy={"quality": _QUALITIES},
    lossless={"lossless": [True], "quality": [100], "exact": [True]},
)

JPEG = Rival(
    "jpeg",
    "jpg",
    fixed={"optimize": True},
    # Pillow reads 0 as its default, 75.
    lossy={"quality": [1, *_QUALITIES[1:]], "progressive": [False, True]},
    colour={"subsampling": ["4:2:0", "4:4:4"]},
)

AVIF = Rival(
    "avif",
    "avif",
    # Pillow's default is tuned to the eye; in PSNR that costs a fifth of the bytes.
    fixed={"codec": "aom", "max_threads": 1, "autotiling": False, "advanced": {"tune": "psnr"}},
    # Slower gains nothing on small files. On a mosaic speed 2 takes four times as long as 4 for 0 to 3 %
    # of the bytes.
    lossy={"speed": [4], "quality": _QUALITIES},
    grey={"subsampling": ["4:0:0"]},
    colour={"subsampling": ["4:2:0", "4:4:4"]},
)

JXL = Rival(
    "jxl",
    "",
    fixed={"num_threads": 0},
    # Effort 9 reaches lower, 5 is often as good for its bytes; at 18 PSNR leaps.
    lossy={"quality": sorted([*_QUALITIES, 17, 18, 19]), "effort": [5, 9]},
    lossless={"lossless": [True], "effort": [5, 7, 9, 10]},
)

JPEG2000 = Rival(
    "jpeg2000",
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
    decoded: Any  # uint8 (n, h, w, c), or a list of (h, w, c)
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
            f"expected a Pillow with {rival.name.upper()}, found Pillow {pillow_version} without",
            where=rival.name,
            advice="pip install --upgrade pillow brings one",
        )


def code(rival: Rival, image: Pixels, options: Options) -> tuple[int, Pixels]:
    """The bytes of an image's file, and the image decoded again, both uint8 (h, w, c).

    Raises:
        CvaeError: the encoder refuses the image or the options.
    """
    buffer = io.BytesIO()
    what = f"cannot code {image.shape[1]}x{image.shape[0]} with {rival.describe(options)}"
    with translated(CvaeError, what, rival.name, (OSError, ValueError, RuntimeError, TypeError)):
        images.as_image(image).save(buffer, format=rival.name, **options)
    with Image.open(buffer, formats=[rival.name]) as opened:
        decoded = np.asarray(opened.convert("L" if image.shape[2] == 1 else "RGB"), np.uint8)
    return len(buffer.getvalue()), decoded.reshape(image.shape)


def measure(rival: Rival, pixels: Any, layout: Layout, options: Options) -> Point:
    """Codes all images, uint8 (n, h, w, c), and decodes them again; raises as `code` does.

    As single files they may be a list of (h, w, c), which differ in size.
    """
    pictures, most = pixels if layout == "single" else mosaics(pixels), channels(pixels)

    def work(image: Pixels) -> tuple[int, Pixels]:
        fitting = rival.in_grey(options) if image.shape[2] < most else options
        return code(rival, image, fitting)

    sizes, coded = zip(*pipeline.ordered_map(work, pictures, pipeline.processors()), strict=True)
    decoded: Any = list(coded) if layout == "single" else cut(coded, pixels.shape)
    if isinstance(pixels, np.ndarray):
        decoded = np.asarray(decoded)
    error = metrics.each(metrics.mse, pixels, decoded)
    return Point(rival.describe(options), sum(sizes), error, decoded, lossless=not error.any())


def tiles_a_mosaic(shape: tuple[int, ...]) -> int:
    """How many images (h, w, c) go into one mosaic: 1,000, fewer where that would be too large."""
    return max(1, min(MOSAIC_TILES, MAX_PIXELS // (shape[0] * shape[1])))


def mosaics(pixels: Pixels) -> list[Pixels]:
    """uint8 (n, h, w, c) -> pictures of up to 1,000 images, each as near to a square as can be."""
    tiles = tiles_a_mosaic(pixels.shape[1:])
    return [_mosaic(pixels[start : start + tiles]) for start in range(0, len(pixels), tiles)]


def cut(pictures: Iterable[Pixels], shape: tuple[int, ...]) -> Pixels:
    """The inverse of `mosaics`: pictures -> (n, h, w, c), the shape of what they were made of."""
    count, height, width, channels = shape
    tiles = tiles_a_mosaic(shape[1:])
    parts = []
    for picture in pictures:
        columns = picture.shape[1] // width
        grid = picture.reshape(-1, height, columns, width, channels).swapaxes(1, 2)
        parts.append(grid.reshape(-1, height, width, channels)[:tiles])
    return np.concatenate(parts)[:count]


def _mosaic(pixels: Pixels) -> Pixels:
    """(n, h, w, c) -> one picture in reading order; places that are left over are black."""
    count, height, width, channels = pixels.shape
    columns = min(count, max(1, round(math.sqrt(count * height / width))))
    padded = np.pad(pixels, [(0, -count % columns), (0, 0), (0, 0), (0, 0)])
    grid = padded.reshape(-1, columns, height, width, channels).swapaxes(1, 2)
    return grid.reshape(-1, columns * width, channels)


def channels(pixels: Any) -> int:
    """3 where one of the images has so many, else 1."""
    return 3 if any(image.shape[2] == 3 for image in pixels) else 1


def sample(pixels: Any) -> Any:
    """The first images, at least one: as many as `_SAMPLE` and `_SAMPLE_PIXELS` say.

    Where all of these are grey and others are not, the first in colour is added: the options of
    colour are compared on it.
    """
    areas = np.cumsum([image.shape[0] * image.shape[1] for image in pixels[:_SAMPLE]])
    sample = pixels[: max(1, int(np.searchsorted(areas, _SAMPLE_PIXELS, side="right")))]
    if channels(sample) == channels(pixels):
        return sample
    return [*sample, next(image for image in pixels if image.shape[2] == 3)]


def curve(
    rival: Rival, pixels: Any, layout: Layout, target: float, progress: Progress
) -> list[Point]:
    """Points of a codec around a PSNR of interest in dB, and its lossless one if it has any.

    Images are those of `measure`. Layout "single" is a file an image, "mosaic" a file for up to 1,000.

    Raises:
        CvaeError: the codec is missing here, or its encoder takes none of its settings.
    """
    check(rival)
    title, few = f"{rival.name}, {layout}", sample(pixels)
    candidates = _candidates(rival, few, layout, progress)

    @cache
    def measured(index: int) -> Point:
        options = candidates[index][0]
        progress(f"{title}: {rival.describe(options)}")
        return measure(rival, pixels, layout, options)

    psnrs = [psnr for _, psnr in candidates]
    points = [measured(i) for i in bracket(lambda i: measured(i).psnr, psnrs, target)]
    lossless = rival.settings(layout, channels(pixels), lossless=True)
    if lossless:
        progress(f"{title}: lossless")
        points.append(measure(rival, pixels, layout, smallest(rival, few, layout, lossless)))
    return points


def smallest(rival: Rival, sample: Any, layout: Layout, settings: Iterable[Options]) -> Options:
    """The settings of the fewest bytes on a sample; raises as `measure` does where it takes none of them."""
    found = _taken(rival, sample, layout, settings)
    return min(found, key=lambda pair: pair[1].total_bytes)[0]


def _taken(
    rival: Rival, sample: Any, layout: Layout, settings: Iterable[Options]
) -> list[tuple[Options, Point]]:
    """The settings that the encoder takes on a sample: some are not for small pictures.

    Raises CvaeError when it takes none of them.
    """
    found: list[tuple[Options, Point]] = []
    refused: list[CvaeError] = []
    for options in settings:
        try:
            found.append((options, measure(rival, sample, layout, options)))
        except CvaeError as error:
            refused.append(error)
    if refused and not found:
        raise refused[0]
    return found


def _candidates(
    rival: Rival, sample: Any, layout: Layout, progress: Progress
) -> list[tuple[Options, float]]:
    """The lossy settings that no other beats on a sample, from smallest to best, with their PSNR."""
    settings = rival.settings(layout, channels(sample))

    def said() -> Iterator[Options]:
        for number, options in enumerate(settings, 1):
            progress(f"{rival.name}, {layout}: setting {number} of {len(settings)} on a sample")
            yield options

    found = _taken(rival, sample, layout, said())
    keep = front([(point.mean_bytes, point.psnr) for _, point in found])
    return [(found[i][0], found[i][1].psnr) for i in keep]


def front(points: list[tuple[float, float]]) -> list[int]:
    """Indexes of the (bytes, PSNR) that no other beats in both, from the fewest bytes on."""
    kept: list[int] = []
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if not kept or points[i][1] > points[kept[-1]][1]:
            kept.append(i)
    return kept


def bracket(reached: Callable[[int], float], psnrs: list[float], target: float) -> list[int]:
    """Measures the smallest setting, and some nearest to the target; returns their indexes, rising.

    `reached` measures a setting on all images and gives its PSNR in dB; `psnrs` has that of each on a
    sample, rising. Among the measured ones are those directly below and above the target.
    """
    if not psnrs:
        return []
    count, above = len(psnrs), int(np.searchsorted(psnrs, target))
    chosen = {0, max(above - 1, 0), min(above, count - 1)}
    by_distance = sorted(range(count), key=lambda i: abs(psnrs[i] - target))
    others = [i for i in by_distance if i not in chosen]
    chosen.update(others[: _AT_LEAST - len(chosen)])
    found = {i: reached(i) for i in sorted(chosen)}
    # A sample and all images differ a little: go on until the neighbours of the target are known.
    while True:
        below = max((i for i in found if found[i] < target), default=-1)
        above = min((i for i in found if found[i] >= target and i > below), default=count)
        if above - below <= 1:
            return sorted(found)
        middle = (below + above) // 2
        found[middle] = reached(middle)
