"""Names that are printable, safe and unique."""

from __future__ import annotations

from pathlib import PurePosixPath

from hypothesis import example, given
from hypothesis import strategies as st

from cvae.data import names


def test_printable_text_moves_no_cursor_and_stays_one_line() -> None:
    assert names.printable("a\x1b[2J\nb\r\u202ec é 漢") == "a\\x1b[2J\\nb\\r\\u202ec é 漢"
    assert names.printable("\udcff") == "\\udcff"  # a file's name that is no UTF-8


@given(st.text() | st.text("./\\:abCON "))
@example("a" * 177 + ".png")
@example("..png")
@example("a. .PNG. ")
@example("a.png/aux.png/b")
@example("x" * 179 + ".png/b")
@example("/".join("y" * 200))
def test_safe_names_are_safe(name: str) -> None:
    safe = names.safe_name(name)
    if not safe:
        return
    path = PurePosixPath(safe)
    assert not path.is_absolute()
    assert safe == str(path)
    assert safe.isprintable()
    assert len(safe.encode()) <= 200
    assert not any(part.lower().endswith(".png") for part in path.parts[:-1])
    for part in path.parts:
        assert part not in (".", "..")
        assert len(part.encode()) <= 255
        assert not set(part) & set('\\<>:"|?*')
        assert part.split(".")[0].strip().lower() not in {"con", "nul", "aux", "com1"}
        assert part == part.rstrip(" .")
    assert names.safe_name(safe) == safe


def test_names_that_meet_are_told_apart() -> None:
    given = [
        "8.png",
        "x.png",
        "8.png",
        "a/x.jpg",
        "x.jpg",
        "X.JPG",
        "8.jpg",
        "",
        "y",
        "8.png",
        "8_000002",
    ]
    unique = names.UniqueNames(given)
    assert [unique(number, name) for number, name in enumerate(given)] == [
        "8_000000.png", "x.png.png", "8_000002.png", "a/x.png", "x_000004.png", "X_000005.png", "8.jpg.png",
        "000007.png", "y.png", "8_000009.png", "8_000002_000010.png",
    ]  # fmt: skip


@given(
    st.lists(st.sampled_from(["a", "a.png", "A.png", "a.jpg", "a_000001", "b/a", ""]), max_size=9)
)
def test_no_two_names_are_alike(given: list[str]) -> None:
    unique = names.UniqueNames(given)
    found = [unique(number, name).casefold() for number, name in enumerate(given)]
    assert len(set(found)) == len(found)
