"""What callers of the API give, checked: a wrong value is a CvaeError that says what was expected."""

from __future__ import annotations

from operator import index

from cvae.errors import CvaeError

_MAX_THREADS = 1024


def expect(
    value: object, kind: type | tuple[type, ...], expected: str, error: type[CvaeError] = CvaeError
) -> None:
    """Raises `error` when what a caller gives is of none of these types."""
    if not isinstance(value, kind):
        raise error(f"expected {expected}, found {shown(value)}")


def whole(value: object, expected: str, least: int = 1, most: int | None = None) -> int:
    """A whole number that a caller gives, of Python or numpy. Raises CvaeError when it is none."""
    try:
        number = index(value)  # type: ignore[arg-type]
    except TypeError:
        number = least - 1
    if number < least or (most is not None and number > most):
        raise CvaeError(f"expected {expected}, found {shown(value)}")
    return number


def threads_of(threads: object) -> int | None:
    """How many threads a caller asks for; None leaves it open. Raises CvaeError."""
    return None if threads is None else whole(threads, "1 to 1,024 threads", 1, _MAX_THREADS)


def truth(value: object, name: str) -> bool:
    """A flag that a caller gives. Raises CvaeError for what is neither true nor false, such as an array."""
    try:
        return bool(value)
    except Exception as error:  # of any kind: that is for the object to say
        raise CvaeError(f"expected True or False as {name}, found {shown(value)}") from error


def shown(value: object) -> str:
    """What messages say was found: numbers and texts as they are, of all else the type."""
    if isinstance(value, int) and abs(value) >> 64:
        return "a number out of range"  # Python does not print the largest
    if isinstance(value, str | int | float) or value is None:
        return f"{value!r:.99}"
    return type(value).__name__
