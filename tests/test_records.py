"""Records: JSON that is checked by the annotations of a dataclass."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvae import records
from cvae.records import FLAT, PRINTABLE, Check, matching, within

Text = Annotated[str, PRINTABLE]


@dataclass(frozen=True)
class Counts:
    good: int = 0
    bad: int = 0


@dataclass(frozen=True)
class Inner:
    weight: float
    label: str = "none"


@dataclass(frozen=True)
class Outer:
    name: Annotated[Text, matching("[a-z ]+")]
    size: Annotated[int, within(0, 99)]
    shape: tuple[int, int, int]
    counts: Annotated[Counts, FLAT]
    parts: tuple[Inner, ...] = ()
    kind: Literal["small", "large"] = "small"
    sides: tuple[Annotated[int, Check("an even number", lambda n: n % 2 == 0)], ...] = ()
    hashes: dict[Text, Text] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)
    limit: float | None = None
    done: bool = False
    folder: Path = Path()


GOOD: dict[str, Any] = {
    "name": "a name",
    "size": 7,
    "shape": [1, 2, 3],
    "good": 4,
    "bad": 0,
    "parts": [{"weight": 1}, {"weight": 0.5, "label": "x"}],
    "kind": "large",
    "sides": [2, 4],
    "hashes": {"a": "b"},
    "more": {"anything": [1, None, {}]},
    "limit": None,
    "done": True,
}


def json_of(floats: st.SearchStrategy[float]) -> st.SearchStrategy[Any]:
    return st.recursive(
        st.none() | st.booleans() | st.integers() | floats | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=9,
    )


def test_a_record_has_the_types_that_it_declares() -> None:
    found = records.read(Outer, records.parse(json.dumps(GOOD)))
    assert found == Outer(
        "a name", 7, (1, 2, 3), Counts(4, 0), (Inner(1), Inner(0.5, "x")), "large", (2, 4),
        {"a": "b"}, {"anything": [1, None, {}]}, None, True,
    )  # fmt: skip


def test_what_is_left_out_has_its_default() -> None:
    values = {"name": "x", "size": 0, "shape": [0, 0, 0]}
    assert records.read(Outer, values) == Outer("x", 0, (0, 0, 0), Counts())


def test_values_of_the_right_class_stay_what_they_are() -> None:
    values = {**GOOD, "folder": Path("a"), "parts": [Inner(2)]}
    found = records.read(Outer, values)
    assert (found.folder, found.parts) == (Path("a"), (Inner(2),))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": True}, "size: expected an integer, found True"),
        ({"size": 7.0}, "size: expected an integer, found 7.0"),
        ({"size": "7"}, "size: expected an integer, found '7'"),
        ({"size": None}, "size: expected an integer, found None"),
        ({"size": -1}, "size: expected 0 to 99, found -1"),
        ({"size": 10**400}, "size: expected 0 to 99, found 1000"),
        ({"name": "Ä"}, r"name: expected text like \[a-z \]\+, found 'Ä'"),
        ({"name": "a\x1b[2J"}, r"name: expected printable text, found 'a\\x1b\[2J'"),
        ({"name": ["a"]}, r"name: expected text, found \['a'\]"),
        ({"shape": [1, 2]}, r"shape: expected a list of 3, found \[1, 2\]"),
        ({"shape": [1, 2, "3"]}, "shape: expected an integer, found '3'"),
        ({"shape": 3}, "shape: expected a list, found 3"),
        ({"good": "x"}, "good: expected an integer, found 'x'"),
        ({"parts": {}}, r"parts: expected a list, found \{\}"),
        ({"parts": "ab"}, "parts: expected a list, found 'ab'"),
        ({"parts": [3]}, "parts: expected an object, found 3"),
        ({"parts": [{}]}, "parts: expected a field weight, found none"),
        ({"parts": [{"weight": "1"}]}, "parts: weight: expected a number, found '1'"),
        ({"parts": [{"weight": math.nan}]}, "parts: weight: expected a number, found nan"),
        ({"parts": [{"weight": math.inf}]}, "parts: weight: expected a number, found inf"),
        ({"parts": [{"weight": 10**400}]}, "parts: weight: expected a number, found 1000"),
        ({"parts": [{"weight": True}]}, "parts: weight: expected a number, found True"),
        ({"kind": "huge"}, "kind: expected small or large, found 'huge'"),
        ({"kind": ["small"]}, "kind: expected small or large, found"),
        ({"sides": [2, 3]}, "sides: expected an even number, found 3"),
        ({"hashes": []}, r"hashes: expected an object, found \[\]"),
        ({"hashes": {"a": 1}}, "hashes: expected text, found 1"),
        ({"hashes": {"\n": "a"}}, "hashes: expected printable text"),
        ({"more": 5}, "more: expected an object, found 5"),
        ({"limit": "x"}, "limit: expected a number, found 'x'"),
        ({"done": 1}, "done: expected true or false, found 1"),
        ({"folder": "a"}, "folder: expected Path, found 'a'"),
    ],
)
def test_what_is_wrong_is_said_with_its_field(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        records.read(Outer, {**GOOD, **changes})


@pytest.mark.parametrize("name", ["name", "size", "shape"])
def test_a_field_without_a_default_is_needed(name: str) -> None:
    values = {key: value for key, value in GOOD.items() if key != name}
    with pytest.raises(ValueError, match=f"^expected a field {name}, found none$"):
        records.read(Outer, values)


def test_all_fields_are_needed_where_it_is_asked_for() -> None:
    assert records.read(Counts, {"good": 1, "bad": 2}, complete=True) == Counts(1, 2)
    with pytest.raises(ValueError, match=r"^expected a field bad, found none$"):
        records.read(Counts, {"good": 1}, complete=True)
    with pytest.raises(ValueError, match=r"^parts: expected a field label, found none$"):
        records.read(Outer, {**GOOD, "folder": Path()}, complete=True)


def test_unknown_fields_are_ignored_or_refused() -> None:
    assert records.read(Counts, {"good": 1, "x": 2}) == Counts(1)
    with pytest.raises(ValueError, match=r"^unknown fields: x, y$"):
        records.read(Counts, {"good": 1, "y": 2, "x": 2}, strict=True)


@pytest.mark.parametrize("values", [None, 3, "text", [], [("good", 1)]])
def test_only_objects_are_records(values: object) -> None:
    with pytest.raises(ValueError, match=r"^expected an object, found"):
        records.read(Counts, values)


@given(st.sampled_from(sorted(GOOD)), json_of(st.floats()))
def test_any_value_of_any_field_is_read_or_refused(name: str, value: object) -> None:
    try:
        found = records.read(Outer, {**GOOD, name: value})
    except ValueError as error:
        assert len(str(error)) < 300
    else:
        again = {**asdict(found), **asdict(found.counts)}
        assert json.loads(json.dumps(again[name])) == value


@given(st.dictionaries(st.text(), json_of(st.floats(allow_nan=False, allow_infinity=False))))
def test_what_is_written_is_read_again(values: dict[str, Any]) -> None:
    data = records.dump(values)
    assert records.parse(data) == values
    assert data.endswith(b"}\n")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "Expecting value"),
        (b"\xff\xfe\xff", "decode"),
        (b"3", "expected an object, found 3"),
        (b"[]", r"expected an object, found \[\]"),
        (b'{"a": NaN}', "expected finite numbers, found NaN"),
        (b'{"a": [-Infinity]}', "expected finite numbers, found -Infinity"),
        (b'{"a": 1e999}', "expected finite numbers, found 1e999"),
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
    assert records.parse(data)["a"]


@pytest.mark.parametrize("found", [None, "2", 2.0, True, 1, -1])
def test_another_format_is_refused(found: object) -> None:
    records.check_format({"format": 2}, 2)
    with pytest.raises(ValueError, match=r"^expected format 2, found [^;]*$"):
        records.check_format({"format": found}, 2)


def test_a_later_format_is_told_from_damage() -> None:
    with pytest.raises(ValueError, match=r"^expected format 2, found 3; a later cvae wrote it$"):
        records.check_format({"format": 3}, 2)
