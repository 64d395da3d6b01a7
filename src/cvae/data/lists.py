"""Image files as a source, and names for those of several inputs, of which no two are to be alike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator, Sequence, Sized
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from cvae.data import images, listing
from cvae.data.batches import Batch, File, Source, decoded, drop, path_of
from cvae.data.places import Location, Place
from cvae.data.reading import Reading
from cvae.errors import CvaeError, Refuse

Named = tuple[Location, str]  # an image file, and the name it has in a pack


@dataclass(frozen=True)
class ListSource(Source):
    """Image files, each with the name it has in a pack."""

    files: Iterable[Named]
    folder: Place | None = None  # that they are all images of

    named, rows = True, ()

    def listed(self) -> Iterable[Named]:
        """The files, which are listed once more where they are those of a folder."""
        if self.folder is None:
            return self.files
        return ((file.place, file.name) for file in listing.images(self.folder.below(refuse=drop)))

    def count(self) -> int | None:
        if self.folder is None:
            return len(self.files) if isinstance(self.files, Sized) else None
        return None if self.folder.far else sum(1 for _ in self.listed())

    def batches(
        self, reading: Reading, threads: int = 1, refuse: Refuse = None, paged: bool = False
    ) -> Iterator[Batch]:
        items = (File(str(place), name, place) for place, name in self.files)
        return decoded(items, reading, threads, refuse, paged)

    def opened(self) -> Generator[Any, None, None]:
        for place, _ in self.files:
            with suppress(CvaeError):
                yield images.open_image(images.read_file(place), str(place))

    def renamed(self, names: Names) -> ListSource:
        """The same files under other names."""
        renamed = ((place, names(place, name)) for place, name in self.files)
        return replace(self, files=tuple(renamed) if isinstance(self.files, Sized) else renamed)


class Names:
    """Names of the files of several inputs: where two would have one, with the input's folder before it."""

    def __init__(self, inputs: Iterable[Iterable[Named]], folders: bool = False) -> None:
        """Goes through all files. What cannot be listed is left out: whoever reads it says so.

        With `folders`, all names of several folders get theirs: images are labelled with it.
        """
        names = defaultdict[str, set[int]](set)  # by folder; hashes take less memory
        for files in inputs:
            with suppress(CvaeError):
                for place, name in files:
                    names[_given(place, name)].add(hash(name))
        whole = {given: path_of(given or ".") for given in names}
        by_folder = defaultdict[str, set[int]](set)  # one may be given in several ways
        for given, found in names.items():
            by_folder[whole[given]] |= found
        self._every = folders and len(by_folder) > 1
        self._all, self._shared = set[int](), set[int]()
        for found in by_folder.values():
            self._shared |= self._all & found
            self._all |= found
        parts = {folder: [part for part in folder.split("/") if part] for folder in by_folder}
        self._parts = {given: parts[folder] for given, folder in whole.items()}
        self._least = {given: _least(parts[whole[given]], [*parts.values()]) for given in names}

    def __call__(self, place: Location, name: str) -> str:
        if not self._every and hash(name) not in self._shared:
            return name
        if (given := _given(place, name)) not in self._parts:
            return name
        parts, longer = self._parts[given], name
        for count in range(self._least[given], len(parts) + 1):
            longer = "/".join((*parts[-count:], name))
            if hash(longer) not in self._all:
                break
        return longer


def _given(place: Location, name: str) -> str:
    """The folder that a file has its name from."""
    return str(place).removesuffix(name)


def _least(parts: Sequence[str], others: Sequence[Sequence[str]]) -> int:
    """Of how many parts the end of a path has to be, to be that of no other path."""
    for count in range(1, len(parts)):
        if sum(parts[-count:] == other[-count:] for other in others) == 1:
            return count
    return max(1, len(parts))


def apart(sources: Sequence[Source], folders: bool = False) -> list[Source]:
    """The same sources; files of several get names of their own where they would have the same.

    `folders` is that of `Names`.
    """
    lists = [source for source in sources if isinstance(source, ListSource)]
    if len(lists) < 2:
        return list(sources)
    names = Names((source.listed() for source in lists), folders)
    return [
        source.renamed(names) if isinstance(source, ListSource) else source for source in sources
    ]
