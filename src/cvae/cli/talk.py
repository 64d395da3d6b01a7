"""Everything that commands say: errors, warnings, counts and progress on stderr, tables on stdout."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from cvae.cli.skipped import Failures, Listing
from cvae.errors import (
    Changed,
    CvaeError,
    DataError,
    ImageError,
    ImageShapeError,
    Notice,
    Passed,
    PassedOver,
    at,
)

BATCH = 256  # files that go through the networks together; less work has no progress bar
MODELS_ADVICE = "-m photo takes images of any size, `cvae models` lists the others"
NO_MEMORY = "needs more memory than there is"
ONE_SIZE_ADVICE = "--fit converts and resizes it (--background: the colour behind it)"
FIT_ADVICE = f"{MODELS_ADVICE}; {ONE_SIZE_ADVICE}"

SKIP_EXISTING = "skip_existing"  # the name of this option
NAMES_OUTPUT = "cvae.output"  # in the meta of click's context where a command has -o

_NAMED = 10  # skipped files that are named
_EXAMPLES = 3  # of images that were changed
_CLEAR = "\r\x1b[K"


def echo(text: str, *, err: bool = False) -> None:
    """One line, in which no name or message moves a terminal's cursor or ends the line."""
    click.echo(harmless(text), err=err)


def echo_cells(cells: Iterable[str]) -> None:
    """A line on stdout with a tab between two cells, which have none of their own."""
    click.echo("\t".join(map(harmless, cells)))


def echo_json(values: object) -> None:
    """Values as JSON on stdout."""
    import json

    click.echo(json.dumps(values, indent=2).replace("\x7f", "\\u007f"))  # all other signs are ASCII


def harmless(text: str) -> str:
    """The text with control characters escaped."""
    if text.isprintable():
        return text
    from cvae.data.names import printable

    return printable(text)


@contextmanager
def enough_memory() -> Iterator[None]:
    """Raises CvaeError when the block needs more memory than there is."""
    try:
        yield
    except MemoryError as error:
        raise CvaeError(NO_MEMORY) from error


def _as_options(advice: str) -> str:
    """What a library advises, in the words of commands: `max_pixels=N` is --max-pixels N."""
    context = click.get_current_context(silent=True)
    if context is not None and context.meta.get(NAMES_OUTPUT):
        advice = advice.replace("another name keeps it", "-o elsewhere keeps it")
        if any(parameter.name == SKIP_EXISTING for parameter in context.command.params):
            advice = advice.replace("-o elsewhere", "--skip-existing or -o elsewhere")
    found = re.sub(r"\b([a-z_]+)=True\b", r"--\1", advice)
    found = re.sub(r"\b([a-z_]+)=([A-Z]+)\b", r"--\1 \2", found)
    return re.sub(r"--[a-z_]+", lambda option: option[0].replace("_", "-"), found)


