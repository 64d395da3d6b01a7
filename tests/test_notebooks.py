"""The notebooks run from top to bottom, on what is shipped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .conftest import ROOT

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_keeps_what_it_printed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbformat, client = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.delenv("CVAE_NOTEBOOK_DATA", raising=False)
    kept = nbformat.read(path, 4)
    fresh = client.execute(nbformat.read(path, 4), cwd=ROOT, timeout=300)
    for old, new in zip(kept.cells, fresh.cells, strict=True):
        assert _kinds(old) == _kinds(new), new.source


def _kinds(cell: Any) -> set[str]:
    """What a cell gives: text, pictures. Of printed lines a kernel makes one output or several."""
    return {kind for output in cell.get("outputs", []) for kind in output.get("data", ["printed"])}
