"""Errors: text, place and advice, in one line, and between processes."""

from __future__ import annotations

import errno
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cvae
from cvae import errors
from cvae.errors import (
    CvaeError,
    DataError,
    FormatError,
    MissingExtraError,
    Notice,
    OutputError,
)


def kinds(kind: type[CvaeError] = CvaeError) -> Iterator[type[CvaeError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from kinds(below)


def made(kind: type[CvaeError]) -> CvaeError:
    if kind is MissingExtraError:
        return MissingExtraError("keras", "train")
    return kind("expected 3, found 4", where=Path("a/b.bin"), advice="use --force")


@pytest.mark.parametrize("kind", list(kinds()))
def test_every_error_survives_pickling(kind: type[CvaeError]) -> None:
    error = made(kind)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)
    assert vars(again) == vars(error)


# Notices are never raised.
@pytest.mark.parametrize("kind", [kind for kind in kinds() if not issubclass(kind, Notice)])
def test_every_error_is_public_and_says_what_it_means(kind: type[CvaeError]) -> None:
    assert getattr(cvae, kind.__name__) is kind
    assert kind.__name__ in cvae.__all__
    assert kind.__doc__


@given(st.text(), st.text(), st.text())
def test_a_message_is_where_what_and_advice(text: str, where: str, advice: str) -> None:
    message = str(CvaeError(text, where=where, advice=advice))
    assert message.startswith(f"{where}: {text}" if where else text)
    assert message.endswith(f"{text}; {advice}" if advice else text)
    assert len(message) == len(where + text + advice) + 2 * bool(where) + 2 * bool(advice)


def test_a_place_is_filled_in_once_by_who_is_nearest() -> None:
    with pytest.raises(FormatError) as found, errors.at("outer", "try again"), errors.at("inner"):
        raise FormatError("is damaged")
    assert str(found.value) == "inner: is damaged; try again"


def test_what_an_error_knows_is_not_replaced() -> None:
    with pytest.raises(OutputError) as found, errors.at("b", "wait"):
        raise OutputError("exists already", where="a", advice="use --force")
    assert str(found.value) == "a: exists already; use --force"


def test_a_missing_package_is_missing_everywhere() -> None:
    with pytest.raises(MissingExtraError) as found, errors.at("a.bin", "look"):
        raise MissingExtraError("keras", "train")
    assert str(found.value).startswith("keras is not installed; pip install 'cvae[train]'")


def test_other_errors_are_left_alone() -> None:
    with (
        pytest.raises(ValueError, match=r"^x$"),
        errors.at("a"),
        errors.translated(DataError, "", "b"),
    ):
        raise ValueError("x")


def test_what_the_system_says_becomes_an_error_of_ours(tmp_path: Path) -> None:
    place = tmp_path / "missing"
    with pytest.raises(DataError) as found, errors.translated(DataError, "cannot be read", place):
        place.read_bytes()
    assert str(found.value) == f"{place}: cannot be read: No such file or directory"
    assert isinstance(found.value.__cause__, FileNotFoundError)


@pytest.mark.parametrize(
    ("error", "text"),
    [(OSError(errno.EIO, "broken"), "broken"), (OSError("what a library says"), "what a library says")],
)  # fmt: skip
def test_the_reason_is_told(error: OSError, text: str) -> None:
    with pytest.raises(OutputError) as found, errors.translated(OutputError, "fails", "a"):
        raise error
    assert str(found.value) == f"a: fails: {text}"


def test_other_reasons_are_translated_where_they_are_named() -> None:
    with pytest.raises(DataError) as found, errors.translated(DataError, "bad", "a", ValueError):
        raise ValueError("expected 3, found 4")
    assert str(found.value) == "a: bad: expected 3, found 4"
    with pytest.raises(OSError, match=r"^x$"), errors.translated(DataError, "bad", "a", ValueError):
        raise OSError("x")


@pytest.mark.parametrize(
    ("error", "line"),
    [(ValueError("one\ntwo"), "one"), (KeyError(), "KeyError"), (ValueError(" \n"), "ValueError")],
)
def test_a_foreign_error_gives_one_line(error: Exception, line: str) -> None:
    assert errors.first_line(error) == line
