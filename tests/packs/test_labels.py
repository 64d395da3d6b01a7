"""Labels of images in packs: there and back, and columns that nobody wrote."""

from __future__ import annotations

import io
import json
import tarfile
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

import cvae
from cvae.errors import FormatError
from cvae.packs import layout
from cvae.packs.layout import Block, Header

from ..conftest import SAMPLES, blobs, run_here
from .test_layout import PACKS, opened, whole, written

FAST = ["--effort", "0", "--quiet", "-m", "linear-mnist"]

plain = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.text("aä\t\n\0😀\ud800", max_size=4)
)
values = st.recursive(
    plain, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=2), v)
)
rows = st.fixed_dictionaries(
    {},
    optional={
        "cls": st.integers(-9, 9), "json": values, "folder": st.text(max_size=5),
        "y_test:int8": st.integers(-9, 9), "y:uint8:2": st.lists(st.integers(0, 9), min_size=2, max_size=2),
    },
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(rows, min_size=1, max_size=8))
def test_labels_survive_a_block(given: list[dict[str, Any]]) -> None:
    reader = opened(written(Header(1, 50, labels=True), [Block(len(given), b"x", labels=given)]))
    (place,) = reader.places
    assert reader.read(place).labels == given
    assert reader.fields() == list({field: 0 for label in given for field in label})


LABELLED = Header(0xBEEF, 50, names=True, sizes=True, labels=True)
BLOCKS = [
    Block(2, bytes(range(9)), ["a", "b"], [(28, 30), (1, 2)], [{"cls": i}, {}]) for i in range(3)
]


def test_a_flipped_byte_of_a_pack_with_labels_costs_one_block_at_most() -> None:
    data = written(LABELLED, BLOCKS)
    original = dict(zip((0, 2, 4), BLOCKS, strict=True))
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 0xFF
        reader = opened(bytes(damaged))
        assert reader.damage_in([(0, 6)]), at
        found = whole(reader)
        assert len(found) >= 2, at
        assert all(original[first] == block for first, block in found.items()), at


def test_without_its_index_a_pack_with_labels_is_walked() -> None:
    reader = opened(written(LABELLED, BLOCKS)[:-20])
    assert [reader.read(place) for place in reader.places] == BLOCKS


def test_golden_pack_with_labels() -> None:
    # Read only: what zlib writes depends on its version.
    reader = opened(bytes.fromhex(PACKS["labels"]))
    assert reader.header == LABELLED
    assert [reader.read(place) for place in reader.places] == BLOCKS
    assert not reader.damage


def test_the_first_byte_says_the_version() -> None:
    assert written(LABELLED, BLOCKS)[0] == 0xC5
    bare = Header(0xBEEF, 50, names=True, sizes=True)
    assert written(bare, BLOCKS)[0] == 0xC1


HOSTILE = [
    (b"cls\n1\n", "expected 2 labels, found 1"),
    (b"cls\n1\n2\n3\n", "expected 2 labels, found 3"),
    (b"cls\n1\n2", "expected 2 labels"),
    (b"", "expected 2 labels, found -1"),
    (b"cls\n\xff\n2\n", "not UTF-8"),
    (b"cls\n1\t2\n2\n", "expected 1 values of an image, found 2"),
    (b"\n1\n\n", "expected 0 values"),
    (b"cls\n{\n2\n", "damaged"),
    (b"json\n" + b"[" * 99_999 + b"\n2\n", "levels of lists"),
    (b"json\nNaN\n2\n", "finite"),
    (b"cls\n" + b"9" * 9999 + b"\n2\n", "damaged"),
    (b"cls\tcls\n1\t1\n2\t2\n", "different fields"),
    (b"\t".join(b"y_%d:int8" % i for i in range(17)) + b"\n\n\n", "at most 16"),
    (b"../x:int8\n1\n2\n", "expected cls, json, folder or y_NAME:DTYPE"),
    (b"y:object\n1\n2\n", "expected cls"),
    (b"y:int8:999,999\n1\n2\n", "expected cls"),
]


@pytest.mark.parametrize(("text", "message"), HOSTILE)
def test_a_column_that_nobody_wrote_is_refused(
    text: bytes, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "_pack_labels", lambda block: zlib.compress(text))
    reader = opened(written(LABELLED, BLOCKS[:1]))
    with pytest.raises(FormatError, match=message):
        reader.read(reader.places[0])


@pytest.mark.parametrize(
    "column",
    [zlib.compress(bytes(1 << 28)), zlib.compress(b"cls\n1\n2\n")[:-3], b"text", zlib.compress(b"x") + b"x"],
    ids=["bomb", "cut", "no zlib", "more"],
)  # fmt: skip
def test_a_column_that_does_not_unpack_is_refused(
    column: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "_pack_labels", lambda block: column)
    reader = opened(written(LABELLED, BLOCKS[:1]))
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match="column"):
            reader.read(reader.places[0])
        assert tracemalloc.get_traced_memory()[1] < 1 << 27
    finally:
        tracemalloc.stop()


