"""A folder of anybody's images: which files are images, which part each is in, and their pixels.

The parts are a function of the files' bytes alone, so that evaluation finds what training held out.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cvae.data import families, pipeline
from cvae.data.contents import RUN
from cvae.data.images import Images, Pixels, read_file
from cvae.data.names import printable
from cvae.data.photos import Photos, Room
from cvae.data.places import Local
from cvae.data.reading import Reading
from cvae.errors import CvaeError, DataError, ImageError, Refuse, StorageError

TRAIN, VALIDATION, TEST = PARTS = ("train", "validation", "test")

# What a folder with a split of its own calls the parts, in any case.
_FOLDERS = {
    "train": TRAIN, "training": TRAIN,
    "val": VALIDATION, "valid": VALIDATION, "validation": VALIDATION,
    "test": TEST, "testing": TEST,
}  # fmt: skip
# The shares of a folder without one: the ends of intervals of [0, 1).
_ENDS = {TEST: 0.1, VALIDATION: 0.2, TRAIN: 1.0}

# Images of at most so many bytes are decoded once and kept; others whenever they are used.
IN_MEMORY = 1 << 30
MIN_IMAGES = 10
_THREADS = min(8, os.cpu_count() or 1)  # Pillow releases the interpreter's lock
_LOT = 256  # files between two moves of a progress bar

# Passes batches of file names on before they are read, to show progress.
Watch = Callable[[list[list[str]]], Iterable[list[str]]]


@dataclass(frozen=True, eq=False)
class Folder:
    """A folder's images, split; the order within a part is fixed and near-random."""

    root: Path
    reading: Reading
    names: dict[str, list[str]]  # of each part: paths below the folder
    images: dict[str, Images]  # of each part: (n, h, w, c), or `Photos`, for a reading `own`
    skipped: list[str]  # `NAME: why` of each skipped file
    changes: dict[str, Sequence[str]]  # of each image of which something is lost or converted, what
    sha256: str  # of the images to train and to validate, and how they are read
    side: int  # the median of the shorter sides, in pixels, before images are scaled

    def changed(self, how: str) -> int:
        """How many images have a change whose text begins so."""
        return sum(any(text.startswith(how) for text in found) for found in self.changes.values())


class FileImages:
    """Image files that are decoded when they are indexed; see `images.Images`."""

    def __init__(self, root: Path, names: list[str], reading: Reading) -> None:
        self._root, self._names, self._reading = root, np.array(names, object), reading

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self._names), *self._reading.shape)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int | slice | NDArray[np.intp], /) -> Pixels:
        """Those images, uint8 (k, h, w, c), or one (h, w, c), of any size. Raises ImageError."""
        names = self._names[index]
        if isinstance(names, str):
            return self._read(names)
        pixels = np.empty((len(names), *self._reading.shape), np.uint8)
        for place, item in enumerate(pipeline.ordered_map(self._read, names, _THREADS)):
            pixels[place] = item
        return pixels

    def _read(self, name: str) -> Pixels:
        path = self._root / name
        return self._reading.read(read_file(path), str(path))


class _Item(NamedTuple):
    name: str
    digest: str  # sha256 of the file
    thumbnail: families.Thumbnails
    pixels: Pixels | None  # where they are kept
    size: tuple[int, int]  # height, width of what was decoded
    side: int  # the shorter one of the image
    changes: tuple[str, ...]  # what was lost or converted, in words


def read(root: Path, reading: Reading, watch: Watch = iter) -> Folder:
    """Reads every file below a folder and splits those that are images.

    With a subfolder `train/`, the subfolders `train/`, `val/` and `test/` are the parts. Synonyms
    (`Training/`, `valid/`) count, too. Without images in `val/`, a tenth of `train/` validates.
    Else about a tenth of all images validates and a tenth tests. A hash of their bytes chooses, and
    near-duplicates stay in one part. Hidden files and folders are ignored.

    `watch` is given batches of file names before they are read. Raises DataError when there are
    fewer than 10 images, or they are all alike.
    """
    skipped: list[str] = []  # folders that cannot be read, and links that lead nowhere new

    def refuse(error: CvaeError) -> None:
        skipped.append(f"{os.path.relpath(error.where, root)}: {error.text}")

    found = find(root, refuse)
    if not found:
        raise DataError("expected images, found none in this folder", where=root)
    own = any(_own_part(name) == TRAIN for name in found)
    names = [name for name in found if not own or _own_part(name)]
    items, reasons = _scan(root, names, reading, watch)
    skipped += reasons
    if len(items) < MIN_IMAGES:
        first = f" and {len(skipped)} files that cannot be used: {skipped[0]}" if skipped else ""
        text = f"expected at least {MIN_IMAGES} images, found {len(items)}{printable(first)}"
        raise DataError(text, where=root)
    outside = sorted({*found} - {*names})
    skipped += [f"{name}: expected in one of train/, val/ and test/" for name in outside]
    # Near-random, and independent of where the folder lies and of what the files are called.
    items.sort(key=lambda item: (item.digest, item.name))
    by_part: dict[str, list[_Item]] = {part: [] for part in PARTS}
    for item, part in zip(items, _own_split(items) if own else _split(items), strict=True):
        by_part[part].append(item)
    if not by_part[TRAIN] or not by_part[VALIDATION]:
        raise DataError(
            "expected images that differ, so that some can validate what is learned from others; "
            f"found {len(items)} near-duplicates",
            where=root,
        )
    return Folder(
        root=root,
        reading=reading,
        names={part: [item.name for item in of] for part, of in by_part.items()},
        images={part: _images(root, of, reading) for part, of in by_part.items()},
        skipped=sorted(skipped),
        changes={item.name: item.changes for item in items if item.changes},
        sha256=_digest(reading, by_part),
        side=int(np.median([item.side for item in items])),
    )


