"""Images from anywhere as a stream of batches: files, folders, arrays, tar and ZIP archives.

Packs are decoded by `packs.source`. What is held at once does not grow with the number of images.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cvae.data import arrays, images, labels, listing, places
from cvae.data.archives import TarSource, ZipSource
from cvae.data.batches import Batch, Source, batch_of, batch_size, drop
from cvae.data.contents import What, what_is, what_lies_at
from cvae.data.given import FLOATS_ADVICE, check_channels
from cvae.data.images import Pixels, Shape
from cvae.data.labels import Label
from cvae.data.lists import ListSource, apart
from cvae.data.places import Found, Location
from cvae.data.reading import Reading
from cvae.errors import (
    CvaeError,
    DataError,
    ImageError,
    Notice,
    Refuse,
    told,
)


@dataclass(frozen=True)
class Which:
    """Which array of an `.npz` file has the images."""

    split: str | None = None  # that of `x_SPLIT`, as in `keras.datasets`, and no other
    key: str | None = None  # that of this name, and no other
    default: str = "test"  # the split without these two, where the file has it


AS_USUAL = Which()


Packs = Callable[[Location], Source]  # the images of a pack, or of a folder of packs


@dataclass(frozen=True)
class ArraySource(Source):
    """An array of images: that of an `.npy` or idx file, or one of an `.npz` file."""

    path: Location
    member: str | None = None  # of an .npz file
    start: int = 0  # the first of its rows
    stop: int | None = None  # behind the last of them; None for all

    named = False

    @property
    def rows(self) -> tuple[object, ...]:  # type: ignore[override]
        return self.member, self.start, self.stop

    def batches(
        self, reading: Reading, threads: int = 1, refuse: Refuse = None, paged: bool = False
    ) -> Iterator[Batch]:
        with self._open() as (rows, shape, label), self._beside(reading, rows, refuse) as beside:
            check_channels(shape, label)
            reading.check_array(shape, label)
            while rows.left:
                count = min(batch_size(reading.shape), batch_size(shape))
                pixels = rows.read(count).reshape(-1, *shape)
                batch = batch_of(pixels, reading, label, refuse=refuse)
                yield replace(batch, labels=_rows_of(beside, len(pixels)))

    @contextmanager
    def _beside(
        self, reading: Reading, images: arrays.Rows, refuse: Refuse
    ) -> Iterator[dict[str, arrays.Rows]]:
        """The arrays that have the labels of these images, by the names of their fields."""
        tell, found = told(refuse), dict[str, arrays.Rows]()
        with ExitStack() as stack:
            if reading.labels and not self.start:  # of other parts it is said already
                self._say_others(images.shape[0], tell)
            for name in self._labels() if reading.labels else []:
                rows = stack.enter_context(arrays.open_rows(self.path, name))
                field = labels.array_field(name, rows.dtype, rows.shape[1:])
                if field is None or rows.left != images.shape[0]:
                    most = f"of at most {labels.MAX_VALUES} integers"
                    expected = f"expected {images.shape[0]:,} rows {most}"
                    text = f"holds no labels and was left out: {expected}, found {rows.dtype} {rows.shape}"
                    tell(Notice(text, where=f"{self.path}: {name}"))
                    continue
                rows.only(self.start, self.stop)
                found[field] = rows
            yield found

    def _labels(self) -> list[str]:
        """The arrays beside its own that may have labels: `y_test` of `x_test`, every `y` of others."""
        if self.member is None:
            return []
        names = [name for name in arrays.names_in(self.path) if re.fullmatch("y(_.*)?", name)]
        return [name for name in names if self._own_labels in (name, "y_*")]

    @property
    def _own_labels(self) -> str:
        """What the arrays are called that have its labels."""
        member = self.member or ""
        return f"y_{member.removeprefix('x_')}" if member.startswith("x_") else "y_*"

    def _say_others(self, images: int, tell: Callable[[CvaeError], None]) -> None:
        """Says which arrays beside its own look like labels, and have another name."""
        names = [] if self.member is None else arrays.names_in(self.path)
        # What `cvae unpack` writes, and the labels of other images.
        known = {self.member, "numbers", *self._labels()}
        known |= {f"y_{name.removeprefix('x_')}" for name in names if name.startswith("x_")}
        for name in names:
            with suppress(DataError):  # which is for those that are asked for
                if name in known:
                    continue
                with arrays.open_rows(self.path, name) as rows:
                    if rows.dtype.kind in "iu" and rows.shape == (images,):
                        why = f"since labels are arrays {self._own_labels}"
                        text = f"{images:,} integers were left out, {why}"
                        tell(Notice(text, where=f"{self.path}: {name}"))

    def opened(self) -> Generator[Any, None, None]:
        with self._open() as (rows, shape, _):
            if rows.left and shape[2] in (1, 3):
                yield images.as_image(rows.read(1).reshape(shape))

    def count(self) -> int | None:
        with suppress(CvaeError), self._open() as (rows, _, _):
            return rows.left
        return None

    @property
    def split(self) -> str:
        """The split that `keras.datasets` would call it; `all` where it is none."""
        member = self.member or ""
        return member.removeprefix("x_") if member.startswith("x_") else "all"

    def all(self) -> Pixels:
        """All images at once, (n, h, w, c), of whatever shape. Raises DataError."""
        with self._open() as (rows, shape, _):
            return rows.read(rows.left).reshape(-1, *shape)

    @contextmanager
    def _open(self) -> Iterator[tuple[arrays.Rows, Shape, str]]:
        """The array, the (h, w, c) of its images, and what messages call it."""
        label = str(self.path) if self.member is None else f"{self.path}: {self.member}"
        with arrays.open_rows(self.path, self.member) as rows:
            if rows.dtype != np.uint8 or len(rows.shape) not in (3, 4):
                wrong = "expected uint8 (n, h, w) or (n, h, w, c), found"
                advice = FLOATS_ADVICE if rows.dtype.kind == "f" else ""
                raise DataError(f"{wrong} {rows.dtype} {rows.shape}", where=label, advice=advice)
            height, width, channels = (*rows.shape, 1)[1:4]
            rows.only(self.start, self.stop)
            yield rows, (height, width, channels), label


def _rows_of(beside: dict[str, arrays.Rows], count: int) -> list[Label] | None:
    """The labels of the next images."""
    columns = [rows.read(count).tolist() for rows in beside.values()]
    return [dict(zip(beside, row, strict=True)) for row in zip(*columns, strict=True)] or None


class Stream(NamedTuple):
    """The images of several places, one after another; made by `open_images`."""

    sources: list[Source]
    reading: Reading
    threads: int
    refuse: Refuse
    paged: bool = False

    @property
    def named(self) -> bool:
        """Whether some of the images have names."""
        return any(source.named for source in self.sources)

    def count_images(self) -> int | None:
        """How many images there are, bad ones included; None where only reading them all tells."""
        counts = [source.count() for source in self.sources]
        known = [count for count in counts if count is not None]
        return None if self.paged or len(known) < len(counts) else sum(known)

    def batches(self) -> Iterator[Batch]:
        """All images in order.

        One of several sources that cannot be read is refused as an image is.

        Raises:
            DataError: the only source cannot be read, or one of several, and `refuse` is None.
            ImageError: an image cannot be read, and `refuse` is None; or the only array has another shape.
            StorageError: storage does not answer.
        """
        for source in self.sources:
            with _skipping(self.refuse, len(self.sources) > 1):
                yield from source.batches(self.reading, self.threads, self.refuse, self.paged)

    def all(self) -> tuple[Pixels, list[str]]:
        """All images at once, uint8 (n, h, w, c), and the name or the number of each."""
        batches = list(self.batches())
        names = [name for batch in batches for name in batch.names or []]
        none = np.empty((0, *self.reading.shape), np.uint8)
        pixels = np.concatenate([batch.pixels for batch in batches]) if batches else none
        return pixels, names or [str(number) for number in range(len(pixels))]


def open_images(
    items: Iterable[str | Path | Source],
    reading: Reading,
    *,
    which: Which = AS_USUAL,
    threads: int = 1,
    refuse: Refuse = None,
    paged: bool = False,
    packs: Packs | None = None,
) -> Stream:
    """The images of every place that they can come from.

    Files of several items that have one name get that of their folder before it; all of several folders,
    where these are their labels.

    Args:
        items: files, folders, arrays, archives, URLs or patterns of such, or sources.
        reading: how each image becomes one of the shape.
        which: of `.npz` files; see `array_source`.
        threads: that decode image files.
        refuse: called with every image that is skipped, each of several items that cannot be read, and
            notices.
        paged: whether all pages of an image file are taken, and not the first alone.
        packs: decodes packs, which are else taken for image files.

    Raises:
        DataError: there is no such file or folder, a pattern matches none, an array is damaged, or no
            input has the key that `which` names.
        StorageError: a place cannot be reached.
    """
    sources, items = list[Source](), list(items)
    for item in items:
        with _skipping(refuse, len(items) > 1):
            sources += (
                [item] if isinstance(item, Source) else sources_at(item, which, packs, refuse)
            )
    keys = {source.member for source in sources if isinstance(source, ArraySource)}
    if which.key and which.key not in keys:
        where = " ".join("stdin" if isinstance(item, Source) else str(item) for item in items)
        raise DataError(f"expected an .npz file for --key {which.key}, found none", where=where)
    return Stream(apart(sources, reading.folders), reading, threads, refuse, paged)


@contextmanager
def _skipping(refuse: Refuse, several: bool) -> Iterator[None]:
    """Refuses what of several sources cannot be read; of a single one, it is raised."""
    try:
        yield
    except (DataError, ImageError) as error:
        if refuse is None or not several:
            raise
        refuse(error)


def sources_at(
    text: str | Path, which: Which = AS_USUAL, packs: Packs | None = None, refuse: Refuse = None
) -> list[Source]:
    """The sources of a path, a URL or a pattern of either; raises as `open_images` does.

    `refuse` is called with what of a folder cannot be listed, and with notices.
    """
    if places.is_pattern(str(text)):
        parts = cut(places.find(text, refuse), which=which, packs=packs)
        return [source for source, _ in parts]
    place, what = places.locate(text), what_lies_at(text)
    if what is What.NOTHING:
        raise DataError("there is no such file or folder", where=text)
    if packs and what is What.PACKS:
        return [packs(place)]
    if what in (What.FOLDER, What.RUN, What.PACKS):
        found = listing.images(place.below(refuse=refuse), refuse)
        return [ListSource(((file.place, file.name) for file in found), place)]
    if what is What.ARRAY:
        return [array_source(place, which)]
    return [_whole(place, what, packs) or ListSource([(place, place.name)])]


def _whole(place: Location, what: What, packs: Packs | None) -> Source | None:
    """A file of many images as one source; None for a file of one."""
    if what is What.TAR:
        return TarSource(place, str(place))
    if what is What.ZIP:
        return ZipSource(place)
    return packs(place) if packs and what in (What.PACK, What.PACKS) else None


def kind_of(item: Found) -> What:
    """What a listed file is: by its name if that tells, so that no image is opened, else by content."""
    what = what_is(item.name)
    if item.image or what is not What.FILE or listing.is_named(item.name):
        return What.FILE if item.image else what
    return what_lies_at(item.place)


def cut(
    found: Iterable[Found],
    size: int | None = None,
    which: Which = AS_USUAL,
    packs: Packs | None = None,
) -> Iterator[tuple[Source, list[Found]]]:
    """Listed files as sources, each with the files that it is of.

    At most `size` image files that follow each other are one source; so are at most `size` rows of
    an array; so is an archive or a pack. Raises DataError when an array cannot be read.
    """
    for what, group in groupby(found, kind_of):
        if what is What.ARRAY:
            yield from ((rows, [item]) for item in group for rows in _rows(item, size, which))
        elif what in (What.TAR, What.ZIP) or (packs and what in (What.PACK, What.PACKS)):
            wholes = ((_whole(item.place, what, packs), item) for item in group)
            yield from ((whole, [item]) for whole, item in wholes if whole)
        else:
            while files := list(islice(group, size)):
                yield ListSource(tuple((item.place, item.name) for item in files)), files


def _rows(item: Found, size: int | None, which: Which) -> Iterator[Source]:
    with places.reaching(item.place):
        array = array_source(item.place, which)
        if size is None:
            yield array
            return
        with arrays.open_rows(array.path, array.member) as rows:
            total, bad = rows.left, rows.dtype != np.uint8 or 0 in rows.shape[1:]
    if bad:  # whoever reads it says so, once: rows without bytes may be any number
        yield array
        return
    for start in range(0, total, size):
        yield ArraySource(array.path, array.member, start, min(start + size, total))


def array_source(path: Location, which: Which = AS_USUAL) -> ArraySource:
    """The images of an `.npy`, idx or `.npz` file.

    In an `.npz` file they are what `which` says, else `x_test` as in `keras.datasets`, else `images` as
    `cvae unpack` writes them, else the only array of three or four axes that is no other split. Raises
    DataError when there is none, or the file is damaged.
    """
    if not arrays.is_npz(path):
        return ArraySource(path)
    names = arrays.names_in(path)
    if which.key or which.split:
        wanted = [which.key or f"x_{which.split}"]
    else:
        wanted = [f"x_{which.default}", "images"]
    found = [name for name in wanted if name in names]
    if not found and len(wanted) > 1:
        axes = arrays.axes_in(path).items()
        found = [name for name, count in axes if count in (3, 4) and not name.startswith("x_")]
        found = found if len(found) == 1 else []
    if found:
        return ArraySource(path, found[0])
    expected, others = " or ".join(map(repr, wanted)), ", ".join(sorted(names)) or "none"
    text = f"expected an array {expected}, found {others}"
    split = "--split train takes its training images, " if "x_train" in names else ""
    raise DataError(text, where=path, advice=f"{split}--key NAME chooses one")


def first_image(
    items: Iterable[str | Path | Source], which: Which = AS_USUAL, packs: Packs | None = None
) -> Any:
    """The first image that can be opened, as Pillow's `Image`; None where there is none.

    Files are opened, not decoded. What is wrong with others is left to whoever reads them all. A tar
    archive that is an open file has to be `tars.Recorded`.
    """
    for item in items:
        with suppress(CvaeError, OSError):
            for source in (
                [item] if isinstance(item, Source) else sources_at(item, which, packs, drop)
            ):
                with closing(source.opened()) as found:
                    for image in found:
                        return image
    return None
