"""What the commands share: options, inputs and output names, talk on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

from cvae import CvaeError, ImageError, OutputError

STDIO = "-"
_NAMED = 10  # files of a folder that are left out, by name
_MAX_INPUT = 1 << 28  # bytes; no image or container that can be coded is near
# Seconds after which a thread that waits for the interpreter's lock gets it: batches take less than 5 ms.
SWITCH = 5e-4
# Of files that commands and other programs write: such a name means no folder, and no model.
FILE_ENDINGS = {
    ".7z", ".bin", ".bz2", ".cvae", ".gz", ".h5", ".mat", ".npy", ".npz", ".parquet", ".pt", ".rar",
    ".tar", ".tbz2", ".tgz", ".txz", ".xz", ".zip", ".zst",
}  # fmt: skip

Command = TypeVar("Command", bound=Callable[..., Any])

model_option = click.option(
    "-m",
    "--model",
    metavar="MODEL",
    help="Name (see `cvae models`) or path of a .cvae file.  [default: mnist, or the file's own]",
)
quality_option = click.option(
    "-q",
    "--quality",
    type=click.IntRange(1, 100),
    help="1 (smallest file) to 100 (best picture).  [default: the model's own, 50]",
)
effort_option = click.option(
    "--effort",
    type=click.IntRange(0, 9),
    default=5,
    show_default=True,
    help="Search for symbols that give a better picture or fewer bytes: 0 (none, fastest) to 9 "
    "(longest). Decoding is as fast after each.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")


def file_options(command: Command, verbose: str = "A line for every file.") -> Command:
    """--force, --quiet and --verbose, for commands that write files."""
    options = (
        click.option("-f", "--force", is_flag=True, help="Overwrite files that exist."),
        click.option("--quiet", is_flag=True, help="Only errors on stderr."),
        click.option("-v", "--verbose", is_flag=True, help=verbose),
    )
    for option in reversed(options):
        command = option(command)
    return command


def worker_options(command: Command) -> Command:
    """--jobs and --threads, for commands that work on packs."""
    options = (
        click.option(
            "--jobs", type=click.IntRange(1, 256), metavar="N",
            help="Of a pack: threads that read or write image files.  [default: one a processor]",
        ),
        click.option(
            "--threads", type=click.IntRange(1, 256), metavar="N",
            help="Of a pack: threads that the networks use.  [default: one a processor]",
        ),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


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
        try:
            if self.source is not None:
                with self.source.open("rb") as file:
                    data = file.read(_MAX_INPUT + 1)
            elif sys.stdin is not None:
                data = sys.stdin.buffer.read(_MAX_INPUT + 1)
            else:
                raise CvaeError("is closed")
        except OSError as error:
            raise CvaeError(f"cannot be read: {error.strerror}") from error
        if len(data) > _MAX_INPUT:
            raise CvaeError(f"expected at most {_MAX_INPUT:,} bytes, found more")
        return data

    def write(self, data: bytes, force: bool) -> None:
        """Writes the result whole or not at all. Raises OutputError."""
        from cvae.data import files

        if self.target is None:
            if sys.stdout is None:
                raise OutputError("stdout: is closed")
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        else:
            files.write_bytes(self.target, data, force)


def plan(
    inputs: tuple[str, ...],
    output: str | None,
    derive: Callable[[Path], str],
    find: Callable[[Path], Iterable[Path]],
    what: str,
) -> list[Task]:
    """Pairs every input with its output.

    Without `output`, results go to the current folder under derived names, and the result of stdin
    to stdout. `output` is a file for one input and a folder for several; what a folder given as
    input holds keeps its place below that folder.

    Args:
        inputs: files, folders and "-".
        output: a file, a folder or "-".
        derive: from an input's path to its output's file name.
        find: from a folder to the files in it.
        what: what messages call those files.

    Raises:
        CvaeError: two inputs would give one output, or several one file.
    """
    sources = _sources(inputs, find, what)
    several = len(sources) > 1 or any(Path(item).is_dir() for item in inputs if item != STDIO)
    into_folder = output is not None and (several or Path(output).is_dir() or output.endswith("/"))
    if output == STDIO and several:
        raise CvaeError(f"expected one input for stdout, found {len(sources)}")
    if several and output is not None and like_a_file(output):
        raise OutputError(
            "several inputs need a folder, found the name of a file",
            where=output,
            advice="put a / behind it if a folder is meant",
        )
    folder = Path(output or ".") if into_folder or output is None else Path()
    tasks = []
    for source, below in sources:
        if output == STDIO or (source is None and output is None):
            target = None
        elif output is None or into_folder:
            name = derive(source or Path("stdin"))
            target = folder / below / name
        else:
            target = Path(output)
        tasks.append(Task(source, target))
    _check_targets(tasks)
    return tasks


def counted(number: int, noun: str) -> str:
    """`1 image`, `1,000 images`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


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
        raise OutputError(
            "is a device or a pipe, expected a file", where=output, advice="`-o -` is stdout"
        )