def split(digests: list[str], labels: NDArray[np.int64]) -> list[str]:
    """The part that each image is in.

    The least digest (sha256 in hexadecimal) of a family decides for all of it; `labels`, (n,), are
    equal within one. Families of more than a quarter of all images train. In small folders, an empty
    part gets the family nearest to it.
    """
    members: dict[int, list[str]] = defaultdict(list)
    for digest, label in zip(digests, labels.tolist(), strict=True):
        members[label].append(digest)
    places = {label: int(min(group)[:12], 16) / 16**12 for label, group in members.items()}
    large = {label for label, group in members.items() if len(group) > len(digests) / 4}
    parts = {
        label: TRAIN if label in large else next(p for p, end in _ENDS.items() if place < end)
        for label, place in places.items()
    }
    for number, part in enumerate(PARTS):
        if part in parts.values():
            continue
        counts = Counter(parts.values())
        # From a part that has several, or one that can rather be empty.
        free = [f for f, p in parts.items() if counts[p] > 1 or PARTS.index(p) > number]
        if free:
            end = _ENDS[part]
            parts[min(free, key=lambda f: (f in large, abs(places[f] - end)))] = part
    return [parts[label] for label in labels.tolist()]


def _split(items: list[_Item]) -> list[str]:
    labels = families.families(np.stack([item.thumbnail for item in items]))
    return split([item.digest for item in items], labels)


def _own_split(items: list[_Item]) -> list[str]:
    """The parts that the subfolders are named for."""
    parts = [_own_part(item.name) for item in items]
    if VALIDATION not in parts and TRAIN in parts:
        train = [place for place, part in enumerate(parts) if part == TRAIN]
        for place, part in zip(train, _split([items[place] for place in train]), strict=True):
            parts[place] = VALIDATION if part == VALIDATION else TRAIN
    return parts


def _own_part(name: str) -> str:
    """The part that a file's subfolder stands for, or nothing."""
    folder, below, _ = name.partition("/")
    return _FOLDERS.get(folder.lower(), "") if below else ""


def find(root: Path, refuse: Refuse = None) -> list[str]:
    """All files below a folder as paths below it, except hidden ones and those of training runs.

    `refuse` is called with what cannot be listed or was left out; see `errors.told`.
    """
    return sorted(found.name for found in Local(root).below(RUN, refuse))


def _scan(
    root: Path, names: list[str], reading: Reading, watch: Watch
) -> tuple[list[_Item], list[str]]:
    """Decodes every file once: those that are images, and why each of the others is not."""
    own, room = reading.fit == "own", Room(IN_MEMORY)
    keep = own or len(names) * math.prod(reading.shape) <= IN_MEMORY

    shared: dict[tuple[str, ...], tuple[str, ...]] = {}  # a million images have the same changes

    def scan(name: str) -> _Item | str:
        try:
            data = read_file(root / name, name)
            picture = reading.picture(data, name)
        except (ImageError, StorageError) as error:
            return str(error)
        digest = hashlib.sha256(data).hexdigest()
        image = picture.image
        size = image.height, image.width
        # Colours count, whatever the model takes.
        small = families.thumbnail(image.convert("RGB"))
        values = math.prod(size if own else reading.shape[:2]) * reading.shape[2]
        pixels = reading.pixels(picture) if keep and room.take(values) else None
        changes = shared.setdefault(picture.changes, picture.changes)
        return _Item(name, digest, small, pixels, size, min(picture.size), changes)

    lots = watch([names[i : i + _LOT] for i in range(0, len(names), _LOT)])
    found = list(pipeline.ordered_map(scan, chain.from_iterable(lots), _THREADS))
    items = [item for item in found if isinstance(item, _Item)]
    return items, [reason for reason in found if isinstance(reason, str)]


def _images(root: Path, items: list[_Item], reading: Reading) -> Images:
    if reading.fit == "own":
        sizes = np.array([item.size for item in items], np.int64).reshape(-1, 2)
        names = [item.name for item in items]
        return Photos(root, reading, names, sizes, [item.pixels for item in items])
    kept = [item.pixels for item in items if item.pixels is not None]
    return np.stack(kept) if kept else FileImages(root, [item.name for item in items], reading)


def _digest(reading: Reading, by_part: dict[str, list[_Item]]) -> str:
    lines = [json.dumps(reading.to_json(), sort_keys=True)]
    lines += [f"{part} {item.digest}" for part in (TRAIN, VALIDATION) for item in by_part[part]]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
