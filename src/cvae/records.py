"""JSON <-> checked frozen dataclasses: one reader for every manifest and note.

A field's annotation says what its value must be. `Annotated` adds what a type cannot say:

    @dataclass(frozen=True)
    class Note:
        file: Annotated[str, matching("part-[0-9]{5}")]
        images: Annotated[int, within(0, 1 << 48)]
        messages: tuple[str, ...] = ()

    read(Note, parse(b'{"file": "part-00000", "images": 7}'))

What is wrong raises ValueError: `images: expected 0 to 281474976710656, found -1`.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache, partial, reduce
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
FLAT = object()  # `Annotated[Tally, FLAT]`: the fields of the inner record lie among the outer's

_NAMES = {
    int: "an integer", str: "text", bool: "true or false", NoneType: "null", dict: "an object",
}  # fmt: skip

Record = TypeVar("Record")
_Read = Callable[[Any], Any]


@dataclass(frozen=True)
class Check:
    """What a value must be beyond its type."""

    expected: str  # as a message says it
    holds: Callable[[Any], object]


PRINTABLE = Check("printable text", str.isprintable)


def within(low: float, high: float) -> Check:
    """Numbers from `low` to `high`, both included."""
    return Check(f"{low} to {high}", lambda value: low <= value <= high)


def matching(pattern: str) -> Check:
    """Texts that a regular expression matches as a whole."""
    return Check(f"text like {pattern}", re.compile(pattern).fullmatch)


def parse(data: bytes | str) -> dict[str, Any]:
    """A JSON object. Raises ValueError for other JSON, deep nesting and numbers that are not finite."""
    try:
        values = json.loads(data, parse_float=_finite, parse_constant=_finite)
        _check_depth([values], MAX_DEPTH)
    except RecursionError:
        raise ValueError(f"expected at most {MAX_DEPTH} levels of lists and objects") from None
    return _read_object(values)  # type: ignore[no-any-return]


def dump(values: dict[str, Any], indent: int = 1) -> bytes:
    """Values as the bytes of a JSON file."""
    return (json.dumps(values, indent=indent) + "\n").encode()


def check_format(values: dict[str, Any], known: int) -> None:
    """Raises ValueError when a file is not of the format `known` here."""
    found = values.get("format")
    if type(found) is not int or found != known:
        later = "; a later cvae wrote it" if type(found) is int and found > known else ""
        raise ValueError(f"expected format {known}, found {found!r:.80}{later}")


def read(
    kind: type[Record], values: object, *, complete: bool = False, strict: bool = False
) -> Record:
    """Reads a dataclass from parsed JSON; lists become the tuples that it declares.

    Args:
        kind: a dataclass. Types it may use: int, float, str, bool, None, Any, Literal, unions, tuple,
            dict with keys of text, dataclasses, and `Annotated` with a `Check`.
        values: an object of JSON. Values that are of a field's class already may be among them.
        complete: fields with a default are required, too; in inner dataclasses as well.
        strict: unknown fields are refused instead of ignored; in inner dataclasses as well.

    Raises:
        ValueError: the values are not such a record's; the message names the field.
    """
    reader: Callable[[object], Record] = _reader(cast(Any, kind), complete, strict)
    return reader(values)


@cache
def _reader(kind: Any, complete: bool, strict: bool) -> _Read:
    """A function that checks a value of one type, and gives it as Python has it."""
    inner = partial(_reader, complete=complete, strict=strict)
    origin, args = get_origin(kind), get_args(kind)
    if kind is Any:
        return lambda value: value
    if origin is Annotated:
        checks = (item for item in args[1:] if isinstance(item, Check))
        return reduce(_checked, checks, inner(args[0]))
    if origin is Literal:
        return partial(_one_of, args)
    if origin in (Union, UnionType):
        return partial(_union, kind, tuple(map(inner, args)))
    if origin is tuple and args[1:] == (...,):
        return partial(_list, inner(args[0]))
    if origin is tuple:
        return partial(_fixed, tuple(map(inner, args)))
    if origin is dict:
        return partial(_dict, *map(inner, args))
    if is_dataclass(kind):
        return _record_reader(kind, inner, complete, strict)
    return _plain(kind)


def _record_reader(kind: Any, inner: Callable[[Any], _Read], complete: bool, strict: bool) -> _Read:
    hints = get_type_hints(kind, include_extras=True)
    known = []
    for field in fields(kind):
        hint = hints[field.name]
        default = field.default is not MISSING or field.default_factory is not MISSING
        known.append((field.name, inner(hint), default and not complete, FLAT in get_args(hint)))
    names = {name for name, *_ in known}

    def read_record(values: Any) -> Any:
        if isinstance(values, kind):
            return values
        _read_object(values)
        if strict and not values.keys() <= names:
            raise ValueError(f"unknown fields: {', '.join(sorted(values.keys() - names)):.80}")
        found = {}
        for name, read_field, default, flat in known:
            if flat and name not in values:
                found[name] = read_field(values)
            elif name in values:
                try:
                    found[name] = read_field(values[name])
                except ValueError as error:
                    raise ValueError(f"{name}: {error}") from None
            elif not default:
                raise ValueError(f"expected a field {name}, found none")
        return kind(**found)

    return read_record


def _checked(read_value: _Read | None, check: Check) -> _Read:
    holds = check.holds

    def read_checked(value: Any) -> Any:
        if read_value:
            value = read_value(value)
        if holds(value):
            return value
        raise _unlike(check.expected, value)

    return read_checked


def _plain(kind: type) -> _Read:
    if kind is float:  # NaN compares false with everything; some integers are beyond floats
        limit = sys.float_info.max
        check = Check("a number", lambda v: type(v) in (float, int) and -limit <= v <= limit)
    elif kind in _NAMES:  # isinstance takes true for an integer
        check = Check(_NAMES[kind], lambda v: type(v) is kind)
    else:
        check = Check(kind.__name__, lambda v: isinstance(v, kind))
    return _checked(None, check)


_read_object = _plain(dict)


def _one_of(choices: tuple[Any, ...], value: Any) -> Any:
    if any(type(value) is type(choice) and value == choice for choice in choices):
        return value
    raise _unlike(" or ".join(map(str, choices)), value)


def _union(kind: Any, readers: tuple[_Read, ...], value: Any) -> Any:
    for read_value in readers:
        with suppress(ValueError):
            return read_value(value)
    raise _unlike(str(kind), value)


def _list(read_item: _Read, value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise _unlike("a list", value)
    return tuple(map(read_item, value))


def _fixed(readers: tuple[_Read, ...], value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple) or len(value) != len(readers):
        raise _unlike(f"a list of {len(readers)}", value)
    return tuple(read_item(item) for read_item, item in zip(readers, value, strict=True))


def _dict(read_key: _Read, read_value: _Read, value: Any) -> dict[str, Any]:
    return {read_key(key): read_value(item) for key, item in _read_object(value).items()}


def _unlike(expected: str, found: object) -> ValueError:
    return ValueError(f"expected {expected}, found {found!r:.80}")


def _finite(text: str) -> float:
    if math.isfinite(number := float(text)):
        return number
    raise _unlike("finite numbers", text)


def _check_depth(value: Any, left: int) -> None:
    if not left:
        raise RecursionError
    for item in value.values() if type(value) is dict else value:
        if type(item) is dict or type(item) is list:
            _check_depth(item, left - 1)