def test_verify_finds_labels_that_nobody_wrote(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(layout, "_pack_labels", lambda block: zlib.compress(b"cls\n1\n"))
        cvae.encode_pack(blobs(2, side=28), "x.bin", "linear-mnist", labels=[1, 2], verify=False)
    run_here("verify", "x.bin", code=1)
    run_here("unpack", "x.bin", code=1)


def npz(path: str, **arrays: NDArray[Any]) -> None:
    np.savez(path, **arrays)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "y",
    [
        np.arange(30, dtype=np.uint8), np.arange(30, dtype=np.int64)[:, np.newaxis] - 15,
        np.arange(180, dtype=">u2").reshape(30, 2, 3), np.full(30, 2**64 - 1, np.uint64),
        np.arange(30) % 2 == 0,
    ],
    ids=["uint8", "column", "rows", "large", "bool"],
)  # fmt: skip
def test_integers_of_an_npz_file_come_back(workdir: Path, y: NDArray[Any]) -> None:
    x = blobs(30, side=28)[..., 0]
    npz("in.npz", x_test=x, y_test=y, x_train=x[:3], y_train=np.arange(3))
    run_here("pack", "in.npz", "--block-images", "7", *FAST)
    run_here("unpack", "in.bin", "-o", "back.npz")
    back = np.load("back.npz")
    assert set(back) == {"images", "y_test"}
    assert np.array_equal(back["y_test"], y)
    assert back["y_test"].dtype == y.dtype.newbyteorder("=")
    run_here("unpack", "in.bin", "-o", "some.npz", "--only", "3-5,9")
    assert np.array_equal(np.load("some.npz")["y_test"], y[[3, 4, 5, 9]])
    with cvae.open_pack("in.bin") as pack:
        assert np.array_equal(pack.labels, y)
        assert pack.labels.dtype == y.dtype.newbyteorder("=")
    run_here("pack", "back.npz", *FAST)  # and once more
    with cvae.open_pack("back.bin") as pack:
        assert np.array_equal(pack.labels, y)


