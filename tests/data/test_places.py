"""Places here and at URLs answer the same."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cvae.data import files, places
from cvae.data.places import Local, Place, find, locate
from cvae.errors import CvaeError, DataError, OutputError, StorageError

FILES = {
    "b.png": b"1", "a/c.PNG": b"22", "a/.hidden.png": b"", ".git/x.png": b"", "a/note.txt": b"333",
    "a.png": b"4", "run/run.json": b"{}", "run/deep/d.png": b"",
}  # fmt: skip


@pytest.fixture(params=["local", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A folder of files, on this machine or not."""
    if request.param == "local":
        for name, data in FILES.items():
            files.write_bytes(tmp_path / name, data)
        yield locate(tmp_path)
        return
    system = pytest.importorskip("fsspec").filesystem("memory")
    for name, data in FILES.items():
        system.pipe(f"/places/{name}", data)
    yield locate("memory://places")
    system.rm("/places", recursive=True)


def test_files_below_a_folder_come_in_order_without_hidden_ones(root: Place) -> None:
    found = list(root.below())
    names = ["a.png", "a/c.PNG", "a/note.txt", "b.png", "run/deep/d.png", "run/run.json"]
    assert sorted(item.name for item in found) == names
    assert [item.name for item in root.below("run.json")][-1] == "b.png"
    names = [item.name for item in (root / "run").below("run.json")]
    assert names == ["deep/d.png", "run.json"]
    for item in found:
        assert item.place.open("rb").read() == FILES[item.name]
        assert str(len(FILES[item.name])) in item.stamp


def test_patterns_folders_and_files_are_found(root: Place) -> None:
    assert [item.name for item in find(f"{root}/*.png")] == ["a.png", "b.png"]
    assert [item.name for item in find(f"{root}/**/*.png")][-1] == "run/deep/d.png"
    assert [item.name for item in find(str(root / "a"))] == ["c.PNG", "note.txt"]
    assert [item.name for item in find(str(root / "b.png"))] == ["b.png"]
    for text, why in {"*.tif": "no files", "[ar]*n": "folders only"}.items():
        with pytest.raises(DataError, match=why):
            find(f"{root}/{text}")
    with pytest.raises(DataError, match="there is no such file"):
        find(str(root / "x.png"))


def test_a_folder_tells_sizes_and_what_is_there(root: Place) -> None:
    sizes = (root / "a").sizes()
    assert sizes == {"c.PNG": 2, ".hidden.png": 0, "note.txt": 3}
    assert (root / "nowhere").sizes() == {}
    assert (root / "a").is_folder()
    assert not (root / "b.png").is_folder()
    assert [(root / name).exists() for name in ("b.png", "a", "x")] == [True, True, False]


def test_files_are_written_whole_and_removed(root: Place) -> None:
    place = root / "new.bin"
    places.write(place, b"data")
    assert places.read(place, 4) == b"data"
    with pytest.raises(StorageError, match="at most 3 bytes"):
        places.read(place, 3)
    with pytest.raises(OutputError, match="exists already"):
        places.write(place, b"")
    with pytest.raises(RuntimeError), place.writing(force=True) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert places.read(place, 4) == b"data"
    before = place.stamp()
    places.write(place, b"other", force=True)
    assert place.stamp() != before
    place.remove()
    place.remove()
    assert not place.exists()


def test_a_url_of_a_file_is_a_path(tmp_path: Path) -> None:
    path = tmp_path / "ä b.png"
    assert locate(path.as_uri()) == path
    assert isinstance(locate(path.as_uri()), Local)
    assert locate(path) == path
    assert (locate(path).far, locate("s3://bucket/x").far) == (False, True)
    assert locate("s3://bucket/in/x.npz").suffix == ".npz"


def test_a_file_named_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "x[1].png").write_bytes(b"")
    assert [item.name for item in find(tmp_path / "x[1].png")] == ["x[1].png"]


@pytest.mark.skipif(os.name == "nt", reason="links need rights")
def test_links_to_nothing_or_to_themselves_hide_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"1")
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "gone.png").symlink_to("nowhere")
    assert locate(tmp_path).sizes() == {"a.png": 1, "loop.png": 0, "gone.png": 0}
    refused: list[CvaeError] = []
    assert [item.name for item in locate(tmp_path).below(refuse=refused.append)] == ["a.png"]
    assert sorted(Path(error.where).name for error in refused) == ["gone.png", "loop.png"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="everything can be read")
def test_a_folder_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir(mode=0)
    with pytest.raises(DataError, match=r"in: cannot be read: Permission"):
        list(locate(tmp_path).below())
