"""Names of images of several inputs in one pack, and of pictures that come out of it."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

import cvae

from ..conftest import SAMPLES, run_here

LINEAR = ["--effort", "0", "-m", "linear-mnist", "--quiet"]
EITHER = pytest.mark.parametrize("more", [[], ["--workers", "1"]])


@pytest.fixture(autouse=True)
def _in_an_empty_folder(workdir: Path) -> None:
    pass


def images(*names: str) -> None:
    for number, name in enumerate(names):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(SAMPLES / f"digit_{number}.png", name)


def packed(*inputs: str, more: list[str] | None = None) -> list[str] | None:
    """The names of a pack of these inputs."""
    run_here("pack", *inputs, "-o", "out", *(more or []), *LINEAR)
    with cvae.open_pack("out") as pack:
        return pack.names


@EITHER
def test_names_that_two_folders_have_get_the_folder_before_them(more: list[str]) -> None:
    images("pa/x.png", "pa/y.png", "pa/sub/z.png", "pb/x.png", "pb/w.png", "pb/sub/z.png")
    found = packed("pa", "./pb/", more=more)
    assert found == ["pa/sub/z.png", "pa/x.png", "y.png", "pb/sub/z.png", "w.png", "pb/x.png"]
    run_here("unpack", "out", "-o", "back", "--quiet")
    back = [p.relative_to("back").as_posix() for p in Path("back").rglob("*.png")]
    assert sorted(back) == sorted(found)


FOLDERS = {
    "files and patterns": (
        ["pa/x.png", "pb/x.png", "pc/x.png", "pc/y.png"],
        ["pa/x.png", "pb/x.png", "pc/*.png"],
        ["pa/x.png", "pb/x.png", "pc/x.png", "y.png"],
    ),
    "folders of one name": (
        ["a/in/x.png", "b/in/x.png", "c/x.png", "c/in/x.png"],
        ["a/in", "b/in", "c"],
        ["a/in/x.png", "b/in/x.png", "in/x.png", "c/x.png"],
    ),
}


@EITHER
@pytest.mark.parametrize("case", FOLDERS)
def test_names_that_meet_get_the_folders_above(more: list[str], case: str) -> None:
    files, inputs, names = FOLDERS[case]
    images(*files)
    assert packed(*inputs, more=more) == names


@EITHER
def test_a_longer_name_meets_no_other(more: list[str]) -> None:
    images("up/pa/x.png", "pb/x.png", "pb/pa/x.png")
    assert packed("up/pa", "pb", more=more) == ["up/pa/x.png", "pa/x.png", "pb/x.png"]


@EITHER
def test_names_that_do_not_meet_stay(more: list[str]) -> None:
    images("pa/x.png", "pb/y.png")
    assert packed("pa", "pb", more=more) == ["x.png", "y.png"]
    shutil.rmtree("out") if more else Path("out").unlink()
    assert packed("pa", "pa/../pa/", more=more) == ["x.png", "x.png"]  # one image, given twice


@EITHER
def test_names_have_the_folders_that_are_labels(more: list[str]) -> None:
    images("in/one/x.png", "in/one/w.png", "in/zero/z.png", "in/zero/deep/y.png")
    found = packed("in/one", "in/zero", more=["--labels", "folder", *more])
    assert found == ["one/w.png", "one/x.png", "zero/deep/y.png", "zero/z.png"]
    with cvae.open_pack("out") as pack:
        assert pack.labels.tolist() == ["one", "one", "deep", "zero"]
    run_here("verify", "out", "--against", "in")
    run_here("verify", "out", "--against", "in/*/**/*.png")
    run_here("unpack", "out", "-o", "back", "--quiet")
    assert Path("back/one/w.png").is_file() and Path("back/zero/deep/y.png").is_file()


@EITHER
def test_names_of_one_folder_stay_whatever_it_labels(more: list[str]) -> None:
    images("in/x.png", "in/y.png")
    assert packed("in/x.png", "in/y.png", more=["--labels", "folder", *more]) == ["x.png", "y.png"]
    with cvae.open_pack("out") as pack:
        assert pack.labels.tolist() == ["in", "in"]


def test_a_name_that_is_there_twice_is_named_by_verify(capsys: pytest.CaptureFixture[str]) -> None:
    images("pa/x.png", "pa/y.png")
    packed("pa")
    run_here("pack", "pa/y.png", "--append", "-o", "out", *LINEAR[:2])
    capsys.readouterr()
    run_here("verify", "out", "--against", "pa", code=1)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("cvae: error: out: expected each name once")
    assert "found 'y.png' twice; an array (.npz) of the originals, in the order of the pack" in line
    with cvae.open_pack("out") as pack:
        np.savez("originals.npz", images=np.stack(list(pack)))
    run_here("verify", "out", "--against", "originals.npz")


def test_images_of_one_name_come_out_with_their_numbers() -> None:
    images("in/8.png", "in/a/8.png", "in/a/b.png", "in/c.png")
    for _ in range(3):
        more = ["--append"] if Path("x.bin").exists() else []
        run_here("pack", "in/a/8.png", "in/a/b.png", *more, "-o", "x.bin", *LINEAR[:2])
    run_here("pack", "in/c.png", "--append", "-o", "x.bin", *LINEAR[:2])
    for out, only in (("all", []), ("some", ["--only", "2,6"])):
        run_here("unpack", "x.bin", *only, "-o", out, "--quiet")
        run_here("unpack", "x.bin", *only, "-o", f"{out}.tar", "--quiet")
    expected = ["8_000000.png", "b_000001.png", "8_000002.png", "b_000003.png", "8_000004.png",
                "b_000005.png", "c.png"]  # fmt: skip
    for out, numbers in (("all", range(7)), ("some", (2, 6))):
        names = [expected[number] for number in numbers]
        assert sorted(path.name for path in Path(out).iterdir()) == sorted(names)
        with tarfile.open(f"{out}.tar") as tar:
            assert tar.getnames() == names
