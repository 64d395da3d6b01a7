"""What images are cut into, for many machines."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvae.data import places as storage
from cvae.data.lists import ListSource
from cvae.data.sources import AS_USUAL, ArraySource, Reading, TarSource, Which
from cvae.errors import CvaeError, DataError
from cvae.packs import shards as worklist
from cvae.packs.shards import Shard

from ..conftest import blobs


@pytest.fixture(autouse=True)
def _in_an_empty_folder(workdir: Path) -> None:
    pass


def pictures(folder: str, count: int) -> None:
    for i, pixels in enumerate(blobs(count)[..., 0]):
        path = Path(folder, f"{i % 3}", f"{i:02d}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


def shards(*texts: str, size: int = 4, which: Which = AS_USUAL) -> list[Shard]:
    inputs = [worklist.resolve(text).absolute() for text in texts]
    return list(worklist.cut(inputs, size, which))


def names(shard: Shard) -> list[str]:
    assert isinstance(shard.source, ListSource)
    return [name for _, name in shard.source.files]


def test_a_folder_is_cut_by_sorted_names() -> None:
    pictures("in", 10)
    found = shards("in")
    assert [shard.name for shard in found] == [f"part-0000{i}.bin" for i in range(3)]
    everything = [name for shard in found for name in names(shard)]
    assert everything == sorted(everything)
    assert [len(names(shard)) for shard in found] == [4, 4, 2]
    assert found == shards("in")


def test_arrays_are_cut_into_rows_that_give_all_images() -> None:
    pixels = blobs(10)
    np.save("x.npy", pixels)
    np.savez("x.npz", x_train=pixels[:3], x_test=pixels)
    np.savez_compressed("y.npz", x_train=pixels[:3], x_test=pixels)
    for source in ("x.npy", "x.npz", "y.npz"):
        parts = [
            np.concatenate([b.pixels for b in shard.source.batches(Reading((8, 8, 1), "exact"))])
            for shard in shards(source)
        ]
        assert [len(part) for part in parts] == [4, 4, 2]
        assert np.array_equal(np.concatenate(parts), pixels)
    assert len(shards("x.npz", which=Which("train"))) == 1


def test_everything_together_keeps_its_order() -> None:
    pictures("in", 3)
    np.save("x.npy", blobs(5))
    with tarfile.open("z.tar", "w") as archive:
        archive.add("in")
    found = shards("in", "in/0/00.png", "in/1/01.png", "x.npy", "z.tar", "in/2/02.png")
    kinds = [type(shard.source) for shard in found]
    assert kinds == [ListSource, ListSource, ArraySource, ArraySource, TarSource, ListSource]
    assert names(found[1]) == ["01.png"], "files of several inputs share shards"
    assert [shard.ordinal for shard in found] == list(range(6))


def test_patterns_find_arrays_and_files_below_their_fixed_part() -> None:
    pictures("in", 4)
    for name in "ab":
        np.save(f"in/{name}.npy", blobs(3))
    assert [str(s.source.path) for s in shards("in/*.npy")] == [  # type: ignore[attr-defined]
        str(Path.cwd() / f"in/{name}.npy") for name in "ab"
    ]
    assert names(shards("in/*/*.png")[0]) == ["0/00.png", "0/03.png", "1/01.png", "2/02.png"]
    Path("in/[x].png").write_bytes(Path("in/0/00.png").read_bytes())
    assert names(shards("in/[x].png")[0]) == ["[x].png"]


def test_a_shard_of_changed_images_is_another_one() -> None:
    pictures("in", 8)
    before = shards("in")
    os.utime("in/2/02.png", ns=(0, 0))
    after = shards("in")
    assert [a.stamp == b.stamp for a, b in zip(before, after, strict=True)] == [True, False]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("missing", "missing: there is no such file or folder"),
        ("missing/*.npz", "matches no files"),
        ("empty", r"expected images, found none in this folder.*'empty/\*.npz'"),
        ("bad.npz", r"bad.npz: expected an array"),
    ],
)
def test_what_is_not_there_is_named(text: str, message: str) -> None:
    Path("empty").mkdir()
    Path("bad.npz").write_bytes(b"text")
    with pytest.raises(DataError, match=message):
        shards(text)


def test_remote_folders_are_cut_as_local_ones() -> None:
    fsspec = pytest.importorskip("fsspec")
    pictures("in", 6)
    Path("in/.hidden.png").write_bytes(b"")
    memory = fsspec.filesystem("memory")
    memory.put("in", "/cut", recursive=True)
    try:
        far, near = shards("memory://cut"), shards("in")
        assert [names(shard) for shard in far] == [names(shard) for shard in near]
        assert names(shards("memory://cut/*/0*.png")[0]) == names(near[0])
        for a, b in zip(far, near, strict=True):
            read = [list(s.source.batches(Reading((8, 8, 1), "exact"))) for s in (a, b)]
            assert np.array_equal(read[0][0].pixels, read[1][0].pixels)
        with pytest.raises(CvaeError, match="memory of one process"):
            worklist.shared([worklist.resolve("memory://cut")], storage.locate("out"))
    finally:
        memory.rm("/cut", recursive=True)
