"""Inputs and outputs of commands: what an argument is, and where each result goes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import click

from cvae.cli.talk import BATCH, Talk
from cvae.errors import CvaeError, ImageError, OutputError, translated

if TYPE_CHECKING:
    from cvae.data.contents import What
    from cvae.data.files import Files
    from cvae.data.images import Pixels, Shape
    from cvae.data.places import Location

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
    target: Path | None = None

    @property
    def name(self) -> str:
        return str(self.source or "stdin")

    @property
    def target_name(self) -> str:
        return str(self.target or "stdout")

    def read(self) -> bytes:
        """The input's bytes. Raises CvaeError when it cannot be read."""
        with translated(CvaeError, "cannot be read", self.name):
            if self.source is None and sys.stdin is None:
                raise CvaeError("is closed", where=self.name)
            from cvae.data.files import open_file

            opened: Any = open_file(self.source) if self.source else nullcontext(sys.stdin.buffer)
            with opened as file:
                data: bytes = file.read(_MAX_INPUT + 1)
        if len(data) > _MAX_INPUT:
            raise CvaeError(f"expected at most {_MAX_INPUT:,} bytes, found more", where=self.name)
        return data

    def check(self, force: bool) -> None:
        """Raises OutputError when the result cannot be written."""
        from cvae.data import files

        if self.target is not None:
            files.check_writable(self.target, force)

    def write(self, data: bytes, results: Files) -> None:
        """Writes the result, to `results` unless it goes to stdout. Raises OutputError."""
        if self.target is not None:
            results.write(self.target, data)
            return
        with writing(None, force=False) as file:
            file.write(data)

    def write_image(self, pixels: Pixels, results: Files) -> None:
        """Writes an image in the format of the target's ending, else as PNG. Raises OutputError."""
        from cvae.data import images

        self.write(images.encode_image(pixels, self.target.name if self.target else ""), results)


def plan(
    inputs: Sequence[str], output: str | None, derive: Callable[[str], str], suffixes: Collection[str],
    force: bool,
) -> list[Task]:  # fmt: skip
    """Pairs every input, a file, a folder or `-`, with its output.

    Without `output`, results go to the current folder, and the result of stdin to stdout. `output` is
    a file for one input and a folder for several. Files of a folder keep their place below it.
    `derive` makes an output's name of the stem of its input's; `suffixes` are the lower-case endings
    of files that are taken from a folder; `force` writes to a terminal, too.

    Raises:
        UsageError: several inputs would give one file.
        CvaeError: two inputs would give one output.
        OutputError: a result would go to a terminal.
    """
    for item in (*inputs, output or ""):
        _refuse_url(item)
    sources = _sources(inputs, suffixes)
    many = len(sources) > 1 or several(inputs)
    if many and output == STDIO:
        raise click.UsageError(f"expected one input for stdout, found {len(sources)}")
    if many and output is not None and like_a_file(output):
        text = "several inputs need a folder, found the name of a file"
        raise click.UsageError(f"-o {output}: {text}; put a / behind it if a folder is meant")
    one = output is not None and not (many or Path(output).is_dir() or output.endswith("/"))
    tasks: dict[Path | None, Task] = {}
    for source, below in sources:
        target: Path | None = Path(output or "")
        if output == STDIO or (source is None and output is None):
            target = None
        elif not one:
            target = Path(output or "") / below / derive(source.stem if source else "stdin")
        task = Task(source, target)
        if target in tasks:
            both = f"{task.name} and {tasks[target].name}"
            advice = "do them one by one"
            raise CvaeError(f"{both} would both be written to {task.target_name}", advice=advice)
        if source is not None and target == source:
            raise click.UsageError(f"{target} is input and output at once")
        tasks[target] = task
    if None in tasks:
        refuse_terminal(force)
    return list(tasks.values())


def batches(tasks: list[Task], talk: Talk, size: int = BATCH) -> Iterator[list[Task]]:
    """The tasks in batches, with a progress bar; `talk` gives the details of a single one."""
    talk.verbose = talk.verbose or len(tasks) == 1
    with talk.bar(len(tasks)) as bar:
        for start in range(0, len(tasks), size):
            batch = tasks[start : start + size]
            yield batch
            bar.update(len(batch))


def several(inputs: Sequence[str]) -> bool:
    """Whether arguments may stand for several files."""
    return len(inputs) > 1 or any(Path(item).is_dir() for item in inputs if item != STDIO)


def what(item: str) -> What:
    """What an argument is. The first bytes of stdin tell, and stay there."""
    from cvae.data import contents

    if item != STDIO:
        return contents.what_lies_at(item)
    stdin: Any = sys.stdin
    return contents.what_is("", stdin.buffer.peek(contents.HEAD)[: contents.HEAD] if stdin else b"")


def refuse_as_input(
    inputs: Sequence[str], output: str | None, endings: Collection[str], results: Collection[str]
) -> None:
    """Raises UsageError when the last of several inputs is meant as the output: `encode a.png a.bin`.

    There is no other, its ending is one of `endings`, and it is missing, or is one of `results`, which
    are names of `What`.
    """
    from cvae.data import places

    last = inputs[-1]
    if output is not None or len(inputs) < 2 or places.is_url(last):
        return
    if Path(last).suffix.lower() not in endings:
        return
    if what(last).name in {"NOTHING", *results}:
        raise click.UsageError(f"{last} is no input; name the output with -o")


