"""Records: JSON that can do no harm; dataclasses check the rest."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvae import records

from .strategies import JSON


@given(st.dictionaries(st.text(), JSON))
def test_what_is_written_is_read_again(values: dict[str, Any]) -> None:
    data = records.dump(values)
    assert records.parse(data) == values
    assert data.endswith(b"}\n")


def test_names_of_files_that_are_not_unicode_survive() -> None:
    values = {"source": b"caf\xe9".decode(errors="surrogateescape")}
    assert records.parse(records.dump(values)) == values


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "Expecting value"),
        (b"\xff\xfe\xff", "decode"),
        (b"3", "expected an object, found 3"),
        (b"[]", r"expected an object, found \[\]"),
        (b'{"a": NaN}', "expected finite numbers, found nan"),
        (b'{"a": [-Infinity]}', "expected finite numbers, found -inf"),
        (b'{"a": 1e999}', "expected finite numbers, found inf"),
        (b'{"a": ' + b"[" * 40 + b"]" * 40 + b"}", "at most 32 levels"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "at most 32 levels"),
        (b"[" * 100_000, "at most 32 levels"),
        (b'{"a": ' + b"9" * 5000 + b"}", "digits"),
    ],
)
def test_json_that_could_do_harm_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        records.parse(data)


def test_the_deepest_json_is_read() -> None:
    data = b'{"a": ' + b"[" * 30 + b"]" * 30 + b"}"
    assert json.loads(data) == records.parse(data)


@pytest.mark.parametrize("found", [None, "2", 2.0, True, 1, -1])
def test_another_format_is_refused(found: object) -> None:
    records.check_format({"format": 2}, 2)
    with pytest.raises(ValueError, match=r"^expected format 2, found [^;]*$"):
        records.check_format({"format": found}, 2)


def test_a_later_format_is_told_from_damage() -> None:
    with pytest.raises(ValueError, match=r"^expected format 2, found 3; a later cvae wrote it$"):
        records.check_format({"format": 3}, 2)
