"""No file that is read is ever written: one check, by which file a path leads to and not by its name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import PurePath

from cvae.data import batches, files, listing, places
from cvae.data.contents import MANIFEST, What, what_lies_at
from cvae.data.places import Location, Place, Remote
from cvae.errors import CvaeError

_SHARDS = "part-*.bin"  # how the files of a folder of packs are called


def key(place: Location) -> object:
    """What is equal for all places that are one file; None where there is none."""
    place = places.locate(place)
    if isinstance(place, Remote):
        return str(place) if place.exists() else None
    return files.identity(place)


def read_as_well(targets: Iterable[Location], inputs: Iterable[str]) -> Location | None:
    """The first target that is a file which is read, too; None where none is.

    `inputs` are paths, URLs and patterns. Of a folder, its images are read; of a folder of packs, those.
    """
    there = {found: target for target in targets if (found := key(target)) is not None}
    if not there:  # nothing need be listed
        return None
    for item in inputs:
        with suppress(CvaeError):  # who reads it says what is wrong
            for place in _read(item, there):
                return there[key(place)]
    return None


def _read(item: str, there: Iterable[object]) -> Iterator[Place]:
    """The files of `there` that an input stands for."""
    if places.is_pattern(item):
        yield from (
            file.place for file in places.find(item, batches.drop) if key(file.place) in there
        )
        return
    place = places.locate(item)
    if not place.is_folder():
        if key(place) in there:
            yield place
        return
    # Those at URLs were listed: no other look at each.
    found = (file for file in place.below(refuse=batches.drop))
    met = (file for file in found if (str(file.place) if place.far else key(file.place)) in there)
    if what_lies_at(place) is What.PACKS:
        names = (MANIFEST, _SHARDS)
        yield from (file.place for file in met if any(map(PurePath(file.name).match, names)))
        return
    yield from (file.place for file in listing.images(met))
