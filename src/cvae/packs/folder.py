"""A folder of shards read as one pack: the same questions, answered by whichever shard knows."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from cvae.data import files
from cvae.data import places as storage
from cvae.data.places import Location
from cvae.errors import FormatError, StorageError
from cvae.packs import manifest as shards
from cvae.packs import reader as unpack
from cvae.packs.layout import Block, Header
from cvae.packs.manifest import Manifest, Part
from cvae.packs.reader import Damage, Place, Reader, images_text

_OPEN = 8  # shards that are kept open


@dataclass(frozen=True)
class ShardPlace(Place):
    """Where a block is: in which shard, and where there. Numbers are those of the whole folder."""

    shard: int = field(kw_only=True)
    file: str = field(kw_only=True)
    local: Place = field(kw_only=True)

    def __str__(self) -> str:
        return f"{self.file}, {images_text(self.first, self.images)}"


class ShardReader(files.Closing):
    """What a `unpack.Reader` is for one file, for a folder; made by `open_folder`.

    Shards are opened when they are needed. One that cannot be read has no places, and is told of by
    `damage_in`. Several threads may read; they take turns.
    """

    damage: Sequence[Damage] = ()  # nothing is known before a shard is opened

    def __init__(self, folder: Location, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self.images = manifest.images
        self.size = manifest.file_bytes
        # Shards of arrays have no names, others of the same folder may.
        self.header = Header(
            manifest.model_id, manifest.quality, manifest.inverted, True, manifest.fitted
        )
        self._firsts = [part.first for part in manifest.shards]
        self._open: dict[int, tuple[BinaryIO, Reader]] = {}
        self._places: dict[int, list[ShardPlace]] = {}
        # Held as long as a shard is in use: to open another one may close it.
        self._lock = threading.Lock()

    def close(self) -> None:
        """Closes the files."""
        # Without the lock: a thread may hold it that waits for a server which does not answer.
        for file, _ in list(self._open.values()):
            file.close()
        self._open.clear()

    @property
    def places(self) -> list[Place]:
        """The blocks of all shards that can be read; opens every one of them."""
        return [place for shard in range(len(self._firsts)) for place in self._places_in(shard)]

    def find(self, number: int) -> Place | None:
        """The place of the block that holds an image; None when it was lost."""
        if not 0 <= number < self.images:
            return None
        shard = bisect_right(self._firsts, number) - 1
        places = self._places_in(shard)
        at = bisect_right(places, number, key=lambda place: place.first) - 1
        if at < 0 or number >= places[at].first + places[at].images:
            return None
        return places[at]

    def read(self, place: Place) -> Block:
        """The block at a place. Raises FormatError when it is damaged."""
        assert isinstance(place, ShardPlace)
        try:
            with self._lock:
                return self._reader(place.shard).read(place.local)
        except FormatError as error:
            raise FormatError(f"damaged: {place}: {error.__cause__ or error.text}") from error

    def damage_in(self, ranges: Sequence[tuple[int, int]]) -> list[Damage]:
        """What is wrong with the shards that hold these images; each of them is read whole.

        Raises StorageError when one cannot be reached.
        """
        found: list[Damage] = []
        for shard, part in enumerate(self.manifest.shards):
            if _overlap(ranges, part.first, part.first + part.images) or (
                not part.images and ranges == [(0, self.images)]
            ):
                with self._lock:
                    found += self._damage_of(shard, part)
        return [d for d in found if not d.images or _overlap(ranges, d.first, d.first + d.images)]

    def _damage_of(self, shard: int, part: Part) -> Iterator[Damage]:
        lost = f"{images_text(part.first, part.images)} are lost" if part.images else "no images"
        try:
            reader = self._reader(shard)
        except FormatError as error:
            yield Damage(f"{part.file}: {error.text}: {lost}", part.first, part.images)
            return
        if shards.digest_of(self.folder, part.file) == part.sha256:
            return
        damage = [*reader.damage, *reader.check(reader.places)]
        if reader.images < part.images:
            damage.append(Damage("", reader.images, part.images - reader.images))
        for item in damage:
            if item.images:
                numbers = images_text(part.first + item.first, item.images)
                yield Damage(
                    f"damaged: {part.file}, {numbers}", part.first + item.first, item.images
                )
            else:
                yield Damage(f"{part.file}: {item}")
        if not damage:
            yield Damage(
                f"{part.file}: is another pack than the manifest names: {lost}",
                part.first, part.images,
            )  # fmt: skip

    def _places_in(self, shard: int) -> list[ShardPlace]:
        with self._lock:
            if shard not in self._places:
                self._places[shard] = self._found_in(shard)
            return self._places[shard]

    def _found_in(self, shard: int) -> list[ShardPlace]:
        part = self.manifest.shards[shard]
        try:
            local = self._reader(shard).places
        except FormatError:
            return []
        return [
            ShardPlace(
                p.ordinal, p.offset, p.size, part.first + p.first, p.images,
                shard=shard, file=part.file, local=p,
            )
            for p in local
        ]  # fmt: skip

    def _reader(self, shard: int) -> Reader:
        """The open shard. Raises FormatError when it is missing, or is no such pack."""
        if shard not in self._open:
            while len(self._open) >= _OPEN:
                self._open.pop(next(iter(self._open)))[0].close()
            self._open[shard] = self._opened(self.manifest.shards[shard])
        return self._open[shard][1]

    def _opened(self, part: Part) -> tuple[BinaryIO, Reader]:
        place = self.folder / part.file
        try:
            file = place.open("rb")
        except FileNotFoundError as error:
            raise FormatError("is missing", where=place) from error
        except OSError as error:
            raise StorageError(f"cannot be read: {error.strerror or error}", where=place) from error
        try:
            reader = unpack.open_pack(file)
            self._check(part, reader)
        except FormatError as error:
            file.close()
            raise FormatError(error.text, where=place) from error
        return file, reader

    def _check(self, part: Part, reader: Reader) -> None:
        found, own = reader.header, self.header
        same = (found.model_id, found.quality, found.inverted, found.sizes) == (
            own.model_id, own.quality, own.inverted, own.sizes,
        )  # fmt: skip
        if not same or reader.images > part.images:
            raise FormatError("is another pack than the manifest names")


def open_folder(folder: Location) -> ShardReader:
    """A folder of shards, by its manifest.

    Raises:
        FormatError: the manifest is missing, damaged or of a later version.
        StorageError: the folder cannot be reached.
    """
    return ShardReader(folder, shards.read_manifest(folder))


def is_folder(text: str) -> bool:
    """Whether a path or URL is a folder of shards, finished or not. Raises StorageError."""
    place = storage.locate(text)
    return storage.is_folder(place) and shards.are_in(place)


def _overlap(ranges: Iterable[tuple[int, int]], start: int, stop: int) -> bool:
    return any(a < stop and b > start for a, b in ranges)
