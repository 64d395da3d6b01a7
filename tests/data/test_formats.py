"""Every kind of file that docs/reading.md lists is read as it says, and as another program reads it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from cvae.data.reading import Reading
from cvae.errors import ImageError

from .pictures import CASES, GROUND, Array, as_rgb

DOCS = Path(__file__).parents[2] / "docs" / "reading.md"
READING = Reading((0, 0, 3), "any", "#{:02x}{:02x}{:02x}".format(*GROUND))


def listed() -> dict[str, str]:
    """The kinds of file in the table of the docs, with what it says of each: read, or refused."""
    rows = re.findall(r"^\| ([^|]+?) \| (read|refused)[^|]* \|", DOCS.read_text(), re.MULTILINE)
    return dict(rows)


def vips(path: Path) -> Array:
    """The first picture of a file as libvips reads it, on the ground, uint8 (h, w, 3)."""
    import pyvips

    image = pyvips.Image.new_from_file(str(path)).autorot()
    if image.get_typeof("icc-profile-data"):
        image = image.icc_transform("srgb", embedded=True)
    image = image.colourspace("srgb")
    if image.hasalpha():
        image = image.flatten(background=list(GROUND))
    return np.asarray(image.cast("uchar").numpy(), np.uint8)


def test_the_docs_list_what_is_tried_here() -> None:
    refused = {name for name, case in CASES.items() if case().expected is None}
    assert listed() == {name: "refused" if name in refused else "read" for name in CASES}


def apart(found: Array, expected: Array) -> int:
    """By how many levels pictures (h, w, 1 or 3) and (h, w, 3) differ at most."""
    return int(np.abs(found.astype(int) - expected).max())


@pytest.mark.parametrize("name", CASES)
def test_files_are_read_right_or_refused(name: str, tmp_path: Path) -> None:
    case = CASES[name]()
    if case.expected is None:
        with pytest.raises(ImageError, match=f"x: .*{case.refused}"):
            READING.read(case.data, "x")
        return
    expected = as_rgb(case.expected).astype(int)
    assert apart(READING.read(case.data, "x"), expected) <= case.tolerance
    if case.independent and name[:3] not in ("PBM", "PGM", "PPM"):  # not in libvips's wheel
        (tmp_path / "x").write_bytes(case.data)
        assert apart(vips(tmp_path / "x"), expected) <= case.tolerance + 1


@pytest.mark.parametrize("name", CASES)
def test_models_of_one_size_read_the_same(name: str) -> None:
    case = CASES[name]()
    if case.expected is None:
        return
    whole = READING.read(case.data, "x")
    for fit in ("stretch", "crop", "resize", "own"):
        reading = Reading((*whole.shape[:2], 3), fit, READING.background)  # type: ignore[arg-type]
        assert np.array_equal(
            reading.read(case.data, "x"), np.broadcast_to(whole, (*whole.shape[:2], 3))
        )
