"""Inputs and outputs of commands: what an argument is, and where each result goes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from cvae.cli.talk import BATCH, Talk
from cvae.errors import CvaeError, FormatError, ImageError, OutputError, translated

if TYPE_CHECKING:
    from cvae.data.contents import What
    from cvae.data.images import Pixels, Shape

STDIO = "-"
_MAX_INPUT = 1 << 28  # bytes; no image or container that can be coded is near
_TYPED = 3  # inputs that are written out in a command that messages propose
# Endings of files that commands and other programs write: such a name means no folder, and no model.
FILE_ENDINGS = {
    ".7z", ".bin", ".bz2", ".cvae", ".gz", ".h5", ".mat", ".npy", ".npz", ".parquet", ".pt", ".rar",
    ".tar", ".tbz2", ".tgz", ".txz", ".xz", ".zip", ".zst",
}  # fmt: skip


class Task(NamedTuple):
    """One input and where its result goes; None stands for stdin and stdout."""

    source: Path | None
    target: Path | None

    @property
    def name(self) -> str:
        return "stdin" if self.source is None else str(self.source)

    @property
    def target_name(self) -> str:
        return "stdout" if self.target is None else str(self.target)

    def read(self) -> bytes:
        """The input's bytes. Raises CvaeError when it cannot be read."""
        with translated(CvaeError, "cannot be read", self.name):
            if self.source is not None:
                with self.source.open("rb") as file:
                    data = file.read(_MAX_INPUT + 1)
            elif sys.stdin is not None:
                data = sys.stdin.buffer.read(_MAX_INPUT + 1)
            else:
                raise CvaeError("is closed", where=self.name)
        if len(data) > _MAX_INPUT:
            raise CvaeError(f"expected at most {_MAX_INPUT:,} bytes, found more", where=self.name)
        return data

    def check(self, force: bool) -> None:
        """Raises OutputError when the result cannot be written."""
        from cvae.data import files

        if self.target is not None:
            files.check_writable(self.target, force)

    def write(self, data: bytes, force: bool) -> None:
        """Writes the result whole or not at all. Raises OutputError."""
        from cvae.data import files

        if self.target is not None:
            files.write_bytes(self.target, data, force)
            return
        stdout = open_stdout()
        stdout.write(data)
        stdout.flush()

    def write_image(self, pixels: Pixels, force: bool) -> None:
        """Writes an image in the format of the target's ending, else as PNG. Raises OutputError."""
        from cvae.data import images

        name = "" if self.target is None else self.target.name
        self.write(images.encode_image(pixels, name), force)


def plan(
    inputs: Sequence[str],
    output: str | None,
    derive: Callable[[str], str],
    suffixes: Collection[str],
    force: bool,
) -> list[Task]:
    """Pairs every input with its output.

    Without `output`, results go to the current folder under derived names, and the result of stdin
    to stdout. `output` is a file for one input and a folder for several. Files in a folder keep
    their place below it.

    Args:
        inputs: files, folders and "-".
        output: a file, a folder or "-".
        derive: from the stem of an input's name to its output's name.
        suffixes: lower-case endings of the files that are taken from a folder.
        force: write to a terminal, too.

    Raises:
        CvaeError: two inputs would give one output, or several one file.
        OutputError: a result would go to a terminal.
    """
    sources = _sources(inputs, suffixes)
    many = len(sources) > 1 or several(inputs)
    if many and output == STDIO:
        raise CvaeError(f"expected one input for stdout, found {len(sources)}")
    if many and output is not None and like_a_file(output):
        raise OutputError(
            "several inputs need a folder, found the name of a file; "
            "put a / behind it if a folder is meant",
            where=output,
        )
    into_folder = output is not None and (many or Path(output).is_dir() or output.endswith("/"))
    folder = Path(output) if output is not None and into_folder else Path()
    tasks = []
    for source, below in sources:
        target: Path | None = folder / below / derive(source.stem if source else "stdin")
        if output == STDIO or (source is None and output is None):
            target = None
        elif output is not None and not into_folder:
            target = Path(output)
        tasks.append(Task(source, target))
    _check_targets(tasks)
    if any(task.target is None for task in tasks):
        refuse_terminal(force)
    return tasks


def batches(tasks: list[Task], talk: Talk) -> Iterator[list[Task]]:
    """The tasks in batches; a progress bar follows them."""
    with talk.bar(len(tasks)) as bar:
        for start in range(0, len(tasks), BATCH):
            batch = tasks[start : start + BATCH]
            yield batch
            bar.update(len(batch))


def several(inputs: Sequence[str]) -> bool:
    """Whether arguments may stand for several files."""
    return len(inputs) > 1 or any(Path(item).is_dir() for item in inputs if item != STDIO)


def what(item: str) -> What:
    """What an argument is. Of stdin, the first bytes tell, and stay there."""
    from cvae.data import contents

    if item == STDIO:
        return contents.what_is("", _peek(contents.HEAD))
    return contents.what_lies_at(item)


def place(item: str) -> Any:
    """What `packs.open` takes for an argument: its text, or stdin as a file."""
    return sys.stdin.buffer if item == STDIO and sys.stdin is not None else item


def pack_found(name: str, where: str) -> FormatError:
    """The error of a command for single files, given a pack or a folder of packs."""
    return FormatError(
        "holds many images", where=where, advice=f"{typed('unpack', [name])} decodes it"
    )


def typed(command: str, inputs: Sequence[str], *options: str) -> str:
    """A command to type, in backquotes: `cvae pack a.png b.png -o many.bin`."""
    import shlex

    words = shlex.join([*inputs[:_TYPED], *options] if len(inputs) <= _TYPED else inputs[:_TYPED])
    rest = f" ... {shlex.join(options)}".rstrip() if len(inputs) > _TYPED else ""
    return f"`cvae {command} {words}{rest}`"


