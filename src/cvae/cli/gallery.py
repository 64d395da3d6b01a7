"""Where pictures that a model makes go: all in one, or each to a file of its own in a folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cvae import OutputError
from cvae.cli import common
from cvae.cli.common import STDIO, Talk, Task

if TYPE_CHECKING:
    from cvae.data.images import Pixels, Shape


@dataclass(frozen=True)
class Place:
    """A file or stdout for one picture of all, or a folder for `count` single ones."""

    goal: Task | Path
    count: int
    stem: str  # of single files: STEM_0001.png
    force: bool

    @property
    def name(self) -> str:
        return f"{self.goal}/" if isinstance(self.goal, Path) else self.goal.target_name

    def paths(self) -> Iterator[Path]:
        """The files that will be written, one by one, for there may be a million."""
        if isinstance(self.goal, Path):
            digits = max(4, len(str(self.count)))
            for number in range(1, self.count + 1):
                yield self.goal / f"{self.stem}_{number:0{digits}}.png"
        elif self.goal.target is not None:
            yield self.goal.target


def place(output: str | None, default: str, stem: str, count: int, force: bool) -> Place:
    """What `-o` stands for: `-`, a file, or a folder; without it the file `default`.

    Raises:
        OutputError: a file exists already and `force` is off, or stdout is a terminal.
    """
    from cvae.data import files

    goal: Task | Path
    if output == STDIO:
        goal = Task(None, None)
        common.refuse_terminal([goal], force)
    elif output is None or common.like_a_file(output):
        goal = Task(None, Path(output or default))
    else:
        goal = Path(output)
    found = Place(goal, count, stem, force)
    for path in found.paths():
        files.check_writable(path, force)
    return found


def write(
    place: Place,
    batches: Iterable[Pixels],
    shape: Shape,
    columns: int,
    talk: Talk,
    animated: bool = False,
) -> None:
    """Writes pictures of a shape (h, w, c), which come in batches.

    As a grid with so many columns, or animated where a file's name ends in .gif and that is asked
    for; or each to a file of its own.

    Raises:
        OutputError: all in one would be too large, or a file cannot be written.
    """
    from cvae.data import images

    if isinstance(place.goal, Path):
        paths = place.paths()
        with talk.bar(place.count) as bar:
            for batch in batches:
                for pixels, path in zip(batch, paths, strict=False):
                    Task(None, path).write(images.encode_image(pixels), place.force)
                    talk.detail(str(path))
                bar.update(len(batch))
        return
    import numpy as np

    from cvae.evaluation import plots as report

    zoom = report.zoom_for(shape)
    _check_size(place, report.grid_shape(-(-place.count // columns), columns, shape, zoom))
    pixels = np.concatenate(list(batches))
    if animated and place.name.lower().endswith(".gif"):
        data = report.animation(pixels, zoom)
    else:
        rows = [pixels[start : start + columns] for start in range(0, len(pixels), columns)]
        target = place.goal.target
        data = images.encode_image(report.grid(rows, zoom), str(target) if target else "")
    place.goal.write(data, place.force)


def _check_size(place: Place, grid: Shape) -> None:
    from cvae.data.images import MAX_PIXELS

    height, width, _ = grid
    if height * width > MAX_PIXELS:
        raise OutputError(
            f"expected a picture of at most {MAX_PIXELS:,} pixels, found {width}x{height} "
            f"for {place.count:,} images",
            where=place.name,
            advice="name a folder (-o NAME/) for a file each",
        )
