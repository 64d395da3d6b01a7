"""Inputs and outputs of commands: what an argument is, and where each result goes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import click

from cvae.cli import kept
from cvae.cli.inputs import STDIN, several, sources_of
from cvae.cli.talk import BATCH, Talk
from cvae.cli.targets import targets
from cvae.errors import CvaeError, FormatError, ImageError, OutputError, StorageError, translated

if TYPE_CHECKING:
    from cvae.data.contents import What
    from cvae.data.files import Files
    from cvae.data.images import Pixels
    from cvae.data.listing import Choose
    from cvae.data.places import Location

STDIO = STDIN  # as -o it is stdout
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
    wrong: CvaeError | None = None  # why it cannot be done

    @property
    def name(self) -> str:
        return str(self.source or "stdin")

    @property
    def target_name(self) -> str:
        return str(self.target or "stdout")

    @property
    def is_npy(self) -> bool:
        """Whether the input is an array by its ending."""
        return self.source is not None and self.source.suffix == ".npy"

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
        """Raises CvaeError when the input cannot be had, OutputError when the result cannot be written."""
        from cvae.data import files

        self.check_input()
        if self.target is not None:
            files.check_writable(self.target, force)

    def check_input(self) -> None:
        """Raises CvaeError when the input cannot be had."""
        if self.wrong is not None:
            raise self.wrong

    def write(self, data: bytes, results: Files) -> None:
        """Writes the result, to `results` unless it goes to stdout. Raises OutputError."""
        if self.target is not None:
            results.write(self.target, data)
            return
        with writing(None, force=False) as file:
            file.write(data)

    def write_image(self, pixels: Pixels, results: Files, profile: bytes | None = None) -> int:
        """Writes an image in the format of the target's ending, else as PNG; how many bytes.

        Raises OutputError.
        """
        from cvae.data import images

        name = self.target.name if self.target else ""
        data = images.encode_image(pixels, name, profile)
        self.write(data, results)
        return len(data)


def plan(
    inputs: Sequence[str], output: str | None, derive: Callable[[str], str], choose: Choose, force: bool,
    talk: Talk,
) -> list[Task]:  # fmt: skip
    """Pairs every input, a file, a folder or `-`, with its output.

    Without `output`, results go to the current folder, and the result of stdin to stdout. `output` is
    a file for one input and a folder for several. Files of a folder keep their place below it.
    `derive` makes an output's name of the stem of its input's; where results would meet, of its whole
    name, and in a folder named as the input's. `choose` takes files from a folder; `force` writes to a
    terminal, too. Inputs that cannot be had are tasks that are wrong.

    Raises:
        UsageError: several inputs would give one file.
        OutputError: a result would go to a terminal.
    """
    for item in (*inputs, output or ""):
        refuse_url(item)
    sources, errors = sources_of(inputs, choose, talk)
    many = len(sources) > 1 or several(inputs)
    if many and output == STDIO:
        raise click.UsageError(f"expected one input for stdout, found {len(sources)}")
    if many and output is not None and like_a_file(output):
        text = "several inputs need a folder, found the name of a file"
        raise click.UsageError(f"-o {output}: {text}; put a / behind it if a folder is meant")
    folder = Path(output or "")
    one = output is not None and not (many or folder.is_dir() or output.endswith("/"))
    from cvae.data.files import identity

    found = [folder] if one else targets(sources, folder, derive)
    read = {identity(source.path) for source in sources if source.path}
    if any(target is not None and identity(target) for target in found):
        read.update(map(identity, kept.models()))
    read.discard(None)
    if one and identity(folder) in read:
        raise click.UsageError(f"{output} is input and output at once; name another with -o")
    pairs = zip(sources, found, strict=True)
    tasks = [_task(source.path, target, output, read) for source, target in pairs]
    if any(task.target is None and task.wrong is None for task in tasks):
        refuse_terminal(force)
    return tasks + [Task(Path(error.where), None, error) for error in errors]


def _task(
    path: Path | None, target: Path | None, output: str | None, read: Collection[object]
) -> Task:
    """What becomes of one input; `read` are the identities of all that no result replaces."""
    if output == STDIO or (path is None and output is None):
        return Task(path)
    if target is None:
        text = "its result would have the name of another's"
        return Task(path, None, OutputError(text, where=path or "stdin", advice="do it by itself"))
    from cvae.data.files import identity

    if identity(target) in read:
        advice = "the output is named with -o"
        wrong = OutputError("is input and output at once", where=target, advice=advice)
        return Task(path, target, wrong)
    return Task(path, target)


def to_do(tasks: list[Task], skip_existing: bool, force: bool, talk: Talk) -> list[Task]:
    """The tasks, with `skip_existing` those alone whose result is not there. Raises UsageError."""
    if not skip_existing:
        return tasks
    if force:
        raise click.UsageError("--skip-existing keeps what is there, --force does not: choose one")
    left = []
    for task in tasks:
        if task.wrong is None and task.target is not None and task.target.is_file():
            talk.exists(task.name, task.target_name)
        else:
            left.append(task)
    return left


def batches(tasks: list[Task], talk: Talk, size: int = BATCH) -> Iterator[list[Task]]:
    """The tasks in batches, with a progress bar; `talk` gives the details of a single one."""
    talk.verbose = talk.verbose or len(tasks) == 1
    with talk.bar(len(tasks)) as bar:
        for start in range(0, len(tasks), size):
            batch = tasks[start : start + size]
            yield batch
            bar.update(start + len(batch) - bar.pos)  # less those that were told one by one


def what(item: str) -> What:
    """What an argument is. The first bytes of stdin tell, and stay there."""
    from cvae.data import contents

    if item != STDIO:
        return contents.what_lies_at(item)
    return contents.what_is("", _head_of_stdin())


def other(item: str) -> FormatError:
    """The error of an argument that is no coded file and no model; it tells what it is.

    Raises StorageError when it cannot be read.
    """
    from cvae.data import contents, places

    if item == STDIO:
        name, head = "", _head_of_stdin()
    else:
        with (
            translated(StorageError, "cannot be read", item),
            places.locate(item).open("rb") as file,
        ):
            name, head = item, file.read(contents.HEAD)
    return contents.other("a container, a pack or a model", head, name)


def _head_of_stdin() -> bytes:
    from cvae.data.contents import HEAD

    stdin: Any = sys.stdin
    return stdin.buffer.peek(HEAD)[:HEAD] if stdin else b""


def refuse_as_input(
    inputs: Sequence[str], output: str | None, endings: Collection[str], results: Collection[str]
) -> None:
    """Raises UsageError when the last of several inputs is meant as the output: `encode a.png a.bin`.

    There is no other, its ending is one of `endings`, and it is missing, or is one of `results`, which
    are names of `What`, or a file of which nothing is known.
    """
    from cvae.data import places

    last = inputs[-1]
    if output is not None or len(inputs) < 2 or places.is_url(last):
        return
    if Path(last).suffix.lower() not in endings:
        return
    found = what(last).name
    if found in {"NOTHING", *results} or (found == "FILE" and not _is_image(last)):
        raise click.UsageError(f"{last} is no input; name the output with -o")


def _is_image(item: str) -> bool:
    """Whether a file begins as images do."""
    from cvae.data.files import open_file
    from cvae.data.signatures import HEAD, image_format

    try:
        with open_file(item) as file:
            return image_format(file.read(HEAD)) != ""
    except OSError:
        return False


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


def refuse_url(item: str) -> None:
    """Raises UsageError for a URL where a file of this machine is expected."""
    from cvae.data import places

    if places.is_url(item):
        advice = "`cvae pack` and `cvae unpack` take them"
        raise click.UsageError(f"{item} is a URL, expected a file on this machine; {advice}")


def place(item: str) -> Any:
    """What `packs.open` takes for an argument: its text, or stdin as a file."""
    return sys.stdin.buffer if item == STDIO and sys.stdin is not None else item


@contextmanager
def on_disk(item: str) -> Iterator[str]:
    """The path of an argument; what comes from stdin lies in a temporary file for the block.

    Raises FormatError when that is no coded file.
    """
    if item != STDIO:
        yield item
        return
    import shutil
    import tempfile

    from cvae.data.contents import What

    found = what(item)
    if found not in (What.CONTAINER, What.PACK, What.MODEL):
        raise other(item)
    with tempfile.TemporaryDirectory(prefix="cvae-") as folder:
        path = Path(folder, "stdin.cvae" if found is What.MODEL else "stdin.bin")
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        with called(str(path), "stdin"):
            yield str(path)


@contextmanager
def called(path: str, name: str) -> Iterator[None]:
    """Errors of the block that happened at a path say that they did at `name`."""
    try:
        yield
    except CvaeError as error:
        if error.where == path:
            error.where = name
        raise


def typed(command: str, inputs: Sequence[str], *options: str) -> str:
    """A command to type, in backquotes: `cvae pack a.png b.png -o many.bin`."""
    import shlex

    more = ["..."] if len(inputs) > _TYPED else []
    return f"`cvae {command} {shlex.join([*inputs[:_TYPED], *more, *options])}`"


def folder_of(output: str | None) -> str:
    """Where the results of several inputs lie, in words."""
    return "the current folder" if output is None else f"{output.rstrip('/')}/"


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


def check_picture(output: Path | None) -> None:
    """Raises UsageError when the ending of an output is of no image format that is written."""
    from cvae.data import images

    try:
        images.check_ending(output.name if output else "x.png")
    except OutputError as error:
        error.where = f"-o {output}"
        raise click.UsageError(str(error)) from error


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
