"""Machines that store the highest byte first read and write the same files."""

from __future__ import annotations

import io
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cvae.bitstream.tables import Bank
from cvae.data import arrays
from cvae.models.file import Model
from cvae.models.grids import GridTables
from cvae.models.qualities import ARRAYS, Qualities

from ..conftest import ROOT

MNIST, GRID = ROOT / "weights" / "mnist.cvae", ROOT / "tests" / "golden" / "grid.cvae"


def turned(array: NDArray) -> NDArray:
    """The same numbers, the highest byte first."""
    found = array.astype(array.dtype.newbyteorder(">"))
    assert array.dtype.itemsize == 1 or found.dtype.byteorder == ">"
    return found


def named(tables: Qualities | GridTables) -> dict[str, NDArray]:
    if isinstance(tables, GridTables):
        return {field.name: getattr(tables, field.name) for field in fields(tables)}
    return {name: getattr(tables, name) for name in ARRAYS[1:]} | {"bank": tables.bank.table}


def tables_of(path: Path) -> Qualities | GridTables:
    model = Model(path)
    return model.grids if model.manifest.kind == "grid" else model.qualities


@pytest.mark.parametrize("path", [MNIST, GRID])
def test_hashes_are_over_the_order_of_files(path: Path) -> None:
    tables, manifest = tables_of(path), Model(path).manifest
    for name, array in named(tables).items():
        assert arrays.digest(turned(array)) == manifest.hashes[f"tables.npz/{name}"]


@pytest.mark.parametrize("path", [MNIST, GRID])
def test_arrays_of_any_order_are_read_as_native_ones_and_written_in_that_of_files(
    path: Path,
) -> None:
    tables = tables_of(path)
    buffer = io.BytesIO()
    np.savez(buffer, **{name: turned(array) for name, array in named(tables).items()})  # type: ignore[arg-type]
    again = type(tables).from_npz(io.BytesIO(buffer.getvalue()), "turned")
    assert again.hashes() == tables.hashes()
    assert all(array.dtype.isnative for array in named(again).values())
    written = arrays.npz_bytes({name: turned(array) for name, array in named(tables).items()})
    with np.load(io.BytesIO(written)) as found:
        assert all(array.dtype.str[0] in "<|" for array in found.values())


def test_a_machine_of_the_other_order_makes_the_same_hashes() -> None:
    bank = Bank(np.full((1, 4), 1 << 14, np.uint16))
    one = np.ones(1, np.float32)
    index, scale = np.zeros((100, 1), np.uint16), np.ones(100, np.float32)
    qualities = Qualities(bank, index, scale, one, one, one)
    for name in ("scale", "step", "offset"):
        object.__setattr__(qualities, name, turned(getattr(qualities, name)))
    assert qualities.hashes()["step"] == arrays.digest(one)