def test_what_are_no_labels_is_said(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = blobs(4, side=28)[..., 0]
    for y in (np.arange(3), np.zeros(4), np.zeros((4, 999), int), np.array(4)):
        npz("in.npz", x_test=x, y_test=y)
        run_here("pack", "in.npz", "-o", "x.bin", "--force", *FAST[:2], "-m", "linear-mnist")
        text = "in.npz: y_test: holds no labels and was left out: expected 4 rows of at most 128 integers"
        assert text in capsys.readouterr().err
        assert Path("x.bin").read_bytes()[0] == 0xC1


def test_without_labels_a_pack_is_as_it_was(workdir: Path) -> None:
    x = blobs(30, side=28)[..., 0]
    npz("in.npz", x_test=x, y_test=np.arange(30))
    npz("bare.npz", x_test=x)
    run_here("pack", "in.npz", "--labels", "none", *FAST)
    run_here("pack", "bare.npz", *FAST)
    assert Path("in.bin").read_bytes() == Path("bare.bin").read_bytes()
    with cvae.open_pack("bare.bin") as pack:
        assert pack.labels is None


def archive(path: str, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def png(number: int) -> bytes:
    return (SAMPLES / f"digit_{number}.png").read_bytes()


def members(path: str) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {name: tar.extractfile(name).read() for name in tar.getnames()}  # type: ignore[union-attr]


META = {"lines": "a\nb\tc", "ä": [1, None, {"x": 0.5}]}


def test_files_beside_images_of_an_archive_come_back(workdir: Path) -> None:
    files = {
        "a/0.cls": b"7\n", "a/0.png": png(0), "a/0.json": json.dumps(META).encode(),
        "a/1.png": png(1), "a/1.CLS": b" -3 ", "b/2.png": png(2),
    }  # fmt: skip
    archive("in.tar", files)
    run_here("pack", "in.tar", *FAST)
    with cvae.open_pack("in.bin") as pack:
        assert pack.labels == [{"cls": 7, "json": META}, {"cls": -3}, {}]
    run_here("unpack", "in.bin", "-o", "back.tar")
    back = members("back.tar")
    assert list(back) == ["a/0.png", "a/0.cls", "a/0.json", "a/1.png", "a/1.cls", "b/2.png"]
    assert (back["a/0.cls"], back["a/1.cls"]) == (b"7", b"-3")
    assert json.loads(back["a/0.json"]) == META
    run_here("pack", "back.tar", *FAST)
    with cvae.open_pack("back.bin") as pack:
        assert pack.labels == [{"cls": 7, "json": META}, {"cls": -3}, {}]


def test_labels_of_archives_that_cannot_be_kept_are_said(
    workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = {"0.cls": b"cat", "0.png": png(0), "1.json": b'"' + b"x" * 9999 + b'"', "1.png": png(1),
           "2.json": b"{", "2.png": png(2), "3.cls": b"1", "4.cls": b"1", "4.png": png(4)}  # fmt: skip
    archive("in.tar", bad)
    run_here("pack", "in.tar", "--effort", "0", "-m", "linear-mnist")
    said = capsys.readouterr().err
    assert "expected an integer of at most 4,096 bytes" in said
    assert "expected JSON of at most 4,096 bytes" in said
    assert "in.tar: 3.cls" in said
    assert "1 label kept" in said
    with cvae.open_pack("in.bin") as pack:
        assert pack.labels == [None, None, None, 1]


def test_labels_that_begin_behind_the_first_block_are_said(
    workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive("in.tar", {"0.png": png(0), "1.png": png(1), "2.png": png(2), "2.cls": b"1"})
    run_here("pack", "in.tar", "--block-images", "2", "--effort", "0", "-m", "linear-mnist")
    assert "left out labels: none of the first images has one" in capsys.readouterr().err
    assert Path("in.bin").read_bytes()[0] == 0xC1


def folder_of(path: Path) -> Path:
    for number, name in enumerate(("cat/a.png", "cat/b.png", "dog/deep/c.png", "d.png")):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(png(number))
    return path


@pytest.mark.parametrize("more", [[], ["--workers", "1"]])
def test_folders_are_labels_on_request(workdir: Path, more: list[str]) -> None:
    folder_of(Path("in"))
    run_here("pack", "in", "-o", "bare", *more, *FAST)
    run_here("pack", "in", "-o", "coded", "--labels", "folder", *more, *FAST)
    with cvae.open_pack("bare") as pack:
        assert pack.labels is None
    with cvae.open_pack("coded") as pack:
        assert dict(zip(pack.names or [], pack.labels, strict=True)) == {
            "cat/a.png": "cat", "cat/b.png": "cat", "dog/deep/c.png": "deep", "d.png": "in",
        }  # fmt: skip
        assert pack.reader.facts()["labels"] == ["folder"]
    run_here("unpack", "coded", "-o", "back")
    names = sorted(p.relative_to("back").as_posix() for p in Path("back").rglob("*.png"))
    assert names == ["cat/a.png", "cat/b.png", "d.png", "dog/deep/c.png"]
    run_here("verify", "coded")


@pytest.mark.parametrize("more", [[], ["--workers", "1"]])
def test_images_directly_in_a_folder_are_labelled_with_it(
    workdir: Path, more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder_of(Path("in"))
    run_here("pack", "in/cat", "in/dog", "-o", "x", "--labels", "folder", *more, *FAST)
    with cvae.open_pack("x") as pack:
        assert pack.names == ["cat/a.png", "cat/b.png", "dog/deep/c.png"]
        assert pack.labels.tolist() == ["cat", "cat", "deep"]
    run_here("pack", "in/cat/[ab].png", "-o", "y", "--labels", "folder", *more, *FAST)
    with cvae.open_pack("y") as pack:
        assert pack.labels.tolist() == ["cat", "cat"]
    assert not capsys.readouterr().err


def test_pages_of_a_file_have_its_folder(workdir: Path) -> None:
    pages = [Image.open(SAMPLES / f"digit_{number}.png") for number in range(2)]
    Path("in/cat").mkdir(parents=True)
    pages[0].save("in/cat/x.tif", save_all=True, append_images=pages[1:])
    run_here("pack", "in", "--pages", "--labels", "folder", *FAST)
    with cvae.open_pack("in.bin") as pack:
        assert pack.labels.tolist() == ["cat", "cat"]


@pytest.mark.parametrize("more", [[], ["--workers", "1"]])
def test_where_no_image_lies_in_a_folder_it_is_said(
    workdir: Path, more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    archive("in.tar", {"0.png": png(0), "1.png": png(1)})
    npz("in.npz", x_test=blobs(2, side=28)[..., 0], y_test=np.arange(2))
    for name in ("in.tar", "in.npz"):
        arguments = ["--labels", "folder", *more, "--effort", "0", "-m", "linear-mnist"]
        run_here("pack", name, "-o", f"{name}.out", *arguments, *(["--force"] if not more else []))
        said = capsys.readouterr().err
        assert "warning: --labels folder: expected images in folders, found none, so" in said


def test_shards_have_labels_each_of_its_own(workdir: Path) -> None:
    npz("a.npz", x_test=blobs(7, side=28)[..., 0], y_test=np.arange(7, dtype=np.int16))
    npz("b.npz", x_test=blobs(2, side=28)[..., 0])
    run_here("pack", "*.npz", "-o", "out", "--workers", "1", "--shard-images", "3", *FAST)
    with cvae.open_pack("out") as pack:
        assert pack.labels == [0, 1, 2, 3, 4, 5, 6, None, None]
    known = json.loads(Path("out/manifest.json").read_text())["shards"]
    assert [part.get("labelled") for part in known] == [3, 3, 1, None]
    run_here("unpack", "out", "-o", "y.npz", "--only", "0-6")
    assert np.array_equal(np.load("y.npz")["y_test"], np.arange(7))
    run_here("pack", "out", "-o", "one.bin", *FAST)  # a pack of what a pack holds
    with cvae.open_pack("one.bin") as pack:
        assert pack.labels == [0, 1, 2, 3, 4, 5, 6, None, None]
