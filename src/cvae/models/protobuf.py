"""Messages of protobuf's wire format as hostile input: only known fields, and none twice that stands once.

Parsers merge what stands twice and pass over what they do not know, each in its own way. A message
without either means the same to all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

_VARINT, _BYTES = 0, 2  # wire types
_LONGEST_VARINT = 10
_MOST_REPEATED = 1 << 12  # of one field in a message, which all cost time and memory


class Field(NamedTuple):
    """A field that a message may have, with whole numbers (64 bits, signed) or bytes."""

    name: str
    kind: type[int] | type[bytes]
    repeated: bool = False


Known = Mapping[int, Field]  # by the number of the field


def read(data: memoryview, known: Known) -> dict[str, Any]:
    """The fields by name: a list where a field is repeated, else its value, or None where it is missing.

    Bytes are slices of `data`. Raises ValueError when the message is damaged or has other fields.
    """
    found: dict[str, list[Any]] = {field.name: [] for field in known.values()}
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        field, wire = known.get(key >> 3), key & 7
        value, place = _value(data, place, wire)
        if field is None:
            raise ValueError(f"expected {', '.join(found)} alone, found field {key >> 3}")
        values = found[field.name]
        if isinstance(value, int):
            values += [_signed(value)] if field.kind is int else _refused(field)
        elif field.kind is int:
            values += _packed(value) if field.repeated else _refused(field)
        else:
            values.append(value)
        if len(values) > (_MOST_REPEATED if field.repeated else 1):
            most = f"at most {_MOST_REPEATED:,}" if field.repeated else "one"
            raise ValueError(f"expected {most} {field.name}, found more")
    fields = ((field, found[field.name]) for field in known.values())
    return {
        field.name: values if field.repeated else values[0] if values else None
        for field, values in fields
    }


def field(key: int, value: bytes | memoryview) -> bytes:
    """A field of bytes, as a message holds it."""
    return _as_varint(key << 3 | _BYTES) + _as_varint(len(value)) + bytes(value)


def number(key: int, value: int) -> bytes:
    """A field of a whole number from 0 on."""
    return _as_varint(key << 3 | _VARINT) + _as_varint(value)


def _as_varint(value: int) -> bytes:
    parts = [value >> shift & 0x7F for shift in range(0, max(1, value.bit_length()), 7)]
    return bytes([part | 0x80 for part in parts[:-1]] + parts[-1:])


def _value(data: memoryview, place: int, wire: int) -> tuple[int | memoryview, int]:
    """A number or bytes, and where they end."""
    if wire not in (_VARINT, _BYTES):
        raise ValueError(f"expected whole numbers and bytes, found wire type {wire}")
    number, place = _varint(data, place)
    if wire == _VARINT:
        return number, place
    if number > len(data) - place:
        raise ValueError(f"expected {number:,} more bytes, found {len(data) - place:,}")
    return data[place : place + number], place + number


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    number = 0
    for shift, byte in enumerate(data[place : place + _LONGEST_VARINT]):
        number |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            if number >> 64:
                break
            return number, place + shift + 1
    raise ValueError("expected a number of 64 bits")


def _packed(data: memoryview) -> list[int]:
    numbers, place = [], 0
    if len(data) > _MOST_REPEATED * _LONGEST_VARINT:
        raise ValueError(f"expected at most {_MOST_REPEATED:,} numbers, found more")
    while place < len(data):
        number, place = _varint(data, place)
        numbers.append(_signed(number))
    return numbers


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


def _refused(field: Field) -> list[int]:
    raise ValueError(f"expected {field.name} as {field.kind.__name__}, found another type")
