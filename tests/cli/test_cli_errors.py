"""Single images on the command line: what goes wrong is one line, and leaves nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cvae

from ..cli.test_cli import DIGIT, error_line, names
from ..conftest import SAMPLES, run_cvae, run_here
from ..data.test_images import header_only


@pytest.fixture(autouse=True)
def _in_an_empty_folder(workdir: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("text.png", b"this is text"),
        ("empty.png", b""),
        ("cut.png", DIGIT.read_bytes()[:100]),
        ("giant.png", header_only(100_000, 100_000)),
        ("large.png", header_only(5_000, 5_000)),
    ],
)
@pytest.mark.parametrize("fit", [[], ["--fit"]])
def test_hostile_images_are_one_line_and_leave_nothing(
    name: str, data: bytes, fit: list[str]
) -> None:
    Path(name).write_bytes(data)
    assert name in error_line(run_cvae("encode", name, *fit, code=1))
    assert names() == [name]


def test_hostile_containers_are_one_line_and_leave_nothing() -> None:
    run_cvae("encode", DIGIT, "--quiet")
    data = Path("digit_3.bin").read_bytes()
    bits = [data[: i // 8] + bytes([data[i // 8] ^ 1 << i % 8]) + data[i // 8 + 1 :]
            for i in range(0, 8 * len(data), 5)]  # fmt: skip
    Path("bad").mkdir()
    damaged = [data[:cut] for cut in range(len(data))] + bits
    for number, item in enumerate(damaged):
        Path(f"bad/{number}.bin").write_bytes(item)
    result = run_cvae("decode", "bad", "-o", "out", "--quiet", "-v", code=1)
    lines = result.stderr.decode().splitlines()
    assert len(lines) == len(damaged)
    assert all(line.startswith("cvae: error: bad/") for line in lines)
    assert not names("out")
    Path("one.bin").write_bytes(damaged[-1])
    assert "one.bin" in error_line(run_cvae("decode", "one.bin", code=1))


def test_empty_stdin_is_one_line() -> None:
    assert "stdin" in error_line(run_cvae("encode", "-", code=1))
    assert "stdin" in error_line(run_cvae("decode", "-", code=1))


def test_missing_and_wrong_models_are_one_line() -> None:
    Path("mnist.bin").write_bytes(cvae.encode(np.asarray(Image.open(DIGIT))))
    cvae.encode_pack([Image.open(DIGIT)], "pack.bin")
    for command in (
        ["encode", DIGIT], ["decode", "mnist.bin"], ["pack", DIGIT], ["unpack", "pack.bin"],
        ["eval", DIGIT], ["denoise", DIGIT], ["sample"], ["interpolate", DIGIT, DIGIT],
    ):  # fmt: skip
        line = error_line(run_cvae(*command, "-m", "moon", code=2))
        assert "there is no model named 'moon'; known are: " in line
    Path("mnist.bin").unlink()
    Path("pack.bin").unlink()
    assert "no.cvae" in error_line(run_cvae("encode", DIGIT, "-m", "no.cvae", code=1))
    run_cvae("encode", DIGIT)
    line = error_line(run_cvae("decode", "digit_3.bin", "-m", "linear-mnist", code=1))
    assert "digit_3.bin" in line
    assert "linear-mnist" in line
    assert names() == ["digit_3.bin"]


def test_missing_inputs_and_unwritable_outputs_are_one_line() -> None:
    assert "nowhere.png" in error_line(run_cvae("encode", "nowhere.png", code=1))
    assert "nowhere.bin" in error_line(run_cvae("decode", "nowhere.bin", code=1))
    assert "nowhere" in error_line(run_cvae("eval", "nowhere", code=1))
    assert "nowhere" in error_line(run_cvae("info", "nowhere", code=2))  # a model's name
    assert "nowhere.bin" in error_line(run_cvae("info", "nowhere.bin", code=1))
    Path("file").write_text("")
    result = run_cvae("encode", DIGIT, "-o", "file/x.bin", code=1)
    assert "file" in error_line(result)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an image, alone and in a pack."""
    folder = tmp_path_factory.mktemp("made")
    shutil.copy(DIGIT, folder / "a.png")
    run_cvae("encode", DIGIT, "-o", folder / "coded.bin", "--quiet")
    run_cvae("pack", DIGIT, "-o", folder / "packed.bin", "--quiet")
    run_cvae("pack", DIGIT, SAMPLES / "digit_0.png", "-o", folder / "two.bin", "--quiet")
    (folder / "text.bin").write_text("text")
    return folder


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["encode", "a.png", "a.bin"], "a.bin is no input; name the output with -o"),
        (["encode", "a.png", "coded.bin"], "coded.bin is no input; name the output with -o"),
        (["encode", "a.png", "text.bin"], "text.bin is no input; name the output with -o"),
        (["encode", "a.png", "a.npy"], "a.npy is no input; name the output with -o"),
        (["decode", "coded.bin", "b.png"], "b.png is no input; name the output with -o"),
        (["decode", "coded.bin", "a.png"], "a.png is no input; name the output with -o"),
        (["pack", "a.png", "new.bin"], "new.bin is no input; name the output with -o"),
        (["encode", "a.png", "b.png", "-o", "x.bin"], "found several images"),
        (["encode", "a.png", "b.png", "-o", "-"], "stdout takes one image"),
        (["decode", "coded.bin", "c.bin", "-o", "x.png"], "several inputs need a folder"),
        (["decode", "coded.bin", "c.bin", "-o", "-"], "one input for stdout"),
        (["decode", "coded.bin", "-o", "coded.bin", "-f"], "input and output at once"),
        (["encode", "a.png", "-o", "b.png"], "the ending of an image; -o b.bin names one"),
        (
            ["decode", "coded.bin", "-o", "folder"],
            "-o folder: expected the ending of an image format, such as .png, found none; "
            "put a / behind it if a folder is meant",
        ),
        (
            ["decode", "coded.bin", "-o", "x.xyz"],
            "-o x.xyz: expected the ending of an image format",
        ),
        (["denoise", "a.png", "-o", "x.xyz"], "-o x.xyz: expected the ending of an image format"),
        (["sample", "-n", "1", "-o", "x.xyz"], "-o x.xyz: expected the ending of an image format"),
        (["interpolate", "a.png", "a.png", "-o", "x.bin"], "such as .png, found .bin"),
        (
            ["unpack", "packed.bin", "-o", "x.zip"],
            "-o x.zip: expected a folder, .npz, .npy or .tar",
        ),
        (["unpack", "two.bin", "-o", "x.png"], "-o x.png is one image, expected a folder, .npz"),
        (["encod", "a.png"], "No such command 'encod'. Did you mean 'encode'?"),
        (["help", "unpak"], "No such command 'unpak'. Did you mean 'unpack'?"),
        (["encode", "a.png", "--list-skipped", "-"], "expected the name of a file, found stdout"),
        (["decode", "x.npy"], "takes -m and -q"),
        (["decode", "x.npy", "-m", "mnist"], "takes -m and -q"),
        (["encode", "http://host/a.png"], "is a URL"),
        (["decode", "coded.bin", "-o", "/dev/null"], "is a device or a pipe"),
        (["unpack", "packed.bin", "--only", "5-3"], "the smaller number first"),
        (["interpolate", "-", "-"], "one image from stdin"),
    ],
)
def test_wrong_usage_exits_with_two_and_says_what_is_right(
    made: Path, command: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(made, ".", dirs_exist_ok=True)
    before = names()
    run_here(*command, code=2)
    assert message in capsys.readouterr().err
    assert names() == before


def test_what_is_no_container_says_what_helps(made: Path) -> None:
    shutil.copytree(made, ".", dirs_exist_ok=True)
    before = names()
    line = error_line(run_cvae("decode", "a.png", "-o", "b.png", code=1))
    found = "a.png: expected a container, found an image (PNG); `cvae encode a.png` codes it"
    assert line == f"cvae: error: {found}"
    line = error_line(run_cvae("merge", "coded.bin", "-o", "all.bin", code=1))
    assert line.startswith("cvae: error: coded.bin: holds one image and is no pack; ")
    assert names() == before


def test_every_command_tells_what_a_file_of_another_kind_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copy(DIGIT, "a.png")
    np.savez("m.npz", x_test=np.zeros((2, 28, 28), np.uint8))
    np.save("m.npy", np.zeros((2, 28, 28), np.uint8))
    Path("none").touch()
    ours, one, many = "a container, a pack or a model", "a container", "a pack"
    for command, file, expected, found in (
        ("info", "a.png", ours, "an image (PNG)"), ("info", "m.npy", ours, "an array"),
        ("info", "none", ours, "an empty file"), ("verify", "m.npz", ours, "an array"),
        ("verify", "a.png", ours, "an image (PNG)"), ("decode", "m.npz", one, "an array"),
        ("list", "m.npz", many, "an array"), ("unpack", "a.png", many, "an image (PNG)"),
        ("merge", "m.npz -o x.bin", many, "an array"),
    ):  # fmt: skip
        run_here(command, *file.split(), code=1)
        line = f"cvae: error: {file.split()[0]}: expected {expected}, found {found}\n"
        assert capsys.readouterr().err == line, command
    for command in ("info", "verify", "unpack", "list", "decode"):
        said = run_cvae(command, "-", stdin=Path("a.png").read_bytes(), code=1).stderr
        assert b", found an image (PNG)" in said, command


def test_python_tells_what_a_file_of_another_kind_is() -> None:
    with pytest.raises(cvae.FormatError, match=r"expected a container, found an image \(PNG\)"):
        cvae.decode(DIGIT.read_bytes())
    Path("a.bin").write_bytes(cvae.encode(np.zeros((28, 28), np.uint8)))
    with pytest.raises(cvae.FormatError, match=r"a.bin: expected a pack, found a container"):
        cvae.open_pack("a.bin")


def test_wrong_usage_exits_with_two() -> None:
    run_cvae("encode", code=2)
    run_cvae("encode", DIGIT, "-q", "101", code=2)
    run_cvae("unknown", code=2)


def test_odd_names_are_one_line() -> None:
    assert "error" in error_line(run_cvae("encode", "x" * 300, code=1))
    assert "error" in error_line(run_cvae("encode", DIGIT, "-o", "x" * 300, code=1))
    Path("c").write_text("text")
    assert "error: c:" in error_line(run_cvae("decode", "c", code=1))


def test_programs_are_not_started_for_images() -> None:
    Path("evil.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 28 28\n")
    assert "evil.png" in error_line(run_cvae("encode", "evil.png", code=1))


def test_several_inputs_do_not_make_a_folder_named_like_a_file() -> None:
    run_cvae("encode", SAMPLES, "-o", "coded", "--quiet")
    result = run_cvae("decode", "coded", "-o", "many.png", code=2)
    assert b"several inputs need a folder" in result.stderr
    assert not Path("many.png").exists()
