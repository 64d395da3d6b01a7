"""Folders of one's own images: what is read, what is left out, and how they are split."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cvae.codec import open_model
from cvae.data import folders
from cvae.data.folders import PARTS, TEST, TRAIN, VALIDATION, Folder, split
from cvae.data.reading import Reading
from cvae.errors import DataError, ImageError, ModelError
from cvae.evaluation import measure
from cvae.training import datasets, runs

from ..conftest import blobs, run_cvae, run_here
from ..data.test_families import jpeg, pictures

READING = Reading((8, 8, 3), "crop")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 pictures, the first 20 of them again as JPEG, under names that say no format."""
    root = tmp_path_factory.mktemp("folder")
    for number, picture in enumerate(pictures(80)):
        name = root / f"class{number % 3}" / f"{number}"
        name.parent.mkdir(exist_ok=True)
        picture.save(name.with_suffix(".dat"), "PNG")
        if number < 20:
            jpeg(picture).save(name.with_suffix(".png"), "JPEG")
    return root


def read(root: Path, reading: Reading = READING) -> Folder:
    return folders.read(root, reading)


def parts(found: Folder) -> dict[str, str]:
    return {name: part for part in PARTS for name in found.names[part]}


def test_every_image_is_in_one_part_and_near_identical_ones_in_the_same(folder: Path) -> None:
    found = read(folder)
    where = parts(found)
    assert len(where) == sum(len(names) for names in found.names.values()) == 100
    for number in range(20):
        name = f"class{number % 3}/{number}"
        assert where[f"{name}.dat"] == where[f"{name}.png"]
    assert not found.skipped
    for part in PARTS:
        assert found.images[part].shape == (len(found.names[part]), 8, 8, 3)
        assert len(found.names[part]) >= 3
    assert len(found.names[TRAIN]) > 60


def test_pixels_belong_to_names(folder: Path) -> None:
    found = read(folder)
    for part in PARTS:
        for name, pixels in zip(found.names[part], found.images[part][:], strict=True):
            data = (folder / name).read_bytes()
            assert np.array_equal(READING.read(data, name), pixels)


def test_the_split_depends_on_bytes_alone(folder: Path, tmp_path: Path) -> None:
    before = read(folder)
    renamed = {}
    for number, name in enumerate(sorted(parts(before), reverse=True)):
        copy = tmp_path / f"{number:03}"
        shutil.copyfile(folder / name, copy)
        os.utime(copy, (number, number))
        renamed[copy.name] = parts(before)[name]
    after = read(tmp_path)
    assert parts(after) == renamed
    assert after.sha256 == before.sha256


def test_size_and_colour_leave_the_split_as_it_is_and_count_as_other_data(folder: Path) -> None:
    before = read(folder)
    for reading in (
        Reading((16, 8, 1), "crop"),
        Reading((8, 8, 3), "resize"),
        Reading((32, 32, 3), "crop"),
    ):
        found = read(folder, reading)
        assert parts(found) == parts(before)
        assert found.sha256 != before.sha256


def test_added_files_move_no_others(folder: Path, tmp_path: Path) -> None:
    before = read(folder)
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    for number, picture in enumerate(pictures(40, seed=1)):
        picture.save(tmp_path / f"new{number}.png")
    after = parts(read(tmp_path))
    assert len(after) == 140
    assert parts(before).items() <= after.items()


