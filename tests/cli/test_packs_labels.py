"""Labels of packs on the command line: added to, put together, and what is said where they are lost."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest

import cvae

from ..conftest import SAMPLES, blobs, run_here

LINEAR = ["--effort", "0", "-m", "linear-mnist"]
QUIET = [*LINEAR, "--quiet"]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(workdir: Path) -> None:
    pass


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err


def archive(path: str, *names: str) -> None:
    """Digits, with a label where a name is one of a label."""
    with tarfile.open(path, "w") as tar:
        for number, name in enumerate(names):
            image = (SAMPLES / f"digit_{number % 10}.png").read_bytes()
            data = b"7" if name.endswith((".cls", ".json")) else image
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def of_every_kind() -> dict[str, list[str]]:
    """What `cvae pack` is given for packs without names that differ in their labels alone."""
    x = blobs(3, side=28)[..., 0]
    for dtype in ("uint8", "int64"):
        np.savez(f"{dtype}.npz", x_test=x, y_test=np.arange(3, dtype=dtype))
    archive("cls.tar", "0.cls", "0.png", "1.png")
    archive("both.tar", "0.cls", "0.png", "1.json", "1.png")
    Path("in").mkdir()
    shutil.copy(SAMPLES / "digit_1.png", "in")
    return {
        "no labels": ["uint8.npz", "--labels", "none"], "labels y_test:uint8": ["uint8.npz"],
        "labels y_test:int64": ["int64.npz"], "labels cls": ["cls.tar"],
        "labels cls, json": ["both.tar"], "labels folder": ["in", "--labels", "folder"],
    }  # fmt: skip


def test_labels_of_other_fields_are_neither_added_nor_merged(
    capsys: pytest.CaptureFixture[str],
) -> None:
    kinds = of_every_kind()
    for number, arguments in enumerate(kinds.values()):
        run_here("pack", *arguments, "-o", f"{number}.bin", "--no-names", *QUIET)
    for number, expected in enumerate(kinds):
        before = Path(f"{number}.bin").read_bytes()
        for other, (found, arguments) in enumerate(kinds.items()):
            capsys.readouterr()
            if other == number:
                continue
            run_here("pack", *arguments, "--append", "-o", f"{number}.bin", "--effort", "0", code=1)
            (line,) = said(capsys).splitlines()
            error = f"cvae: error: {number}.bin: expected {expected} of all images, found {found}"
            advice = {
                "no labels": "; --labels none leaves them out",
                "labels folder": "; --labels folder takes them",
            }
            assert line == error + advice.get(expected, "")
            assert Path(f"{number}.bin").read_bytes() == before
            run_here("merge", f"{number}.bin", f"{other}.bin", "-o", "all.bin", code=1)
            (line,) = said(capsys).splitlines()
            wanted, is_so = expected, found
            if "no labels" in (expected, found):  # which the headers say
                wanted, is_so = (
                    text if text == "no labels" else "labels" for text in (wanted, is_so)
                )
            text = f"{other}.bin: expected {wanted} as in {number}.bin, found {is_so}"
            assert line == f"cvae: error: {text}"
    assert not Path("all.bin").exists()


def test_labels_of_the_same_fields_are_added_and_merged() -> None:
    for number, arguments in enumerate(of_every_kind().values()):
        for name in ("a.bin", "b.bin"):
            run_here("pack", *arguments, "-o", name, "--force", *QUIET)
        with cvae.open_pack("a.bin") as pack:
            labels = [] if pack.labels is None else list(pack.labels)
        assert bool(labels) == (number > 0)
        run_here("pack", *arguments, "--append", "-o", "a.bin", "--effort", "0", "--quiet")
        run_here("merge", "b.bin", "b.bin", "-o", "c.bin", "--force", "--quiet")
        assert Path("a.bin").read_bytes() == Path("c.bin").read_bytes()
        with cvae.open_pack("a.bin") as pack:
            assert (labels and list(pack.labels)) == labels * 2


def test_a_shard_of_other_labels_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    kinds = of_every_kind()
    inputs = [*kinds["labels y_test:uint8"], *kinds["labels cls"]]
    run_here("pack", *inputs, "-o", "out", "--workers", "1", "--no-names", *QUIET)
    run_here("merge", "out", "-o", "all.bin", code=1)
    text = "out: part-00001.bin: expected labels y_test:uint8 as in out, found labels cls"
    assert text in said(capsys)
    assert not Path("all.bin").exists()


def test_labels_are_compared_over_all_blocks() -> None:
    """One that begins without `.json` may have some further on."""
    archive("a.tar", "0.cls", "0.png", "1.cls", "1.png", "2.json", "2.png")
    archive("b.tar", "0.json", "0.png", "1.cls", "1.png", "2.json", "2.png")
    for name in "ab":
        run_here("pack", f"{name}.tar", "--block-images", "2", *QUIET)
    run_here("merge", "a.bin", "b.bin", "-o", "all.bin", "--quiet")
    run_here("pack", "a.tar", "--append", "-o", "b.bin", "--block-images", "2", "--effort", "0")
    with cvae.open_pack("b.bin") as pack:
        assert len(pack) == 6


@pytest.mark.parametrize("more", [[], ["--workers", "1"]])
def test_files_of_labels_that_lie_elsewhere_are_counted(
    more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"{number}.png" for number in range(3)]
    archive("in.tar", *names, "0.cls", "1.cls", "1.json", "2.cls")
    arguments = [*LINEAR, *more, "-o", "out", "--list-skipped", "skipped.txt"]
    run_here("pack", "in.tar", *arguments)
    text = said(capsys).replace(f"{Path.cwd()}/", "")  # workers have whole paths
    counted = "4 label files were not kept, as no image of the same name lies next to them"
    assert f"warning: {counted} in the archive: in.tar: 0.cls, in.tar: 1.cls, " in text
    assert "in.tar: 1.json, ...; `tar --sort=name` writes them side by side" in text
    assert "label kept" not in text
    with cvae.open_pack("out") as pack:
        assert pack.labels is None
    assert "in.tar: 2.cls\tis no label next to its image" in Path("skipped.txt").read_text()
    archive("one.tar", "0.cls", "0.png", "1.png", "1.json", "2.cls")
    run_here("pack", "one.tar", *LINEAR)
    text = said(capsys)
    assert (
        "warning: 1 label file was not kept, as no image of the same name lies next to it" in text
    )
    assert "2 labels kept" in text


def test_sorted_archives_have_labels_where_they_belong() -> None:
    Path("in").mkdir()
    for number in range(12):
        shutil.copy(SAMPLES / f"digit_{number % 10}.png", f"in/{number}.png")
        Path(f"in/{number}.cls").write_text(str(number))
    subprocess.run(["tar", "--sort=name", "-cf", "in.tar", "-C", "in", "."], check=True)
    run_here("pack", "in.tar", *QUIET)
    with cvae.open_pack("in.bin") as pack:
        assert [f"{label}.png" for label in pack.labels] == pack.names


def test_unpack_says_which_labels_it_leaves_out(capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("cat", "dog"):
        Path("in", folder).mkdir(parents=True)
        shutil.copy(SAMPLES / "digit_1.png", Path("in", folder, f"{folder}.png"))
    archive("cls.tar", "0.cls", "0.png", "1.png")
    run_here("pack", "in", "--labels", "folder", "-o", "named.bin", *QUIET)
    run_here("pack", "in/cat", "in/dog", "--labels", "folder", "-o", "two.bin", *QUIET)
    run_here("pack", "in/cat", "--labels", "folder", "-o", "bare.bin", *QUIET)
    run_here("pack", "cls.tar", "-o", "cls.bin", *QUIET)
    folders = "labels folder: no file holds them, so they were left out, but for folders in names"
    others = "labels are written to .npz and .tar alone"
    for pack, output, text in (
        ("named", "x.tar", ""), ("bare", "x.tar", folders), ("bare", "x", folders),
        ("two", "x.tar", ""), ("two", "x", ""), ("named", "x", ""),
        ("named", "x.npy", others), ("cls", "x", others), ("cls", "x.tar", ""),
        ("cls", "x.npz", "labels cls: no array holds them, so they were left out"),
        ("named", "x.npz", ""),
    ):  # fmt: skip
        capsys.readouterr()
        run_here("unpack", f"{pack}.bin", "-o", output, "--force")
        warnings = [line for line in said(capsys).splitlines() if "warning" in line]
        where = "" if output.endswith(".npz") else f"{output}: "
        assert warnings == ([f"cvae: warning: {where}{text}"] if text else [])
        shutil.rmtree(output) if output == "x" else Path(output).unlink()
    run_here("unpack", "named.bin", "-o", "x.npz", "--quiet")
    assert np.load("x.npz")["y_folder"].tolist() == ["cat", "dog"]
    for name in ("named", "two"):
        run_here("unpack", f"{name}.bin", "-o", f"{name}.tar", "--quiet")
        run_here(
            "pack", f"{name}.tar", "--labels", "folder", "-o", f"{name}.bin", "--force", *QUIET
        )
        with cvae.open_pack(f"{name}.bin") as again:
            assert again.labels.tolist() == ["cat", "dog"]


@pytest.mark.parametrize("more", [[], ["--shard-images", "3"]])
@pytest.mark.parametrize(
    ("images", "named", "where"),
    [
        ("images", "labels", "y_*"), ("train_images", "train_labels", "y_*"), ("X_test", "Y_test", "y_*"),
        ("x_test", "labels", "y_test"), ("x_test", "y_fine", "y_test"),
    ],
)  # fmt: skip
def test_labels_of_other_names_are_said_to_be_left_out(
    images: str, named: str, where: str, more: list[str], capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    x, y = blobs(4, side=28)[..., 0], np.arange(4)
    others = {"numbers": y, "scores": y / 2, "few": y[:3], "x_train": x, "y_train": y}
    objects = np.array([None] * 4)
    np.savez("in.npz", **{images: x, named: y, **others, "objects": objects})
    arguments = ["pack", "in.npz", "--key", images, "-o", "out", *LINEAR]
    run_here(*arguments, *more)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "left out" in line]
    text = f"in.npz: {named}: 4 integers were left out, since labels are arrays {where}"
    assert line.startswith("cvae: warning: ")
    assert line.endswith(text)
    run_here(*arguments, *more, "--force", "--labels", "none")
    assert "left out" not in capsys.readouterr().err
