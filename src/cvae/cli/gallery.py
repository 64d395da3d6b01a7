"""Where a model's pictures go that no file gives a name: those of `sample` and `interpolate`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cvae.cli.files import STDIO, Task, check_picture, like_a_file, refuse_terminal, refuse_url
from cvae.cli.talk import Talk
from cvae.errors import OutputError

if TYPE_CHECKING:
    from cvae.data.images import Pixels, Shape


@dataclass(frozen=True)
class Gallery:
    """One file or stdout for all pictures, or a file each in a folder."""

    goal: Task | Path
    count: int
    stem: str  # of single files: STEM_0000.png
    force: bool

    @classmethod
    def at(cls, output: str | None, default: str, stem: str, count: int, force: bool) -> Gallery:
        """What `-o` stands for: `-`, a file, or a folder; without it the file `default`.

        Raises OutputError when a file exists and `force` is off, or stdout is a terminal.
        """
        from cvae.data import files

        refuse_url(output or default)
        goal: Task | Path = Task(None, Path(output or default))
        if output == STDIO:
            goal = Task(None)
            refuse_terminal(force)
        elif output is not None and not like_a_file(output):
            goal = Path(output)
        found = cls(goal, count, stem, force)
        for path in found.paths():
            files.check_writable(path, force)
        return found

    @property
    def name(self) -> str:
        return f"{self.goal}/" if isinstance(self.goal, Path) else self.goal.target_name

    def paths(self) -> Iterator[Path]:
        """The files that will be written, one by one, for there may be a million."""
        if isinstance(self.goal, Path):
            digits = max(4, len(str(self.count - 1)))
            for number in range(self.count):
                yield self.goal / f"{self.stem}_{number:0{digits}}.png"
        elif self.goal.target is not None:
            yield self.goal.target

    def write(
        self, pictures: Iterable[Pixels], shape: Shape, columns: int, talk: Talk, animated: bool
    ) -> None:
        """Writes pictures of a shape (h, w, c), which come in batches (n, h, w, c).

        All in one become a grid of so many columns; with `animated`, a name in .gif an animation. A
        single picture stays as it is.
        Raises UsageError, before any is made, when a file has not the ending of an image; OutputError
        when all in one would be too large, or a file cannot be written.
        """
        from cvae.data.files import Files

        if isinstance(self.goal, Path):
            paths = self.paths()
            with talk.bar(self.count) as bar, Files(self.force) as results:
                for batch in pictures:
                    for pixels, path in zip(batch, paths, strict=False):
                        Task(None, path).write_image(pixels, results)
                        talk.detail(str(path))
                    bar.update(len(batch))
            return
        check_picture(self.goal.target)
        import numpy as np

        from cvae.data import grids
        from cvae.data.images import MAX_PIXELS

        if self.count == 1:
            with Files(self.force) as results:
                self.goal.write_image(next(iter(pictures))[0], results)
            return
        zoom = grids.zoom_for(shape)
        height, width, _ = grids.grid_shape(-(-self.count // columns), columns, shape, zoom)
        if height * width > MAX_PIXELS:
            raise OutputError(
                f"expected a picture of at most {MAX_PIXELS:,} pixels, found {width}x{height} "
                f"for {self.count:,} images",
                where=self.name,
                advice="name a folder (-o NAME/) for a file each",
            )
        pixels = np.concatenate(list(pictures))
        with Files(self.force) as results:
            if animated and self.name.lower().endswith(".gif"):
                self.goal.write(grids.animation(pixels, zoom), results)
            else:
                rows = [pixels[start : start + columns] for start in range(0, len(pixels), columns)]
                self.goal.write_image(grids.grid(rows, zoom), results)
