"""Labels of images: JSON values by the names of their fields, which say where they come from. docs/format.md.

A pack holds them as text; here is how they come from files and arrays, and become such again.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cvae import records
from cvae.errors import FormatError

Label = dict[str, Any]  # what an image is labelled with; empty where it is not

MAX_LABEL = 4096  # bytes of text of an image
MAX_VALUES = 128  # of a row of an array
_MAX_FIELDS = 16
CLS, JSON, FOLDER = "cls", "json", "folder"
ENDINGS = {".cls": CLS, ".json": JSON}
_INTEGERS = {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
_DTYPES = {"bool", *_INTEGERS}
_ARRAY = re.compile(
    r"(y(?:_[A-Za-z0-9_]{1,60})?):([a-z0-9]{1,6})(?::([0-9]{1,4}(?:,[0-9]{1,4}){0,2}))?"
)
_DIGITS = 20  # of an integer in a file


class Array(NamedTuple):
    """The array that a field comes from."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]  # of a row

    @property
    def field(self) -> str:
        """The name of the field."""
        shape = ":" + ",".join(map(str, self.shape)) if self.shape else ""
        return f"{self.name}:{self.dtype.name}{shape}"


def array_of(field: str) -> Array | None:
    """The array that a field is named after; None for another field."""
    found = _ARRAY.fullmatch(field)
    if not found or found[2] not in _DTYPES:
        return None
    shape = tuple(map(int, found[3].split(","))) if found[3] else ()
    return Array(found[1], np.dtype(found[2]), shape) if math.prod(shape) <= MAX_VALUES else None


def array_field(name: str, dtype: np.dtype, shape: Sequence[int]) -> str | None:
    """The name of the field of an array with such rows; None where it cannot hold labels."""
    field = Array(name, dtype, tuple(shape)).field
    return field if array_of(field) else None


def from_file(ending: str, data: bytes) -> Label:
    """What a file beside an image says. Raises ValueError."""
    if len(data) > MAX_LABEL:
        raise ValueError(f"expected at most {MAX_LABEL:,} bytes, found more")
    text = data.decode()
    if ENDINGS[ending] == JSON:
        return _fitting({JSON: records.value(text)})
    number = text.strip()
    if len(number) > _DIGITS or not re.fullmatch(r"[+-]?[0-9]+", number):
        raise ValueError("expected an integer")
    return {CLS: int(number)}


def _fitting(label: Label) -> Label:
    if len(_line([*label], label)) > MAX_LABEL:
        raise ValueError(f"expected at most {MAX_LABEL:,} bytes, found more")
    return label


def of_folder(name: str) -> Label:
    """The folder that an image file lies in, by its name."""
    *_, folder, _ = ("", *name.split("/"))
    return {FOLDER: folder} if folder else {}


def from_value(value: Any) -> Label:
    """A label that a caller of the API gives. Raises ValueError when it is no JSON, or too large."""
    if value is None:
        return {}
    value = value.item() if isinstance(value, np.generic) else value
    text = json.dumps(value)  # a TypeError of what is no JSON
    value = records.value(text)
    return _fitting({CLS if type(value) is int else JSON: value})


