"""Which files of a folder or an archive are images; the others are passed over, and counted."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator

from cvae.data import places
from cvae.data.names import SUFFIXES, UNREAD
from cvae.data.places import Found, Location
from cvae.data.signatures import HEAD, image_format
from cvae.errors import PassedOver, Refuse

# Chooses among listed files; `refuse` is called with a notice of each of the others.
Choose = Callable[[Iterable[Found], Refuse], Iterator[Found]]


def images(found: Iterable[Found], refuse: Refuse = None) -> Iterator[Found]:
    """The files that are images by their ending or by their first bytes.

    Whoever reads a file with an image's ending says if it is none. At URLs the ending alone decides:
    every look into a file would be a request.
    """
    for item in found:
        if is_named(item.name) or (not item.place.far and _begins_so(item)):
            yield Found(item.place, item.name, item.known, image=True)
        elif refuse:
            refuse(PassedOver("known image" if item.place.far else "image", where=item.place))


def coded(endings: Collection[str]) -> Choose:
    """Chooses files by their (lower-case) endings."""

    def choose(found: Iterable[Found], refuse: Refuse) -> Iterator[Found]:
        for item in found:
            if _ending(item.name) in endings:
                yield item
            elif refuse:
                refuse(PassedOver("coded file", where=item.place))

    return choose


def find_images(text: str | Location, refuse: Refuse = None) -> Iterator[Found]:
    """The images of a folder, or the files that `places.find` finds; raises as it does."""
    if not places.is_pattern(str(text)) and (folder := places.locate(text)).is_folder():
        return images(folder.below(refuse=refuse), refuse)
    return places.find(text, refuse)


def is_named(name: str) -> bool:
    """Whether a file has the ending of an image, of a format that is read or not."""
    ending = _ending(name)
    return ending in SUFFIXES or ending in UNREAD


def is_image(name: str, head: bytes) -> bool:
    """Whether a file is an image by its name or its first `HEAD` bytes."""
    return is_named(name) or image_format(head) != ""


def _begins_so(item: Found) -> bool:
    """Whether a file begins as an image does, or cannot be read, which whoever reads it says."""
    try:
        with open(str(item.place), "rb", buffering=0) as file:  # noqa: PTH123 - for a million of them
            return image_format(file.read(HEAD)) != ""
    except OSError:
        return True


def _ending(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - of a million names