def counted(number: int, noun: str) -> str:
    """`1 image`, `1,000 images`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


class _Change:
    """Of how many images something was lost or converted, and the first of their names."""

    def __init__(self) -> None:
        self.images, self.names, self.more = 0, list[str](), False

    def add(self, name: str, images: int) -> None:
        self.images += images
        if name not in self.names:
            self.more = len(self.names) == _EXAMPLES
            self.names += [] if self.more else [name]

    def said(self, change: str) -> str:
        names = ", ".join(self.names) + (", ..." if self.more else "")
        if self.images > 1:
            return f"{counted(self.images, 'image')}: {change}: {names}"
        return f"{names}: {change}"


class Talk:
    """Messages on stderr. Errors are counted, and any makes the exit code 1."""

    def __init__(
        self, quiet: bool = False, verbose: bool = False, advice: str | Callable[[], str] = "",
        listing: Listing | None = None,
    ) -> None:  # fmt: skip
        """`advice` is what helps in this command where an image is of another shape than the model's.

        What is skipped goes to `listing`, too.
        """
        self.quiet, self.verbose, self.advice = quiet, verbose, advice
        self.errors, self.existing = 0, 0  # inputs that failed, and whose results were there
        self.listing, self._failures, self._poor = listing, Failures(), Failures()
        self._changes: dict[str, _Change] = {}  # by what was lost or converted
        self._passed = Passed()
        self._bar: Any = None  # of the work under way, where it can be shown
        self._status = False  # whether the cursor stands behind a status

    def say(self, text: str) -> None:
        if not self.quiet:
            self._line(text)

    def detail(self, text: str) -> None:
        if self.verbose:
            self.say(text)

    def warning(self, text: str) -> None:
        self.say(f"cvae: warning: {text}")

    def changed(self, name: str, change: str, images: int = 1) -> None:
        """Keeps what of an image was lost or converted, or of so many, to be said once for all."""
        self._changes.setdefault(change, _Change()).add(name, images)

    def poor(self, name: str, text: str, advice: str = "") -> None:
        """Keeps how badly an image comes back, to be said once for all that do; at once if verbose."""
        found = ImageError(text, where=name, advice=advice)
        if self.verbose:
            self.warning(str(found))
        else:
            self._poor.add(found, alike=True)

    def exists(self, name: str, result: str) -> None:
        """Counts an input that need not be done, as its result is there."""
        self.existing += 1
        self.detail(f"{name}: {result} exists already")
        self._list(name, f"{result} exists already")

    def say_failures(self) -> None:
        """Says the errors that waited."""
        for line in self._failures.lines():
            self._line(f"cvae: error: {line}")

    def say_changes(self) -> None:
        """Says what `poor` and `changed` were given."""
        for line in self._poor.lines():
            self.warning(line)
        for change, found in self._changes.items():
            self.warning(found.said(change))
        self._changes.clear()

    def error(self, error: CvaeError) -> None:
        """Counts an error, and says it at the end, once for all inputs that fail alike; at once if verbose.

        A notice is no error; those that many images share wait for the end, too.
        """
        if isinstance(error, PassedOver):
            self._passed.add(error)
            self._list(error.where, f"is no {error.text}")
            return
        if isinstance(error, Changed):
            self.changed(error.where, error.text, error.images)
            return
        if isinstance(error, Notice):
            self.warning(str(error))
            return
        self.errors += 1
        if isinstance(error, ImageShapeError) and not error.advice:
            error.advice = self.advice() if callable(self.advice) else self.advice
        error.advice = _as_options(error.advice)
        self._list(error.where, error.text)
        self._tell(error)

    def _tell(self, error: CvaeError) -> None:
        if self.verbose or not error.where:
            self._line(f"cvae: error: {error}")
        else:
            # Each image may have a size of its own.
            self._failures.add(error, alike=isinstance(error, ImageShapeError))

    def lacking(self, what: str, noun: str, names: list[str], where: str) -> None:
        """Counts one error of several names that lack something, and lists each of them."""
        from cvae.evaluation.coded import first_of

        self.errors += 1
        for name in names:
            self._list(name, f"{where}: {what} it")
        text = f"{what} {counted(len(names), noun)}: {first_of(names)}"
        self._tell(DataError(text, where=where))

    def raising(self, error: CvaeError) -> None:
        """As `error`, where the input is but one: raises its error, which ends the command."""
        if not isinstance(error, Notice):
            raise error
        self.error(error)

    @contextmanager
    def trying(self, place: object) -> Iterator[None]:
        """Says a CvaeError in the block and goes on after it: a bad file costs itself alone."""
        try:
            with at(place), enough_memory():
                yield
        except CvaeError as error:
            self.error(error)

    def end(self, code: int = 1) -> None:
        """Says what failed, changed and was passed over; ends the command with the code after errors."""
        self.say_failures()
        self.say_changes()
        for line in self._passed.lines():
            self.warning(line)
        if self.listing:
            self.listing.write()
        if self.errors:
            raise click.exceptions.Exit(code)

    def finish(self, files: int, done: str) -> None:
        """Says how many of several files had no error, and ends the command."""
        self.say_failures()
        self.say_changes()
        if files > 1 or self.existing:
            there = f"; {self.existing:,} skipped, as their results exist" if self.existing else ""
            number = files - self.errors - self.existing
            self.say(f"{number:,} of {files:,} {done}{there}")
        self.end()

    def bar(self, length: int) -> Any:
        """A progress bar on a terminal for long work, invisible elsewhere.

        That of less work is shown when `slow` is told of it.
        """
        shown = not self.quiet and not self.verbose and length > 1 and _on_terminal()
        hidden = not shown or length <= BATCH
        bar = click.progressbar(length=length, file=sys.stderr, hidden=hidden)
        self._bar = bar if shown else None
        return bar

    def slow(self, done: int = 0) -> None:
        """Shows the bar of work of which each part takes long, as pictures of any size do, so many done."""
        if self._bar is not None:
            self._bar.hidden = False
            self._bar.update(done)
            self._bar.render_progress()

    @contextmanager
    def progress(
        self, count: Callable[[], int | None], noun: str
    ) -> Iterator[Callable[[int], None]]:
        """A function that is told of so many more, and shows all with the time that is left.

        `count` says how many there will be; where it does not know, there is a count alone.
        """
        shown = not self.quiet and not self.verbose and _on_terminal()
        if shown and (total := count()):
            with click.progressbar(length=total, file=sys.stderr, show_pos=True) as bar:
                yield bar.update
            return
        done = 0
        with self.status() as show:

            def more(number: int) -> None:
                nonlocal done
                done += number
                show(f"{counted(done, noun)} ")

            yield more

    @contextmanager
    def status(self) -> Iterator[Callable[[str], None]]:
        """A function that shows a text on a terminal, in one line that is written over."""
        shown = not self.quiet and _on_terminal()

        def show(text: str) -> None:
            if shown:
                click.echo(f"{_CLEAR}{harmless(text)[:78]}", nl=False, err=True)
                self._status = bool(text)

        try:
            yield show
        finally:
            show("")

    def watch(self, lots: list[list[str]]) -> Iterator[list[str]]:
        """The lots of a folder's files; a progress bar follows them."""
        with self.bar(sum(map(len, lots))) as bar:
            for lot in lots:
                yield lot
                bar.update(len(lot))

    def skipped(self, folder: object, reasons: list[str], where: str = "") -> None:
        """Names the files of a folder that were skipped, each with the reason; of many, one of each kind."""
        if not reasons:
            return
        for reason in reasons:
            name, _, why = reason.partition(": ")
            self._list(name, why)
        self.warning(f"{folder}: {counted(len(reasons), 'file')} skipped")
        if len(reasons) <= _NAMED:
            for reason in reasons:
                self.say(f"  {reason}")
            return
        kinds: dict[str, list[str]] = {}  # without what was found, which differs
        for reason in reasons:
            name, _, why = reason.partition(": ")
            kinds.setdefault(why.partition(", found")[0], []).append(name)
        for why, names in sorted(kinds.items(), key=lambda kind: -len(kind[1]))[:_NAMED]:
            self.say(f"  {len(names):,}: {why}, such as {names[0]}")
        if where:
            self.say(f"  all of them{where}")

    def _list(self, name: str, reason: str) -> None:
        if self.listing:
            self.listing.add(name, reason)

    def _line(self, text: str) -> None:
        if self._status:
            click.echo(_CLEAR, nl=False, err=True)
            self._status = False
        echo(text, err=True)


def _on_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()