def to_files(label: Label) -> list[tuple[str, bytes]]:
    """Endings and bytes of the files that hold a label beside an image; folders are in its name."""
    found = list[tuple[str, bytes]]()
    for field, value in label.items():
        ending = f".{field}" if field in (CLS, JSON) else ".cls" if type(value) is int else ".json"
        if field != FOLDER and ending not in dict(found):
            found.append((ending, json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")))
    return found


def as_shown(label: Label) -> str:
    """A label as one text: JSON, but a text alone as it is."""
    if len(label) != 1:
        return json.dumps(label, ensure_ascii=False) if label else ""
    (value,) = label.values()
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def fields_of(labels: Iterable[Label]) -> list[str]:
    """The names of all fields, in order of their first images."""
    return list({field: None for label in labels for field in label})


def stacked(field: str, values: Sequence[Any]) -> NDArray[Any] | None:
    """One array of a field's values; None where some are missing, or it is no field of integers or texts.

    Raises FormatError when they are not what the field's name says.
    """
    if None in values or field == JSON:
        return None
    if field == FOLDER:
        return np.array([str(value) for value in values])
    array = array_of(field) or Array(CLS, np.dtype(np.int64), ())
    try:
        found = np.array(values, object if not array.shape else None)
        wanted = np.array(values, array.dtype).reshape(len(values), *array.shape)
        if found.shape != wanted.shape or not np.array_equal(found, wanted):
            raise ValueError("other values")
    except (ValueError, TypeError, OverflowError) as error:
        raise FormatError(f"labels that are no {array.field}: {error}") from None
    return wanted


class Stacks:
    """Gathers the arrays of all fields, batch by batch."""

    def __init__(self) -> None:
        self._images = 0
        self._parts: dict[str, list[NDArray[Any]] | None] = {}  # None of a field that is no array

    def add(self, labels: Sequence[Label], images: int) -> None:
        """The next images, and their labels where they have some. Raises as `stacked` does."""
        for field in fields_of(labels):
            self._parts.setdefault(field, None if self._images else [])
        for field, parts in self._parts.items():
            part = stacked(field, [label.get(field) for label in labels]) if labels else None
            if parts is None or part is None:
                self._parts[field] = None
            else:
                parts.append(part)
        self._images += images

    def arrays(self) -> Iterator[tuple[str, NDArray[Any] | None]]:
        """The name of each array, and the array; the field and None where it cannot be one."""
        for field, parts in self._parts.items():
            array = array_of(field)
            name = array.name if array else f"y_{field}"
            yield (field, None) if parts is None else (name, np.concatenate(parts))


def together(labels: Sequence[Label]) -> Any:
    """The labels of all images, as `Pack.labels` gives them. Raises as `stacked` does."""
    fields = fields_of(labels)
    if len(fields) == 1 and array_of(fields[0]):
        found = stacked(fields[0], [label.get(fields[0]) for label in labels])
        if found is not None:
            return found
    if any(len(label) > 1 for label in labels):
        return list(labels)
    values = [next(iter(label.values()), None) for label in labels]
    return _as_array(values)


def _as_array(values: list[Any]) -> Any:
    """Integers alone, and texts alone, as an array; all else as it is."""
    kinds = set(map(type, values))
    if kinds == {int}:
        with suppress(OverflowError):  # it stays a list of larger ones
            return np.array(values, np.int64)
    # Of objects: an array of texts would give each the room of the longest.
    return np.array(values, object) if kinds == {str} else values


def to_text(labels: Sequence[Label]) -> bytes:
    """The lines of a block."""
    fields = fields_of(labels)
    lines = ["\t".join(fields), *(_line(fields, label) for label in labels)]
    return "".join(f"{line}\n" for line in lines).encode()


def _line(fields: Iterable[str], label: Label) -> str:
    values = (
        json.dumps(label[name], separators=(",", ":")) if name in label else "" for name in fields
    )
    return "\t".join(values)


def from_text(data: bytes, images: int) -> list[Label]:
    """One label for each image. Raises FormatError when the lines are damaged."""
    count = data.count(b"\n")
    if count != images + 1 or not data.endswith(b"\n"):
        raise FormatError(f"expected {images} labels, found {count - 1}")
    try:
        first, *lines = data.decode().split("\n")[:-1]
        fields = _checked(first)
        known: dict[str, Any] = {}
        return [_label(fields, line, known) for line in lines]
    except UnicodeDecodeError as error:
        raise FormatError("its labels are not UTF-8") from error
    except ValueError as error:
        raise FormatError(f"its labels are damaged: {error}") from error


def fields_in(data: bytes) -> list[str]:
    """The fields of a block's lines, of which only the first is read. Raises FormatError."""
    try:
        return _checked(data.partition(b"\n")[0].decode())
    except ValueError as error:
        raise FormatError(f"its labels are damaged: {error}") from error


def said(fields: Iterable[str]) -> str:
    """What messages call labels of these fields."""
    return f"labels {', '.join(found)}" if (found := sorted(fields)) else "no labels"


def _checked(line: str) -> list[str]:
    """The fields that the first line of a block names. Raises ValueError."""
    fields = line.split("\t") if line else []
    if len(fields) > _MAX_FIELDS or len(set(fields)) != len(fields):
        raise ValueError(f"expected at most {_MAX_FIELDS} different fields, found {len(fields)}")
    for field in fields:
        if field not in (CLS, JSON, FOLDER) and array_of(field) is None:
            raise ValueError(f"expected cls, json, folder or y_NAME:DTYPE, found {field!r:.80}")
    return fields


def _label(fields: list[str], line: str, known: dict[str, Any]) -> Label:
    """The label of a line. `known` has texts that occurred before: most are few numbers."""
    texts = line.split("\t") if fields else []
    if len(texts) != len(fields) or (line and not fields):
        raise ValueError(f"expected {len(fields)} values of an image, found {len(texts)}")
    return {field: _value(text, known) for field, text in zip(fields, texts, strict=True) if text}


def _value(text: str, known: dict[str, Any]) -> Any:
    if text in known:
        return known[text]
    value = records.value(text)
    if not isinstance(value, dict | list):  # which callers may change
        known[text] = value
    return value


def stem(name: str) -> str:
    """What files of one image share of their names."""
    return os.path.splitext(name)[0]  # noqa: PTH122 - of a million names