def refuse_as_folder(output: str, expected: str) -> None:
    """Raises UsageError when `-o` is to become a folder and its ending says that a file is meant."""
    from cvae.data import places as storage

    if output.endswith("/") or Path(output).suffix.lower() not in FILE_ENDINGS:
        return
    if not storage.is_folder(storage.locate(output)):
        raise click.UsageError(
            f"-o {output}: expected {expected}; put a / behind it if a folder is meant"
        )


def _sources(
    inputs: tuple[str, ...], find: Callable[[Path], Iterable[Path]], what: str
) -> list[tuple[Path | None, Path]]:
    """Input files, and the folder below the output that each one's result belongs in."""
    sources: list[tuple[Path | None, Path]] = []
    for item in inputs:
        if item == STDIO:
            sources.append((None, Path()))
        elif Path(item).is_dir():
            found = list(find(Path(item)))
            if not found:
                raise ImageError(f"expected {what}, found none in this folder", where=item)
            sources.extend((path, path.relative_to(item).parent) for path in found)
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


def peek(count: int) -> bytes:
    """The first bytes of stdin, which stay there."""
    if sys.stdin is None:
        return b""
    stdin: Any = sys.stdin.buffer
    return bytes(stdin.peek(count)[:count])


def refuse_terminal(tasks: list[Task], force: bool) -> None:
    """Binary data is not written to a terminal unless it is forced."""
    to_stdout = sys.stdout is not None and any(task.target is None for task in tasks)
    if to_stdout and sys.stdout.isatty() and not force:
        raise OutputError("stdout is a terminal", advice="name a file with -o, or use --force")


class Talk:
    """Messages on stderr; errors are counted, and any makes the exit code 1."""

    def __init__(self, quiet: bool, verbose: bool) -> None:
        self.quiet = quiet
        self.verbose = verbose
        self.errors = 0

    def say(self, text: str) -> None:
        if not self.quiet:
            click.echo(text, err=True)

    def detail(self, text: str) -> None:
        if self.verbose:
            self.say(text)

    def warning(self, text: str) -> None:
        self.say(f"cvae: warning: {text}")

    def error(self, error: CvaeError) -> None:
        self.errors += 1
        click.echo(f"cvae: error: {error}", err=True)

    def bar(self, length: int) -> Any:
        """A progress bar on a terminal for long work, invisible elsewhere."""
        hidden = self.quiet or self.verbose or length <= BATCH or not sys.stderr.isatty()
        return click.progressbar(length=length, file=sys.stderr, hidden=hidden)

    @contextmanager
    def counting(self, what: str) -> Iterator[Callable[[int], None]]:
        """A count on a terminal, for work of which nobody knows how long it is."""
        total, shown = 0, not self.quiet and not self.verbose and sys.stderr.isatty()

        def count(more: int) -> None:
            nonlocal total
            total += more
            if shown:
                click.echo(f"\r{total:,} {what} ", nl=False, err=True)

        try:
            yield count
        finally:
            if shown and total:
                click.echo("\r\x1b[K", nl=False, err=True)

    def watch(self, lots: list[list[str]]) -> Iterator[list[str]]:
        """The lots of a folder's files; a bar moves on as they are read."""
        with self.bar(sum(map(len, lots))) as bar:
            for lot in lots:
                yield lot
                bar.update(len(lot))

    def skipped(self, folder: object, reasons: list[str], where: str = "") -> None:
        """Names the first files of a folder that were left out, each with the reason."""
        from cvae.data.folders import printable

        if not reasons:
            return
        self.warning(f"{folder}: {counted(len(reasons), 'file')} left out")
        for reason in reasons[:_NAMED]:
            self.say(f"  {printable(reason)}")
        if len(reasons) > _NAMED:
            self.say(f"  and {len(reasons) - _NAMED:,} more{where}")


MODELS_ADVICE = "`cvae models` lists what other models (-m) code"
FIT_ADVICE = f"{MODELS_ADVICE}, --fit converts and resizes it"

# So many files are read before they go through the networks together.
BATCH = 256


def batches(tasks: list[Task], talk: Talk) -> Iterator[list[Task]]:
    """The tasks in batches; a bar moves on as they are done."""
    with talk.bar(len(tasks)) as bar:
        for start in range(0, len(tasks), BATCH):
            batch = tasks[start : start + BATCH]
            yield batch
            bar.update(len(batch))
