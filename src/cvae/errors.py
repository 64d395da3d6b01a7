"""The errors a caller can meet. Each has a text, the place where it happened, and advice."""

from __future__ import annotations

from collections.abc import Iterator
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