def is_url(text: str) -> bool:
    """Whether an argument is a URL; a path never has this."""
    return "://" in text


def like_a_file(output: str) -> bool:
    """Whether `-o` names a file: there is one, or the name has an ending and is no folder's."""
    path = Path(output)
    return path.is_file() or (path.suffix != "" and not output.endswith("/") and not path.is_dir())


def refuse_device(output: str | None) -> None:
    """Raises OutputError when `-o` is a device, a pipe, or what this process has open."""
    if output is None or output == STDIO:
        return
    path = Path(output)
    special = path.exists() and not path.is_file() and not path.is_dir()
    if special or output.startswith(("/dev/std", "/dev/fd/", "/proc/")):
        raise OutputError("is a device or a pipe, expected a file; `-o -` is stdout", where=output)


def refuse_as_folder(output: str, expected: str) -> None:
    """Raises UsageError when `-o` is to become a folder and its ending says that a file is meant."""
    from cvae.data import places

    if output.endswith("/") or Path(output).suffix.lower() not in FILE_ENDINGS:
        return
    if not places.locate(output).is_folder():
        raise click.UsageError(
            f"-o {output}: expected {expected}; put a / behind it if a folder is meant"
        )


def refuse_terminal(force: bool) -> None:
    """Raises OutputError when stdout is a terminal, unless it is forced: data is binary."""
    if sys.stdout is not None and sys.stdout.isatty() and not force:
        raise OutputError("stdout is a terminal; name a file with -o, or use --force")


def open_stdout() -> Any:
    """Stdout for bytes. Raises OutputError when it is closed."""
    if sys.stdout is None:
        raise OutputError("is closed", where="stdout")
    return sys.stdout.buffer


def _sources(inputs: Sequence[str], suffixes: Collection[str]) -> list[tuple[Path | None, Path]]:
    """Input files, and the folder below the output that each one's result belongs in."""
    from cvae.data import places

    sources: list[tuple[Path | None, Path]] = []
    for item in inputs:
        if item == STDIO:
            sources.append((None, Path()))
        elif Path(item).is_dir():
            names = [Path(found.name) for found in places.locate(item).below(suffixes)]
            if not names:
                what = ", ".join(sorted(suffixes))
                raise ImageError(f"expected files {what}, found none in this folder", where=item)
            sources.extend((Path(item) / name, name.parent) for name in names)
        else:
            sources.append((Path(item), Path()))
    return sources


def _check_targets(tasks: list[Task]) -> None:
    seen: dict[Path | None, Task] = {}
    for task in tasks:
        if task.target in seen:
            raise CvaeError(
                f"{task.name} and {seen[task.target].name} would both be written to "
                f"{task.target_name}; do them one by one"
            )
        seen[task.target] = task
        if task.source is not None and task.target == task.source:
            raise OutputError("is input and output at once", where=task.target)


def _peek(count: int) -> bytes:
    if sys.stdin is None:
        return b""
    stdin: Any = sys.stdin.buffer
    return bytes(stdin.peek(count)[:count])


@dataclass(frozen=True)
class Gallery:
    """Where pictures go that a model makes: one file or stdout for all, or a file each in a folder."""

    goal: Task | Path
    count: int
    stem: str  # of single files: STEM_0001.png
    force: bool

    @classmethod
    def at(cls, output: str | None, default: str, stem: str, count: int, force: bool) -> Gallery:
        """What `-o` stands for: `-`, a file, or a folder; without it the file `default`.

        Raises:
            OutputError: a file exists already and `force` is off, or stdout is a terminal.
        """
        from cvae.data import files

        goal: Task | Path
        if output == STDIO:
            goal = Task(None, None)
            refuse_terminal(force)
        elif output is None or like_a_file(output):
            goal = Task(None, Path(output or default))
        else:
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
            digits = max(4, len(str(self.count)))
            for number in range(1, self.count + 1):
                yield self.goal / f"{self.stem}_{number:0{digits}}.png"
        elif self.goal.target is not None:
            yield self.goal.target

    def write(
        self, pictures: Iterable[Pixels], shape: Shape, columns: int, talk: Talk, animated: bool
    ) -> None:
        """Writes pictures of a shape (h, w, c), which come in batches (n, h, w, c).

        All in one become a grid of so many columns. They are animated where a file's name ends in
        .gif and `animated` is on.

        Raises:
            OutputError: all in one would be too large, or a file cannot be written.
        """
        if isinstance(self.goal, Path):
            paths = self.paths()
            with talk.bar(self.count) as bar:
                for batch in pictures:
                    for pixels, path in zip(batch, paths, strict=False):
                        Task(None, path).write_image(pixels, self.force)
                        talk.detail(str(path))
                    bar.update(len(batch))
            return
        import numpy as np

        from cvae.data import grids

        zoom = grids.zoom_for(shape)
        self._check_size(grids.grid_shape(-(-self.count // columns), columns, shape, zoom))
        pixels = np.concatenate(list(pictures))
        if animated and self.name.lower().endswith(".gif"):
            self.goal.write(grids.animation(pixels, zoom), self.force)
            return
        rows = [pixels[start : start + columns] for start in range(0, len(pixels), columns)]
        self.goal.write_image(grids.grid(rows, zoom), self.force)

    def _check_size(self, grid: Shape) -> None:
        from cvae.data.images import MAX_PIXELS

        height, width, _ = grid
        if height * width > MAX_PIXELS:
            raise OutputError(
                f"expected a picture of at most {MAX_PIXELS:,} pixels, found {width}x{height} "
                f"for {self.count:,} images; name a folder (-o NAME/) for a file each",
                where=self.name,
            )