def refuse_coded(inputs: Sequence[str]) -> None:
    """Raises ImageError when the one argument is a coded file or a model; a bad one of many is skipped."""
    from cvae.data import places
    from cvae.data.contents import What

    known = {
        What.CONTAINER: ("a container", "decode"),
        What.PACK: ("a pack", "unpack"),
        What.PACKS: ("a folder of packs", "unpack"),
        What.MODEL: ("a model", "info"),
    }
    item = inputs[0]
    if len(inputs) == 1 and not places.is_url(item) and (found := known.get(what(item))):
        noun, command = found
        where = "stdin" if item == STDIO else item
        advice = f"{typed(command, [item])} reads it"
        raise ImageError(f"expected an image, found {noun}", where=where, advice=advice)


def _refuse_url(item: str) -> None:
    """Raises UsageError for a URL where a file of this machine is expected."""
    from cvae.data import places

    if places.is_url(item):
        advice = "`cvae pack` and `cvae unpack` take them"
        raise click.UsageError(f"{item} is a URL, expected a file on this machine; {advice}")


def place(item: str) -> Any:
    """What `packs.open` takes for an argument: its text, or stdin as a file."""
    return sys.stdin.buffer if item == STDIO and sys.stdin is not None else item


def typed(command: str, inputs: Sequence[str], *options: str) -> str:
    """A command to type, in backquotes: `cvae pack a.png b.png -o many.bin`."""
    import shlex

    more = ["..."] if len(inputs) > _TYPED else []
    return f"`cvae {command} {shlex.join([*inputs[:_TYPED], *more, *options])}`"


def like_a_file(output: str) -> bool:
    """Whether `-o` names a file: there is one, or the name has an ending and is no folder's."""
    path = Path(output)
    return path.is_file() or (path.suffix != "" and not output.endswith("/") and not path.is_dir())


def refuse_as_folder(output: str, expected: str) -> None:
    """Raises UsageError when `-o` is to become a folder and its ending says that a file is meant."""
    from cvae.data import places

    ending = "" if output.endswith("/") else Path(output).suffix.lower()
    if ending in FILE_ENDINGS and not places.locate(output).is_folder():
        text = f"-o {output}: expected {expected}; put a / behind it if a folder is meant"
        raise click.UsageError(text)


def refuse_terminal(force: bool) -> None:
    """Raises OutputError when stdout is a terminal, unless it is forced: data is binary."""
    if sys.stdout is not None and sys.stdout.isatty() and not force:
        raise OutputError("stdout is a terminal; name a file with -o, or use --force")


def open_stdout() -> Any:
    """Stdout for bytes. Raises OutputError when it is closed."""
    if sys.stdout is None:
        raise OutputError("is closed", where="stdout")
    return sys.stdout.buffer


@contextmanager
def writing(target: Location | None, force: bool) -> Iterator[BinaryIO]:
    """A place opened for bytes, which appears whole when the block ends; None is stdout."""
    from cvae.data import places

    if target is None:
        stdout = open_stdout()
        yield stdout
        stdout.flush()
        return
    with places.locate(target).writing(force) as temporary, temporary.open("wb") as file:
        yield file


def _sources(inputs: Sequence[str], suffixes: Collection[str]) -> list[tuple[Path | None, Path]]:
    """Input files, and the folder below the output that each one's result belongs in."""
    from cvae.data import places

    sources: list[tuple[Path | None, Path]] = []
    for item in inputs:
        if item == STDIO or not Path(item).is_dir():
            sources.append((None if item == STDIO else Path(item), Path()))
            continue
        names = [Path(found.name) for found in places.locate(item).below(suffixes)]
        if not names:
            expected = ", ".join(sorted(suffixes))
            raise ImageError(f"expected files {expected}, found none in this folder", where=item)
        sources += [(Path(item) / name, name.parent) for name in names]
    return sources


@dataclass(frozen=True)
class Gallery:
    """Where a model's pictures go: one file or stdout for all, or a file each in a folder."""

    goal: Task | Path
    count: int
    stem: str  # of single files: STEM_0001.png
    force: bool

    @classmethod
    def at(cls, output: str | None, default: str, stem: str, count: int, force: bool) -> Gallery:
        """What `-o` stands for: `-`, a file, or a folder; without it the file `default`.

        Raises OutputError when a file exists and `force` is off, or stdout is a terminal.
        """
        from cvae.data import files

        _refuse_url(output or default)
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
            digits = max(4, len(str(self.count)))
            for number in range(1, self.count + 1):
                yield self.goal / f"{self.stem}_{number:0{digits}}.png"
        elif self.goal.target is not None:
            yield self.goal.target

    def write(
        self, pictures: Iterable[Pixels], shape: Shape, columns: int, talk: Talk, animated: bool
    ) -> None:
        """Writes pictures of a shape (h, w, c), which come in batches (n, h, w, c).

        All in one become a grid of so many columns; with `animated`, a name in .gif an animation.
        Raises OutputError when all in one would be too large, or a file cannot be written.
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
        import numpy as np

        from cvae.data import grids
        from cvae.data.images import MAX_PIXELS

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
