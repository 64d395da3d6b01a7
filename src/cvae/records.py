"""JSON <-> frozen dataclasses, checked: one reader for every manifest and note.

The annotation of a field says what its value must be; `Annotated` adds what a type cannot say:
`size: Annotated[int, within(0, 99)]`. All errors are ValueError: `size: expected 0 to 99, found 100`.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache, partial
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

MAX_DEPTH = 32  # of lists in lists; far below what Python can walk through
FLAT = object()  # `Annotated[Tally, FLAT]`: the inner record's fields lie among those of the outer

Record = TypeVar("Record")
_Read = Callable[[Any], Any]  # gives a JSON value as Python has it, or raises ValueError


@dataclass(frozen=True)
class Check:
    """What a value must be beyond its type."""

    expected: str  # as a message says it
    holds: Callable[[Any], object]

    def __call__(self, value: Any) -> Any:
        if self.holds(value):
            return value
        raise ValueError(f"expected {self.expected}, found {value!r:.80}")


def within(low: float, high: float) -> Check:
    """Numbers from `low` to `high`, both included."""
    return Check(f"{low} to {high}", lambda value: low <= value <= high)


def matching(pattern: str) -> Check:
    """Texts that a regular expression matches as a whole."""
    return Check(f"text like {pattern}", re.compile(pattern).fullmatch)


PRINTABLE = Check("printable text", str.isprintable)

_MAX_FLOAT = sys.float_info.max
_OBJECT = Check("an object", lambda value: type(value) is dict)
_LIST = Check("a list", lambda value: isinstance(value, list | tuple))
_PLAIN = {  # isinstance takes true for an integer; NaN compares false with everything
    int: Check("an integer", lambda value: type(value) is int),
    float: Check("a number", lambda v: type(v) in (float, int) and -_MAX_FLOAT <= v <= _MAX_FLOAT),
    str: Check("text", lambda value: type(value) is str),
    bool: Check("true or false", lambda value: type(value) is bool),
}


def parse(data: bytes | str) -> dict[str, Any]:
    """A JSON object. Raises ValueError for other JSON, deep nesting and numbers that are not finite."""
    try:
        values = json.loads(data, parse_float=_finite, parse_constant=_finite)
        _check_depth([values], MAX_DEPTH)
    except RecursionError:
        raise ValueError(f"expected at most {MAX_DEPTH} levels of lists and objects") from None
    return cast(dict[str, Any], _OBJECT(values))


def dump(values: dict[str, Any], indent: int = 1) -> bytes:
    """Values as the bytes of a JSON file."""
    return (json.dumps(values, indent=indent) + "\n").encode()


def check_format(values: dict[str, Any], known: int) -> None:
    """Raises ValueError when a file is not of the format that is known here."""
    found = values.get("format")
    if type(found) is not int or found != known:
        later = "; a later cvae wrote it" if type(found) is int and found > known else ""
        raise ValueError(f"expected format {known}, found {found!r:.80}{later}")


def read(
    kind: type[Record], values: object, *, complete: bool = False, strict: bool = False
) -> Record:
    """Reads a dataclass, with the dataclasses in it; lists become the tuples that it declares.

    Args:
        kind: a dataclass of int, float, str, bool, Any, Literal, `X | None`, tuple, dict and dataclasses.
        values: an object of JSON; values that have a field's class already may be among them.
        complete: fields with a default are required, too.
        strict: unknown fields are refused instead of ignored.

    Raises:
        ValueError: a value is missing or wrong; the message names its field.
    """
    return cast(Record, _reader(cast(Any, kind), complete, strict)(values))


@cache
def _reader(kind: Any, complete: bool, strict: bool) -> _Read:
    of = partial(_reader, complete=complete, strict=strict)
    origin, args = get_origin(kind), get_args(kind)
    if kind is Any:
        return lambda value: value
    if origin is Annotated:
        steps = [of(args[0]), *args[1:]]
        checks = [step for step in steps if isinstance(step, Check)]
        return partial(_checked, None if steps[0] in checks else steps[0], checks)
    if origin is Literal:
        known = [(type(arg), arg) for arg in args]
        return Check(" or ".join(map(str, args)), lambda v: (type(v), v) in known)
    if origin in (Union, UnionType):
        (inner,) = (of(arg) for arg in args if arg is not NoneType)
        return lambda value: None if value is None else inner(value)
    if origin is tuple and args[1:] == (...,):
        item = of(args[0])
        return lambda value: tuple(map(item, _LIST(value)))
    if origin is tuple:
        long = Check(f"a list of {len(args)}", lambda value: len(value) == len(args))
        items = tuple(map(of, args))
        return lambda value: tuple(f(v) for f, v in zip(items, long(_LIST(value)), strict=True))
    if origin is dict:
        key, item = map(of, args)
        return lambda value: {key(k): item(v) for k, v in _OBJECT(value).items()}
    if is_dataclass(kind):
        return _record_reader(kind, of, complete, strict)
    return _PLAIN.get(kind) or Check(kind.__name__, lambda value: isinstance(value, kind))


def _record_reader(kind: Any, of: Callable[[Any], _Read], complete: bool, strict: bool) -> _Read:
    hints = get_type_hints(kind, include_extras=True)
    flat = {name for name, hint in hints.items() if FLAT in get_args(hint)}
    readers = {field.name: of(hints[field.name]) for field in fields(kind)}
    needed = {
        field.name
        for field in fields(kind)
        if complete or field.default is field.default_factory is MISSING
    }

    def read_record(values: Any) -> Any:
        if isinstance(values, kind):
            return values
        unknown = _OBJECT(values).keys() - readers.keys()
        if strict and unknown:
            raise ValueError(f"unknown fields: {', '.join(sorted(unknown)):.80}")
        found = {}
        for name, read_field in readers.items():
            if name in flat:
                found[name] = read_field(values)
            elif name in values:
                try:
                    found[name] = read_field(values[name])
                except ValueError as error:
                    raise ValueError(f"{name}: {error}") from None
            elif name in needed:
                raise ValueError(f"expected a field {name}, found none")
        return kind(**found)

    return read_record


def _checked(read_value: _Read | None, checks: list[Check], value: Any) -> Any:
    if read_value:
        value = read_value(value)
    for check in checks:
        if not check.holds(value):  # lists are long, so a check is called only to raise
            check(value)
    return value


def _finite(text: str) -> float:
    if math.isfinite(number := float(text)):
        return number
    raise ValueError(f"expected finite numbers, found {text}")


def _check_depth(value: Any, left: int) -> None:
    if not left:
        raise RecursionError
    for item in value.values() if type(value) is dict else value:
        if type(item) is dict or type(item) is list:
            _check_depth(item, left - 1)
