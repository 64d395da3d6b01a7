"""The errors a caller can meet. Each has a text, the place where it happened, and advice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class CvaeError(Exception):
    """Base class of every error this package raises on purpose; all of them can be pickled.

    Attributes:
        text: what was expected and what was found.
        where: the file, folder or URL; empty where only a caller knows it, see `at`.
        advice: what helps, or nothing.
    """

    def __init__(self, text: str, *, where: object = "", advice: str = "") -> None:
        super().__init__(text)
        self.text, self.where, self.advice = text, str(where), advice

    def __str__(self) -> str:
        """`where: text; advice`, in one line."""
        where = f"{self.where}: " if self.where else ""
        return f"{where}{self.text}{f'; {self.advice}' if self.advice else ''}"


class Notice(CvaeError):  # noqa: N818 - it is none
    """Something was left out, and nothing is wrong: it goes where errors go, and is never raised."""


class Changed(Notice):
    """Something of images was lost or converted; `text` says what, `where` names them."""

    def __init__(self, text: str, *, where: object = "", advice: str = "", images: int = 1) -> None:
        super().__init__(text, where=where, advice=advice)
        self.images = images  # how many of those that `where` names


class PassedOver(Notice):
    """A file of a folder or an archive is none of those that are looked for; `text` says which."""

    def of(self, count: int) -> str:
        """What is said of so many files."""
        files = (
            f"file that is no {self.text} was"
            if count == 1
            else f"files that are no {self.text}s were"
        )
        return f"{count:,} {files} passed over"


class NotBeside(PassedOver):
    """The file of a label does not lie next to an image of its name in an archive."""

    def of(self, count: int) -> str:
        files, them = ("file was", "it") if count == 1 else ("files were", "them")
        why = f"as no image of the same name lies next to {them} in the archive"
        return f"{count:,} label {files} not kept, {why}"


class ImageError(CvaeError):
    """An image cannot be read, or is not what the model codes."""


class ImageShapeError(ImageError):
    """An image is whole, and of another size or mode than the model's."""


class FormatError(CvaeError):
    """Bytes are not a container of this codec, or a container is damaged."""


class UnsupportedError(FormatError):
    """A container or a pack seems whole, and is of a later version than this cvae reads."""


class ModelError(CvaeError):
    """A model file is damaged, or of an unknown version."""


class ModelNotFoundError(ModelError):
    """No model has a name or an id, or several have it."""


class ModelKindError(ModelError):
    """A model is whole and not for the task: a denoiser does not code, few codecs denoise."""


class ImageIndexError(CvaeError, IndexError):
    """A pack has no image of such a number."""


class DataError(CvaeError):
    """A data set cannot be read or downloaded."""


class TargetError(CvaeError):
    """No quality gives a file as small, or a picture as good, as asked for."""


class OutputError(CvaeError):
    """A file exists already, or cannot be written."""


class StorageError(CvaeError):
    """A file or folder, here or at a URL, cannot be reached, whatever it holds."""


class ClusterError(CvaeError):
    """A scheduler does not answer, or workers fail for reasons other than their images."""


class TrainingError(CvaeError):
    """A training run cannot be started, resumed or exported."""


class MissingExtraError(CvaeError):
    """An optional package is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"{package} is not installed",
            advice=f"pip install 'cvae[{extra}]' (in a checkout: pip install '.[{extra}]') brings it",
        )
        self.args = (package, extra)  # what pickle calls it with


# Called with every input that is skipped, from any thread, and with notices; None raises at the first.
Refuse = Callable[[CvaeError], None] | None


def told(refuse: Refuse) -> Callable[[CvaeError], None]:
    """`refuse`; where it is None, a function that raises errors and drops notices."""

    def strict(error: CvaeError) -> None:
        if not isinstance(error, Notice):
            raise error

    return refuse or strict


class Passed:
    """Counts files that were passed over, and keeps the names of the first."""

    _NAMED = 3

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], tuple[PassedOver, list[str]]] = {}
        self._counts = Counter[tuple[str, str]]()

    def add(self, notice: PassedOver) -> None:
        kind = notice.text, notice.advice
        self._counts[kind] += 1
        _, names = self._found.setdefault(kind, (notice, []))
        if len(names) < self._NAMED:
            names.append(notice.where)

    def lines(self) -> Iterator[str]:
        """`3 files that are no images were passed over: notes.txt, ...`, a line a kind; empties it."""
        for kind, (notice, names) in self._found.items():
            more = ", ..." if self._counts[kind] > len(names) else ""
            advice = f"; {notice.advice}" if notice.advice else ""
            yield f"{notice.of(self._counts[kind])}: {', '.join(names)}{more}{advice}"
        self._found.clear()
        self._counts.clear()


@contextmanager
def at(place: object, advice: str = "") -> Iterator[None]:
    """Fills in where a CvaeError of the block happened, and advice, if it lacks them.

    A missing package happens nowhere.
    """
    try:
        yield
    except CvaeError as error:
        if not isinstance(error, MissingExtraError):
            error.where = error.where or str(place)
            error.advice = error.advice or advice
        raise


@contextmanager
def translated(
    kind: type[CvaeError],
    text: str,
    place: object,
    caught: type[Exception] | tuple[type[Exception], ...] = OSError,
) -> Iterator[None]:
    """Raises what is `caught` in the block as `kind`: `PLACE: TEXT: No such file or directory`."""
    try:
        yield
    except caught as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise kind(f"{text}: {reason}", where=place) from error


def first_line(error: BaseException) -> str:
    """What another package's error says, in one line; its kind if it says nothing."""
    return str(error).strip().split("\n")[0][:300] or type(error).__name__
