"""Inputs on the command line: none is lost without a word, and a bad one costs itself alone."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cvae
from cvae.bitstream import container
from cvae.bitstream.container import Container

from ..conftest import SAMPLES, run_here

DIGITS = [SAMPLES / f"digit_{i}.png" for i in range(10)]
FAST = ["--effort", "0"]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(workdir: Path) -> None:
    pass


def put(*names: str) -> None:
    """Digits as files whose endings choose the format, else PNG."""
    for number, name in enumerate(names):
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(DIGITS[number % 10]) as image:
            known = path.suffix.lower() in Image.registered_extensions()
            image.save(path, None if known else "PNG")


def listed(folder: str) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in Path(folder).rglob("*") if p.is_file())


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_files_of_a_folder_are_images_by_what_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    put("in/a.png", "in/b.jfif", "in/c.jpe", "in/d.pnm", "in/e.pbm", "in/f", "in/g.dat")
    run_here("encode", "in", "-o", "out", "--fit", *FAST)
    assert listed("out") == [f"{letter}.bin" for letter in "abcdefg"]
    run_here("pack", "in", "-o", "x.bin", "--fit", *FAST)
    assert len(cvae.open_pack("x.bin")) == 7
    with tarfile.open("in.tar", "w") as archive:
        archive.add("in")
    run_here("pack", "in.tar", "-o", "y.bin", "--fit", *FAST)
    assert len(cvae.open_pack("y.bin")) == 7
    run_here("denoise", "in", "-o", "clean", "-m", "photo-dae")
    assert len(listed("clean")) == 7
    capsys.readouterr()
    run_here("eval", "in", "-m", "photo-dae", "--noise", "0.1", "--json")
    assert json.loads(capsys.readouterr().out)["images"] == 7


@pytest.mark.parametrize(
    "command",
    [
        ["encode", "in", "-o", "out/"], ["pack", "in", "-o", "x.bin"], ["eval", "in"],
        ["pack", "in", "-o", "packs", "--workers", "1"], ["denoise", "in", "-o", "out/", "-m", "photo-dae"],
    ],
)  # fmt: skip
def test_other_files_are_passed_over_in_one_line(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    put("in/a.png", "in/b.png", "in/.hidden.png")
    for name in ("notes.txt", "labels.json", "deep/more.csv", "z.xml", ".hidden.txt"):
        Path("in", name).parent.mkdir(exist_ok=True)
        Path("in", name).write_text("text")
    run_here(*command)
    (line,) = [line for line in said(capsys) if "passed over" in line]
    assert "4 files that are no images were passed over: " in line
    names = line.rpartition(": ")[2].replace(f"{Path.cwd()}/", "")  # whole where workers read
    assert names == "in/deep/more.csv, in/labels.json, in/notes.txt, ..."


def test_other_files_among_coded_ones_are_passed_over_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    put("in/a.png")
    run_here("encode", "in", "-o", "out", *FAST)
    Path("out/notes.txt").write_text("text")
    Path("out/gone").symlink_to("nowhere")
    for command in (["decode", "out", "-o", "back"], ["verify", "out"]):
        capsys.readouterr()
        run_here(*command, code=1)
        lines = said(capsys)
        warning = "cvae: warning: 1 file that is no coded file was passed over: out/notes.txt"
        assert warning in lines
        assert "cvae: error: out/gone: is a link to nothing" in lines


def test_what_a_pattern_matches_and_is_no_file_is_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    put("in/a.png", "in/deep/b.png")
    os.mkfifo("in/pipe")
    Path("in/gone.png").symlink_to("nowhere")
    for command in (["pack", "in/*", "-o", "x.bin"], ["pack", "in/*", "-o", "y", "--workers", "1"]):
        run_here(*command, *FAST, code=1)
        lines = said(capsys)
        assert "cvae: error: in/pipe: is a pipe or a device, expected a file" in "\n".join(lines)
        assert any("in/gone.png: is a link to nothing" in line for line in lines)
        assert any("in/*: left out folders that it matches: 1" in line for line in lines)


def test_images_that_cannot_be_read_are_named_and_the_rest_is_coded(
    capsys: pytest.CaptureFixture[str],
) -> None:
    put("in/a.png", "in/z.png")
    Path("in/b.jpg").write_text("text")
    Path("in/c.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    Path("in/d.xyz").write_bytes(b"8BPS" + bytes(40))
    Path("in/gone.png").symlink_to("nowhere")
    os.mkfifo("in/pipe.png")
    for command in (
        ["encode", "in", "-o", "out"], ["pack", "in", "-o", "x.bin"], ["eval", "in"],
        ["eval", "in", "-m", "photo-dae", "--noise", "0.1"],
        ["pack", "in", "-o", "packs", "--workers", "1"],
        ["denoise", "in", "-o", "clean", "-m", "photo-dae"],
    ):  # fmt: skip
        run_here(*command, *(FAST if command[0] == "pack" else []), code=1)
        errors = [line for line in said(capsys) if "error" in line]
        assert len(errors) == 5, errors
        for name in ("b.jpg", "c.heic", "d.xyz", "gone.png", "pipe.png"):
            assert any(f"in/{name}: " in line for line in errors), name
        assert any("found HEIC, a format that is not read" in line for line in errors)
        assert any("found PSD" in line for line in errors)
    assert listed("out") == ["a.bin", "z.bin"]
    assert len(listed("clean")) == 2
    assert len(cvae.open_pack("x.bin")) == len(cvae.open_pack("packs")) == 2


def test_single_files_are_chosen_by_patterns_too(capsys: pytest.CaptureFixture[str]) -> None:
    put("in/a.png", "in/b.png", "in/deep/c.png")
    run_here("encode", "in/*.png", "-o", "out", *FAST)
    run_here("decode", "out/*", "-o", "back")
    assert sorted(path.name for path in Path("back").iterdir()) == [
        "a_reconstructed.png", "b_reconstructed.png",
    ]  # fmt: skip
    run_here("denoise", "in/**/*.png", "-o", "clean", "--quiet")
    assert len([*Path("clean").iterdir()]) == 3
    Path("in/[x].png").write_bytes(Path("in/a.png").read_bytes())
    run_here("encode", "in/[x].png", "-o", "x.bin", *FAST)  # the name of a file
    capsys.readouterr()
    run_here("encode", "in/*.jpg", code=1)
    assert said(capsys) == ["cvae: error: in/*.jpg: matches no files"]
    run_here("encode", "in/a*", "-o", "-", code=2)
    assert "; `cvae pack 'in/a*' -o -` writes one pack, -o NAME/ makes" in capsys.readouterr().err
    run_here("encode", "in/*.png", "-o", "in/a.png", "-f", code=2)


def test_a_folder_without_images_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    Path("in").mkdir()
    Path("in/notes.txt").write_text("text")
    for command in (["encode", "in"], ["pack", "in"], ["eval", "in"], ["denoise", "in"]):
        run_here(*command, code=1)
        lines = said(capsys)
        assert "cvae: error: in: expected" in lines[0]
        assert lines[1:] in (
            [],
            ["cvae: warning: 1 file that is no image was passed over: in/notes.txt"],
        )


def test_linked_folders_are_read_once_and_the_rest_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    put("in/a.png", "beside/b.png")
    Path("in/link").symlink_to("../beside")
    Path("in/loop").symlink_to(".")
    run_here("encode", "in", "-o", "out", *FAST)
    assert listed("out") == ["a.bin", "link/b.bin"]
    assert any("in/loop: leads to a folder that is read elsewhere" in line for line in said(capsys))
    run_here("pack", "in", "-o", "x.bin", *FAST)
    assert len(cvae.open_pack("x.bin")) == 2


def test_links_in_a_tar_are_images_as_in_its_folder(capsys: pytest.CaptureFixture[str]) -> None:
    put("in/a.png", "in/d.png")
    os.link("in/a.png", "in/b.png")
    Path("in/c.png").symlink_to("a.png")
    with tarfile.open("in.tar", "w") as archive:
        archive.add("in")
    run_here("pack", "in", "-o", "x.bin", *FAST)
    run_here("pack", "in.tar", "-o", "y.bin", *FAST)
    run_here("verify", "y.bin", "--against", "in.tar")
    assert len(cvae.open_pack("x.bin")) == len(cvae.open_pack("y.bin")) == 4


@pytest.mark.parametrize("command", ["encode", "denoise"])
def test_results_of_one_stem_keep_their_endings_and_the_others_are_short(command: str) -> None:
    put("in/c32.webp", "in/c32.jpg", "in/c32.webp.png", "in/other.png")
    model = ["-m", "photo-dae"] if command == "denoise" else ["--fit", *FAST]
    run_here(command, "in", "-o", "out", *model)
    end = ".bin" if command == "encode" else "_denoised.png"
    stems = ["c32.jpg", "c32.webp", "c32.webp.png", "other"]
    assert listed("out") == sorted(f"{stem}{end}" for stem in stems)


def test_results_of_one_name_in_several_folders_go_to_folders() -> None:
    put("one/a.png", "two/a.png", "two/b.png")
    run_here("encode", "one/a.png", "two/a.png", "two/b.png", *FAST)
    assert listed(".")[:2] == ["b.bin", "one/a.bin"]
    run_here("encode", "one", "two", "-o", "out", *FAST)
    assert listed("out") == ["b.bin", "one/a.bin", "two/a.bin"]
    run_here("decode", "out/one/a.bin", "out/two/a.bin", "-o", "back")
    assert listed("back") == ["one/a_reconstructed.png", "two/a_reconstructed.png"]
    run_here("encode", "one/a.png", "./one/a.png", "one", "-o", "once", *FAST)
    assert listed("once") == ["a.bin"]


def test_containers_of_one_stem_are_verified_each_against_its_original(
    capsys: pytest.CaptureFixture[str],
) -> None:
    put("in/a.png", "in/a.bmp", "in/b.png")
    run_here("encode", "in", "-o", "out", *FAST)
    capsys.readouterr()
    run_here("verify", "out", "--against", "in", "--json")
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["images"], found["missing"], found["lost"]) == (3, 0, 0)
    assert found["psnr_mean"] > 15


def test_results_that_cannot_be_written_are_named_and_the_rest_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    put("in/a.png", f"in/{'x' * 240}.png", "in/c.png")
    run_here("encode", "in", "-o", "coded", *FAST)
    Path("back").mkdir()
    Path("back/a_reconstructed.png").mkdir()
    capsys.readouterr()
    run_here("decode", "coded", "-o", "back", "--force", code=1)
    lines = [line for line in said(capsys) if "error" in line]
    assert len(lines) == 2
    assert "is a folder" in lines[0] + lines[1]
    assert "name too long" in lines[0] + lines[1]
    assert listed("back") == ["c_reconstructed.png"]


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (MemoryError(), "needs more memory than there is"),
        (cvae.ModelError("the network fails"), "the network fails"),
        (cvae.ImageError("expected another picture"), "expected another picture"),
        (cvae.CvaeError("what nobody thought of"), "what nobody thought of"),
    ],
)
def test_a_picture_that_cannot_be_coded_is_named_and_the_rest_is_coded(
    wrong: Exception, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put("in/a.png", "in/b.png", "in/c.png")
    before, bad = cvae.Codec.encode_batch, np.asarray(Image.open("in/b.png"))

    def encode_batch(self: cvae.Codec, batch: np.ndarray, *more: object) -> object:
        if any(np.array_equal(image[..., 0], bad) for image in batch):
            raise wrong
        return before(self, batch, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(cvae.Codec, "encode_batch", encode_batch)
    run_here("encode", "in", "-o", "out", *FAST, code=1)
    assert listed("out") == ["a.bin", "c.bin"]
    lines = said(capsys)
    assert lines[0] == f"cvae: error: in/b.png: {text}"
    assert "2 of 3 images encoded" in lines[1]


def test_a_file_that_cannot_be_decoded_beside_others_spares_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put("in/a.png", "in/b.png", "in/c.png")
    run_here("encode", "in", "-o", "out", *FAST, "--quiet")
    before, bad = cvae.Codec.synthesized, container.unpack(Path("out/b.bin").read_bytes())

    def synthesized(self: cvae.Codec, containers: list[Container], symbols: list[object]) -> object:
        if bad in containers:
            raise MemoryError
        return before(self, containers, symbols)  # type: ignore[arg-type]

    monkeypatch.setattr(cvae.Codec, "synthesized", synthesized)
    run_here("decode", "out", "-o", "back", code=1)
    assert listed("back") == ["a_reconstructed.png", "c_reconstructed.png"]
    assert said(capsys)[0] == "cvae: error: out/b.bin: needs more memory than there is"


def test_a_bad_image_of_a_folder_spares_the_evaluation_of_the_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    put("in/a.png", "in/c.png")
    Path("in/b.png").write_bytes(Path("in/a.png").read_bytes()[:80])
    Image.new("L", (9, 9)).save("in/d.png")
    for model in ("mnist", "photo"):
        run_here("eval", "in", "--json", "-m", model, *FAST, code=1)
        out, err = capsys.readouterr()
        lines = [line for line in err.splitlines() if "error" in line]
        assert json.loads(out)["images"] == (2 if model == "mnist" else 3)
        assert "in/b.png: " in lines[0]
        assert len(lines) == (2 if model == "mnist" else 1)
    run_here("eval", "in/b.png", code=1)
    assert len(said(capsys)) == 1


def stack(name: str) -> None:
    frames = [Image.open(path).convert("L") for path in DIGITS[:5]]
    Path(name).parent.mkdir(exist_ok=True)
    frames[0].save(name, save_all=True, append_images=frames[1:])


@pytest.mark.parametrize(
    "command",
    [
        ["encode", "in/x.tif", "-o", "x.bin"], ["encode", "in", "-o", "out"],
        ["pack", "in", "-o", "x.bin"], ["pack", "in", "-o", "packs", "--workers", "1"],
        ["eval", "in"], ["eval", "in/x.tif", "-m", "photo-dae", "--noise", "0.1"],
        ["denoise", "in", "-o", "clean", "-m", "photo-dae"],
    ],
)  # fmt: skip
def test_pages_that_are_left_out_are_said(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    stack("in/x.tif")
    run_here(*command)
    (line,) = [line for line in said(capsys) if "the first of" in line]
    assert "in/x.tif: the first of 5 pages; `cvae pack --pages` takes all" in line


@pytest.mark.parametrize("workers", [[], ["--workers", "1"]])
def test_all_pages_are_packed_verified_and_come_back(
    workers: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    stack("in/x.tif")
    put("in/y.png")
    run_here("pack", "in", "--pages", "-o", "packed", *FAST, *workers)
    assert "the first of" not in capsys.readouterr().err
    run_here("unpack", "packed", "-o", "back")
    assert listed("back") == [f"x.tif/{i:03}.png" for i in range(5)] + ["y.png"]
    capsys.readouterr()
    run_here("verify", "packed", "--against", "in", "--json")
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["images"], found["missing"]) == (6, 0)
    assert found["psnr_mean"] > 15


def test_pictures_of_one_stem_come_out_of_a_pack_under_their_own_names() -> None:
    put("in/a.png", "in/b.png", "in/c.png")
    Image.open("in/b.png").convert("L").transpose(Image.Transpose.ROTATE_180).save("in/a.jpg")
    run_here("pack", "in", "-o", "x.bin", *FAST)
    run_here("unpack", "x.bin", "-o", "back")
    assert listed("back") == ["a.jpg.png", "a.png.png", "b.png", "c.png"]
    for name in ("a.jpg", "a.png"):
        first, second = (
            np.asarray(Image.open(path).convert("L"), int)
            for path in (f"in/{name}", f"back/{name}.png")
        )
        assert np.abs(first - second).mean() < 20


def test_the_pack_of_the_current_folder_is_named_after_it() -> None:
    put("in/a.png")
    os.chdir("in")
    run_here("pack", ".", *FAST)
    assert listed(".") == ["a.png", "in.bin"]


def test_pages_of_large_photographs_are_shrunk_one_by_one() -> None:
    Path("in").mkdir()
    pages = [Image.new("RGB", (1600, 900), colour) for colour in ("teal", "maroon")]
    pages[0].save("in/m.jpg", "MPO", save_all=True, append_images=pages[1:])
    run_here("pack", "in", "--pages", "-m", "cifar", "--fit", "-o", "x.bin", *FAST)
    assert len(cvae.open_pack("x.bin")) == 2


def test_a_pack_that_is_packed_again_keeps_the_original_sizes() -> None:
    Image.new("RGB", (64, 48), "teal").save("a.png")
    run_here("pack", "a.png", "-m", "cifar", "--fit", "-o", "one.bin", *FAST)
    run_here("pack", "one.bin", "-m", "cifar", "--fit", "-o", "two.bin", *FAST)
    run_here("unpack", "two.bin", "-o", "back")
    assert Image.open("back/a.png").size == (64, 48)
