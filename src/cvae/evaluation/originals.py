"""The images that coded files are compared with, listed once for all of these files."""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property
from pathlib import PurePosixPath

from cvae.data import places, sources
from cvae.data.contents import What
from cvae.data.places import Place
from cvae.errors import DataError, ImageError, Refuse
from cvae.packs import shards


class Originals:
    """Image files by their names, or the arrays, archives or packs that hold the images."""

    def __init__(self, text: str, refuse: Refuse = None, several: bool = True) -> None:
        """`text` is a path, a URL or a pattern; raises as `shards.resolve` and `Input.found` do.

        `several` says that they are those of several containers, of which names tell.
        `refuse` is called with what of it cannot be listed, and with notices; see `errors.told`.
        """
        self.text, self.several = text, several
        self.input = shards.resolve(text, refuse)
        files = self.input.files
        self.what = sources.kind_of(files[0]) if files else What.FILE
        self.places: dict[str, Place] = {}  # of image files, by name
        if self.what not in (What.ARRAY, What.TAR, What.ZIP, What.PACK, What.PACKS):
            self.places = {file.name: file.place for file in self.input.found(refuse)}
        self.names = set(self.places)  # of an archive those that were read so far
        self.was_read = False  # an archive, for another pack
        self.coded = set[str]()  # names of those that are in some coded file

    @property
    def uncoded(self) -> list[str]:
        """The names of those that are in none of the coded files so far."""
        return sorted(self.names - self.coded)

    def check_files(self) -> None:
        """Raises DataError unless they are image files, which are found by the names of containers."""
        if not self.places:
            wrong = "holds many images, expected image files"
            why = "containers are compared with those of their names"
            raise DataError(f"{wrong}: {why}", where=self.text)

    def find(self, name: str, used: set[str]) -> tuple[Place, str] | None:
        """The original of a container by the name of that, and its own name; None where it is missing.

        `encode` names results after their image without its ending or with it. The single original
        of a single container has any name. What has the name is added to `used`. Raises ImageError
        when several differ in the ending alone.
        """
        stem = _stem(name)
        found = [stem] if stem in self.places else self._stems.get(stem, self._alone)
        used.update(found)
        if len(found) > 1:
            text = f"expected one original of this name in {self.text}, found {', '.join(found)}"
            raise ImageError(text, advice="--against FILE names the one that was coded")
        return (self.places[found[0]], found[0]) if found else None

    @cached_property
    def _stems(self) -> dict[str, list[str]]:
        stems = defaultdict[str, list[str]](list)
        for name in self.places:
            stems[_stem(name)].append(name)
        return dict(stems)

    @cached_property
    def _alone(self) -> list[str]:
        is_one = (
            not self.several and len(self.input.files) == 1 and not places.is_pattern(self.text)
        )
        return list(self.places) if is_one else []


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))