def test_a_large_folder_is_read_when_it_is_asked_for(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = read(folder)
    assert isinstance(kept.images[TRAIN], np.ndarray)
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(folders, "IN_MEMORY", 1000)
    lazy = read(tmp_path)
    assert lazy.sha256 == kept.sha256
    x, expected = lazy.images[TRAIN], kept.images[TRAIN]
    assert not isinstance(x, np.ndarray)
    assert x.shape == expected.shape
    for name in lazy.names[TRAIN][5:]:
        (tmp_path / name).unlink()  # what is not asked for is not opened
    assert np.array_equal(x[:3], expected[:3])
    assert np.array_equal(x[np.array([4, 0, 4])], expected[np.array([4, 0, 4])])
    assert x[:0].shape == (0, 8, 8, 3)
    with pytest.raises(ImageError, match="cannot be read"):
        x[3:6]
    with pytest.raises(IndexError):
        x[np.array([1000])]


@pytest.mark.parametrize(
    "below",
    [
        ("train/a", "val", "test/b"),
        ("Train", "Val", "Test"),
        ("training", "valid", "testing"),
        ("TRAINING/x", "Validation/val", "TEST"),
    ],
)
def test_a_folder_with_a_split_of_its_own_is_taken_as_it_is(
    tmp_path: Path, below: tuple[str, str, str]
) -> None:
    names = dict(zip(PARTS, below, strict=True))
    for number, picture in enumerate(pictures(30)):
        part = PARTS[number % 3]
        (tmp_path / names[part]).mkdir(parents=True, exist_ok=True)
        picture.save(tmp_path / names[part] / f"{number}.png")
    pictures(1)[0].save(tmp_path / "beside.png")
    found = read(tmp_path)
    for part in PARTS:
        assert len(found.names[part]) == 10
        assert all(name.startswith(names[part]) for name in found.names[part])
    assert [reason.partition(":")[0] for reason in found.skipped] == ["beside.png"]


def test_without_val_a_tenth_of_train_validates(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "train")
    found = read(tmp_path)
    assert found.names[TEST] == []
    assert {f"train/{name}" for name in read(folder).names[VALIDATION]} == {
        *found.names[VALIDATION]
    }


def test_hidden_files_and_training_runs_are_passed_over(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    for name in (".hidden", ".git/x", "runs/a/run.json", "runs/a/curves.png", "runs/a/b/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    found = read(tmp_path)
    assert not found.skipped
    assert len(parts(found)) == 100


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_pipes_and_dangling_links_are_not_waited_for(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to("nowhere")
    assert len(parts(read(tmp_path))) == 100


@pytest.mark.skipif(os.name == "nt", reason="links need rights")
def test_linked_folders_are_read_once_and_what_was_left_out_is_told(
    folder: Path, tmp_path: Path
) -> None:
    root = tmp_path / "in"
    root.mkdir()
    (root / "pictures").symlink_to(folder)
    (root / "again").symlink_to(folder)
    (root / "loop").symlink_to(".")
    (root / "gone").symlink_to("nowhere")
    found = read(root)
    assert len(parts(found)) == 100
    assert {name.split("/")[0] for name in parts(found)} == {"again"}
    assert [reason.split(":")[0] for reason in found.skipped] == ["gone", "loop", "pictures"]


def test_few_images_are_refused_with_what_was_left_out(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none in this folder"):
        read(tmp_path)
    for number, picture in enumerate(pictures(9)):
        picture.save(tmp_path / f"{number}.png")
    (tmp_path / "Thumbs.db").write_bytes(b"x")
    with pytest.raises(DataError, match=r"at least 10 images, found 9 and 1 file.*Thumbs\.db: exp"):
        read(tmp_path)


def test_ten_images_are_enough_and_one_picture_ten_times_is_not(tmp_path: Path) -> None:
    for number, picture in enumerate(pictures(10)):
        picture.save(tmp_path / f"{number}.png")
    assert all(read(tmp_path).names[part] for part in PARTS)
    for path in tmp_path.iterdir():
        pictures(1)[0].save(path)
    with pytest.raises(DataError, match="expected images that differ"):
        read(tmp_path)


digests = st.lists(st.binary(min_size=32, max_size=32).map(bytes.hex), min_size=3, max_size=60)


@given(digests, st.integers(1, 60), st.randoms())
def test_a_split_has_no_empty_part_and_no_torn_family(
    digests: list[str], kinds: int, random: object
) -> None:
    labels = np.array([random.randrange(kinds) for _ in digests])  # type: ignore[attr-defined]
    found = split(digests, labels)
    for label in np.unique(labels):
        assert len({part for part, own in zip(found, labels, strict=True) if own == label}) == 1
    enough = min(len(np.unique(labels)), 3)
    assert {*found} == {*PARTS[:enough]}


def test_a_split_has_the_promised_shares_and_large_families_train() -> None:
    rng = np.random.default_rng(0)
    digests = [rng.bytes(32).hex() for _ in range(10_000)]
    found = split(digests, np.arange(10_000))
    for part, share in ((TRAIN, 0.8), (VALIDATION, 0.1), (TEST, 0.1)):
        assert found.count(part) / 10_000 == pytest.approx(share, abs=0.01)
    first = min(range(10_000), key=digests.__getitem__)  # alone it is for testing
    labels = np.arange(10_000)
    labels[:3000] = labels[first] = 0
    assert found[first] == TEST
    assert split(digests, labels)[first] == TRAIN


# --- through the command line -------------------------------------------------------------------


def mixed(root: Path) -> list[str]:
    """Blobs in all ways that people store images, and files that are none. Returns the latter."""
    root.mkdir()
    for number, pixels in enumerate(blobs(60, 8, seed=3)):
        Image.fromarray(pixels[..., 0]).save(root / f"{number}.png")
    first, second, third, fourth, fifth = (
        Image.fromarray(pixels[..., 0]) for pixels in blobs(5, 32, seed=4)
    )
    first.save(root / "animated.gif", save_all=True, append_images=[second])
    Image.fromarray(np.asarray(second).astype(np.uint16) * 257).save(root / "sixteen bits.png")
    third.convert("CMYK").save(root / "cmyk.jpg")
    fourth.convert("P").save(root / "palette.png", transparency=0)
    fifth.save(root / "truncated.jpg", quality=95)
    data = (root / "truncated.jpg").read_bytes()
    (root / "truncated.jpg").write_bytes(data[: len(data) * 2 // 3])
    (root / "text.png").write_text("a text")
    Image.new("L", (1, 1)).save(root / "dot.png")
    (root / "Thumbs\n.db").write_bytes(b"\x1b[2J")
    return ["Thumbs\\n.db", "dot.png", "text.png", "truncated.jpg"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[str], bytes]:
    """A folder, a run trained on it, the files that were to be left out, and stderr."""
    home = tmp_path_factory.mktemp("own")
    left_out = mixed(home / "data")
    result = run_cvae(
        *("train", "tiny", "--data", home / "data", "--out", home / "run", "--epochs", "2"),
        *("--size", "12", "--colour", "--resize", "--background", "White"),
    )
    return home / "data", home / "run", left_out, result.stderr


Run = tuple[Path, Path, list[str], bytes]


def test_a_folder_of_all_kinds_trains_and_names_exactly_what_is_left_out(run: Run) -> None:
    _, out, left_out, stderr = run
    said = [line for line in stderr.decode().splitlines() if line.startswith("  ")]
    named = [line.strip() for line in said if ": " in line]
    assert [line.partition(":")[0] for line in named] == left_out
    assert (out / "skipped.txt").read_text().splitlines() == named
    assert b"4 files skipped" in stderr
    settings = json.loads((out / "run.json").read_text())
    assert settings["data"]["skipped"] == 4
    assert sum(settings["data"][part] for part in PARTS) == 64
    model = open_model(out / "tiny.cvae")
    assert model.image_shape == (12, 12, 3)
    assert measure.reading_of(model.model) == Reading((12, 12, 3), "resize", "#ffffff")


def test_resuming_and_exporting_read_as_the_run_did(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out, _, _ = run
    copy = tmp_path / "run"
    shutil.copytree(out, copy)
    base = ["train", "tiny", "--data", str(data), "--out", str(copy), "--epochs", "2", "--resume"]
    run_here(*base, "--quiet")
    run_here("train", "--help")
    assert "--crop" in capsys.readouterr().out
    run_here(*base, "--crop", code=1)
    assert "reading was 12x12 RGB, resized" in capsys.readouterr().err
    run_here("export", copy)
    assert "(as before)" in capsys.readouterr().err


def test_eval_finds_the_images_that_training_held_out(run: Run) -> None:
    data, out, left_out, _ = run
    dataset = datasets.load(str(data), "mnist", (12, 12, 3), runs.Run.open(out).reading)
    assert dataset.folder is not None
    assert dataset.describe()["sha256"] == runs.Run.open(out).data["sha256"]
    table = out.parent / "table.csv"
    result = run_cvae(
        *("eval", data, "-m", out, "--split", "test", "--json", "--csv", table, "--force")
    )
    figures = json.loads(result.stdout)
    assert figures["split"] == "test"
    assert figures["images"] == len(dataset.folder.names[TEST])
    names = [line.partition(",")[0] for line in table.read_text().splitlines()[1:]]
    assert names == dataset.folder.names[TEST]
    assert b"warning" in result.stderr
    assert b"not the images" not in result.stderr
    assert all(name.encode() in result.stderr for name in left_out)


def test_eval_says_when_a_folder_is_not_what_the_model_was_trained_on(
    run: Run, folder: Path
) -> None:
    result = run_cvae("eval", folder, "-m", run[1], "--split", "validation", "--json", "--limit", 2)
    assert b"not the images that tiny was trained on" in result.stderr
    assert json.loads(result.stdout)["images"] == 2


def test_eval_without_split_takes_all_and_refuses_what_does_not_fit(run: Run) -> None:
    data, out, _, _ = run
    assert b"expected" in run_cvae("eval", data, "-m", out, code=1).stderr


def test_options_for_folders_are_refused_for_other_data(tiny_data: Path, tmp_path: Path) -> None:
    for option in (("--size", "16"), ("--colour",)):
        arguments = ["train", "tiny", "--data", tiny_data, "--out", tmp_path / "run", *option]
        assert b"are for a folder" in run_cvae(*arguments, code=2).stderr
    assert not (tmp_path / "run").exists()


def test_sizes_and_colours_that_cannot_be_are_refused_before_anything_is_read(
    folder: Path, tmp_path: Path
) -> None:
    base = ["train", "tiny", "--data", folder, "--out", tmp_path / "run"]
    assert b"multiples of 4, found 30x30" in run_cvae(*base, "--size", "30", code=1).stderr
    assert b"found 'reddish'" in run_cvae(*base, "--background", "reddish", code=2).stderr
    assert not (tmp_path / "run").exists()


def test_a_damaged_reading_in_a_manifest_is_an_error(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = open_model(run[1] / "tiny.cvae")
    damage: list[Callable[[dict[str, object]], object]] = [
        lambda reading: reading.update(fit="x"),
        lambda reading: reading.update(shape=[8, 8, 1]),
        lambda reading: reading.clear(),
    ]
    for change in damage:
        reading = READING.to_json()
        change(reading)
        monkeypatch.setitem(codec.model.manifest.data, "reading", reading)
        with pytest.raises(ModelError):
            measure.reading_of(codec.model)
