"""The notebooks run from top to bottom, on what is shipped."""

from __future__ import annotations

from pathlib import Path

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
        kinds = [output.output_type for output in new.get("outputs", [])]
        assert kinds == [output.output_type for output in old.get("outputs", [])], new.source
