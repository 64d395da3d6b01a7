"""What the tables of a grid may ask for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cvae.kinds.context import Entropy
from cvae.models.file import Model
from cvae.models.grids import GridTables

from ..conftest import ROOT


@pytest.fixture(scope="module")
def tables() -> GridTables:
    return Model(ROOT / "tests" / "golden" / "grid.cvae").grids


@pytest.mark.parametrize(
    "changes",
    [
        {"reach": np.array([17, 0], np.uint8)},
        {"hyper_index": np.zeros((100, 1025), np.uint16)},
        {"companding": np.zeros((1 << 16) + 1, np.uint8)},
    ],
    ids=["tiles of a picture", "a thousand hyper latents a cell", "a long table"],
)
def test_sizes_that_a_picture_is_multiplied_by_have_bounds(
    tables: GridTables, changes: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="expected"):
        replace(tables, **changes)


def test_products_of_a_pass_have_a_bound(tables: GridTables) -> None:
    """Of 9x9 places each, on one channel: their weights are few, and their products many."""
    rows = np.array([[0, 9, 1, 1, 8]] * 30, np.int32)
    weights, biases = np.zeros(30 * 81, np.int8), np.zeros(1, np.int32)
    with pytest.raises(ValueError, match="at most 2,048 taps"):
        Entropy(replace(tables, layers=rows, weights=weights, biases=biases))
