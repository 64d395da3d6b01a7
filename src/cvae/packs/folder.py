"""A folder of packs, the shards, read as one pack: each question goes to the shard that knows."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

from cvae.data.files import Closing
from cvae.data.places import Place as FolderPlace
from cvae.errors import FormatError, StorageError, at, translated
from cvae.packs import manifest as manifests
from cvae.packs import reader as readers
from cvae.packs.layout import Block, Header
from cvae.packs.manifest import Manifest, Part
from cvae.packs.reader import Damage, FileReader, Place, Range, images_text, overlap

_OPEN = 8  # shards that are kept open

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class ShardPlace(Place):
    """Where a block is: in which shard, and where there. Numbers are those of the whole folder."""

    shard: int = field(kw_only=True)
    file: str = field(kw_only=True)
    local: Place = field(kw_only=True)

    def __str__(self) -> str:
        return f"{self.file}, {images_text(self.first, self.images)}"


class FolderReader(Closing):
    """A `Reader` of a folder; made by `open_folder`.

    Shards are opened when they are needed. An unreadable shard has no blocks; `damage_in` reports it.
    Threads that read take turns.
    """

    damage: Sequence[Damage] = ()  # nothing is known before a shard is opened

    def __init__(self, folder: FolderPlace, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self.tally = manifest.tally
        self.images, self.size = self.tally.images, self.tally.file_bytes
        self.header = Header(
            manifest.model_id, manifest.quality, manifest.inverted, sizes=manifest.fitted
        )
        self._open: dict[int, FileReader] = {}
        # Held as long as a shard is in use: to open another one may close it.
        self._lock = threading.Lock()

    def close(self) -> None:
        # Without the lock: a thread may hold it that waits for a server which does not answer.
        for reader in list(self._open.values()):
            reader.close()
        self._open.clear()

    @cached_property
    def named(self) -> bool:
        # Shards of arrays have no names, others of the same folder may.
        shards = range(len(self.manifest.shards))
        return any(self._ask(shard, lambda reader: reader.named, False) for shard in shards)

    @property
    def places(self) -> list[Place]:
        """The blocks of all shards that can be read; opens every shard."""
        shards = range(len(self.manifest.shards))
        return [place for shard in shards for place in self._places_in(shard)]

    def find(self, number: int) -> Place | None:
        if not 0 <= number < self.images:
            return None
        shard = bisect_right(self.manifest.shards, number, key=lambda part: part.first) - 1
        return readers.find(self._places_in(shard), number)

    def read(self, place: Place) -> Block:
        assert isinstance(place, ShardPlace)
        try:
            with self._lock:
                return self._reader(place.shard).read(place.local)
        except FormatError as error:
            cause = error.__cause__ if isinstance(error.__cause__, FormatError) else error
            raise FormatError(f"damaged: {place}: {cause.text}") from error

    def facts(self) -> dict[str, Any]:
        psnr = self.tally.psnr_mean
        return readers.facts(
            self, "folder of packs", manifests.FORMAT,
            left_out=self.tally.left_out, packs=len(self.manifest.shards),
            psnr_mean=None if psnr is None else round(psnr, 2),
        )  # fmt: skip

    def damage_in(self, ranges: Sequence[Range]) -> list[Damage]:
        """What is damaged in the shards of these images; each of them is read whole.

        Raises StorageError when one cannot be reached.
        """
        found: list[Damage] = []
        for shard, part in enumerate(self.manifest.shards):
            if overlap(ranges, part.first, part.first + part.images) or (
                not part.images and ranges == [(0, self.images)]
            ):
                with self._lock:
                    found += self._damage_of(shard, part)
        return [d for d in found if not d.images or overlap(ranges, d.first, d.first + d.images)]

    def _damage_of(self, shard: int, part: Part) -> Iterator[Damage]:
        lost = f"{images_text(part.first, part.images)} are lost" if part.images else "no images"
        try:
            reader = self._reader(shard)
        except FormatError as error:
            yield Damage(f"{part.file}: {error.text}: {lost}", part.first, part.images)
            return
        if manifests.digest_of(self.folder, part.file) == part.sha256:
            return
        damage = [*reader.damage, *reader.check(reader.places)]
        if reader.images < part.images:
            damage.append(Damage("", reader.images, part.images - reader.images))
        for item in damage:
            first, text = part.first + item.first, f"{part.file}: {item}"
            if item.images:
                text = f"damaged: {part.file}, {images_text(first, item.images)}"
            yield Damage(text, first, item.images)
        if not damage:
            text = f"{part.file}: is another pack than the manifest names: {lost}"
            yield Damage(text, part.first, part.images)

    def _places_in(self, shard: int) -> list[ShardPlace]:
        part, nothing = self.manifest.shards[shard], list[Place]()
        return [
            ShardPlace(
                p.ordinal, p.offset, p.size, part.first + p.first, p.images,
                shard=shard, file=part.file, local=p,
            )
            for p in self._ask(shard, lambda reader: reader.places, nothing)
        ]  # fmt: skip

    def _ask(self, shard: int, question: Callable[[FileReader], Answer], lost: Answer) -> Answer:
        """What a shard answers, and `lost` where it cannot be read."""
        with self._lock:
            try:
                return question(self._reader(shard))
            except FormatError:
                return lost

    def _reader(self, shard: int) -> FileReader:
        """The open shard. Raises FormatError when it is missing, or is no such pack."""
        if shard not in self._open:
            while len(self._open) >= _OPEN:
                self._open.pop(next(iter(self._open))).close()
            self._open[shard] = self._opened(self.manifest.shards[shard])
        return self._open[shard]

    def _opened(self, part: Part) -> FileReader:
        place, own = self.folder / part.file, self.header
        with translated(StorageError, "cannot be read", place):
            try:
                file = place.open("rb")
            except FileNotFoundError as error:
                raise FormatError("is missing", where=place) from error
        try:
            with at(place):
                reader = readers.open_file(file)
                # All but `names` is the same in all shards.
                if replace(reader.header, names=False) != own or reader.images > part.images:
                    raise FormatError("is another pack than the manifest names")
        except FormatError:
            file.close()
            raise
        return reader


def open_folder(folder: FolderPlace) -> FolderReader:
    """A folder of packs, by its manifest; raises as `manifest.read_manifest` does."""
    return FolderReader(folder, manifests.read_manifest(folder))
