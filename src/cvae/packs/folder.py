"""A folder of packs, the shards, read as one pack: each question goes to the shard that knows."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from cvae.data.files import NotAFileError
from cvae.data.places import Place as FolderPlace
from cvae.errors import FormatError, StorageError, at, translated
from cvae.packs import manifest as manifests
from cvae.packs import reader as readers
from cvae.packs.layout import Block, Header
from cvae.packs.manifest import Part
from cvae.packs.reader import Damage, FileReader, Place, Range, Reader, images_text, overlap

_OPEN = 8  # shards that are kept open


@dataclass(frozen=True)
class ShardPlace(Place):
    """Where a block is: in which shard, and where there. Numbers are those of the whole folder."""

    shard: Part = field(kw_only=True)
    local: Place = field(kw_only=True)

    @property
    def file(self) -> str:
        return self.shard.file

    def __str__(self) -> str:
        return f"{self.shard.file}, {images_text(self.first, self.images)}"


class FolderReader(Reader):
    """A folder. Shards are opened when they are needed; threads that read take turns.

    An unreadable shard has no blocks; `damage_in` reports it.
    """

    def __init__(self, folder: FolderPlace) -> None:
        """Raises as `manifest.read_manifest` does."""
        self.folder, manifest = folder, manifests.read_manifest(folder)
        self.shards, self.tally = manifest.shards, manifest.tally
        self.images, self.size = self.tally.images, self.tally.file_bytes
        self.header = Header(
            manifest.model_id, manifest.quality, manifest.inverted, sizes=manifest.fitted
        )
        self._open: dict[str, FileReader] = {}
        self._closed = False
        # Held as long as a shard is in use: to open another one may close it.
        self._lock = threading.Lock()

    def close(self) -> None:
        self._closed = True
        # Without the lock: a thread may hold it that waits for a server which does not answer.
        for reader in list(self._open.values()):
            reader.close()
        self._open.clear()

    def check_open(self) -> None:
        if self._closed:
            raise StorageError("the pack is closed", where=self.folder)

    @cached_property
    def named(self) -> bool:  # type: ignore[override]
        # Shards of arrays have no names, others of the same folder may.
        return self._some(lambda reader: reader.named)

    @cached_property
    def labelled(self) -> bool:  # type: ignore[override]
        return self._some(lambda reader: reader.labelled)

    def _some(self, test: Callable[[FileReader], bool]) -> bool:
        """Whether a shard that can be read has what others may lack."""
        for shard in self.shards:
            with suppress(FormatError), self._lock:
                if test(self._reader(shard)):
                    return True
        return False

    def blocks(self) -> Iterator[Place]:
        for shard in self.shards:
            yield from self._blocks_of(shard)

    def find(self, number: int) -> Place | None:
        if not 0 <= number < self.images:
            return None
        row = bisect_right(self.shards, number, key=lambda shard: shard.first) - 1
        return readers.find(self._blocks_of(self.shards[row]), number)

    def read_block(self, place: Place) -> Block:
        assert isinstance(place, ShardPlace)
        with self._lock:
            return self._reader(place.shard).read_block(place.local)

    def read_packed(self, place: Place) -> list[bytes]:
        assert isinstance(place, ShardPlace)
        with self._lock:
            return self._reader(place.shard).read_packed(place.local)

    def headers(self) -> Iterator[tuple[str, Header]]:
        for shard in self.shards:
            with self._lock:
                header = self._reader(shard).header
            yield shard.file, header

    def facts(self) -> dict[str, Any]:
        left_out, psnr = self.tally.left_out, self.tally.psnr_mean
        psnr = None if psnr is None else round(psnr, 2)
        known = {"left_out": left_out, "packs": len(self.shards), "psnr_mean": psnr}
        return self._facts("folder of packs", manifests.FORMAT, **known)

    def damage_in(self, ranges: Sequence[Range]) -> list[Damage]:
        everything, found = ranges == [(0, self.images)], list[Damage]()
        for shard in self.shards:
            if everything or overlap(ranges, shard.first, shard.images):
                with self._lock:
                    found += self._damage_of(shard)
        return [d for d in found if not d.images or overlap(ranges, d.first, d.images)]

    def _damage_of(self, shard: Part) -> Iterator[Damage]:
        """What is damaged in a shard, which is read whole."""
        file, first, images = shard.file, shard.first, shard.images
        lost = f"{images_text(first, images)} are lost" if images else "no images"
        try:
            reader = self._reader(shard)
        except FormatError as error:
            yield Damage(f"{file}: {error.text}: {lost}", first, images)
            return
        if manifests.digest_of(self.folder, file) == shard.sha256:
            return
        damage = reader.damage_in([(0, reader.images)])
        if reader.images < images:
            damage.append(Damage("", reader.images, images - reader.images))
        for item in damage:
            where = images_text(first + item.first, item.images)
            text = f"damaged: {file}, {where}" if item.images else f"{file}: {item}"
            yield Damage(text, first + item.first, item.images)
        if not damage:
            yield Damage(f"{file}: is another pack than the manifest names: {lost}", first, images)

    def _blocks_of(self, shard: Part) -> list[ShardPlace]:
        """The blocks of a shard; none where it cannot be read."""
        try:
            with self._lock:
                found = self._reader(shard).places
        except FormatError:
            return []
        return [
            ShardPlace(**vars(p) | {"first": shard.first + p.first}, shard=shard, local=p)
            for p in found
        ]

    def _reader(self, shard: Part) -> FileReader:
        """The open shard. Raises FormatError when it is missing, or is no such pack."""
        self.check_open()
        if shard.file not in self._open:
            while len(self._open) >= _OPEN:
                self._open.pop(next(iter(self._open))).close()
            self._open[shard.file] = self._opened(shard)
        return self._open[shard.file]

    def _opened(self, shard: Part) -> FileReader:
        place = self.folder / shard.file
        with translated(StorageError, "cannot be read", place):
            try:
                file = place.open("rb")
            except FileNotFoundError as error:
                raise FormatError("is missing", where=place) from error
            except NotAFileError as error:
                raise FormatError(str(error.strerror), where=place) from error
        try:
            with at(place):
                reader = readers.open_file(file)
                # All but these columns is the same in all shards.
                same = replace(reader.header, names=False, labels=False) == self.header
                if not same or reader.images > shard.images:
                    raise FormatError("is another pack than the manifest names")
        except FormatError:
            file.close()
            raise
        return reader
