"""Packs where single images are expected, and the reverse: the message names the command that fits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ..cli.test_packs import FAST, NAMES, errors, listed, tar_of
from ..conftest import ROOT, SAMPLES, run_cvae, run_here


@pytest.fixture(autouse=True)
def _in_an_empty_folder(workdir: Path) -> None:
    pass


def test_a_pack_among_other_files_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    run_here("pack", SAMPLES, "-o", "x.bin", *FAST)
    run_here("encode", SAMPLES / NAMES[0], "-o", "y.bin", *FAST)
    capsys.readouterr()
    run_here("decode", "x.bin", "y.bin", "-o", "back", "--quiet", code=1)
    (line,) = errors(capsys)
    assert line == "cvae: error: x.bin: holds many images; `cvae unpack x.bin` decodes it"
    assert listed("back") == ["y_reconstructed.png"]


def test_an_archive_in_zstd_says_how_it_is_unpacked(capsys: pytest.CaptureFixture[str]) -> None:
    Path("x.tar.zst").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(100))
    run_here("pack", "x.tar.zst", "-o", "x.bin", code=1)
    (line,) = errors(capsys)
    assert "x.tar.zst: expected an image, found zstd, which is not read; `zstd -dc FILE |" in line


def test_decode_answers_a_pack_with_the_command_that_fits(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_here("pack", SAMPLES, "-o", "a b.bin", *FAST)
    data = bytearray(Path("a b.bin").read_bytes())
    data[0] ^= 0xFF  # the end still says what it is
    Path("damaged.bin").write_bytes(data)
    Path("coded").mkdir()
    Path("coded/part-00000.bin").write_bytes(Path("a b.bin").read_bytes())
    for source, typed in (
        ("a b.bin", "'a b.bin'"), ("damaged.bin", "damaged.bin"), ("coded", "coded"),
    ):  # fmt: skip
        run_here("decode", source, "-o", "back", code=1)
        (line,) = errors(capsys)
        assert line == (
            f"cvae: error: {source}: holds many images; `cvae unpack {typed}` decodes it"
        )
    line = run_cvae(
        "decode", "-", "-o", "x.png", stdin=Path("a b.bin").read_bytes(), code=1
    ).stderr.decode()
    assert line == "cvae: error: stdin: holds many images; `cvae unpack -` decodes it\n"
    assert listed(".") == ["a b.bin", "coded/part-00000.bin", "damaged.bin"]


def test_unpack_answers_a_container_with_the_command_that_fits(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_here("encode", SAMPLES, "-o", "coded", *FAST)
    one = "coded/digit_0.bin"
    for source, found in (
        (one, "holds one image and is no pack"),
        (
            "coded",
            "expected a pack, or a folder of packs with its manifest.json, found another folder",
        ),
    ):
        run_here("unpack", source, code=1)
        (line,) = errors(capsys)
        assert line.startswith(f"cvae: error: {source}: {found}; `cvae decode {source}` decodes ")
    line = run_cvae("unpack", "-", stdin=Path(one).read_bytes(), code=1).stderr.decode()
    assert "stdin: holds one image and is no pack; `cvae decode -` decodes it" in line
    assert len(listed(".")) == 10


def test_encode_answers_many_images_for_one_file_with_the_command_that_fits(
    digits: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("x.tar").write_bytes(tar_of(SAMPLES))
    one = str(SAMPLES / NAMES[0])
    for arguments, typed in (
        (["digits.npz"], "digits.npz"),
        (["x.tar"], "x.tar"),
        ([one, "digits.npz"], f"{one} digits.npz -o NAME.bin"),
        (["digits.npz", "-o", "many.bin"], "digits.npz -o many.bin"),
        (["s3://bucket/in/", "-o", "many.bin"], "s3://bucket/in/ -o many.bin"),
        ([str(SAMPLES), "-o", "many.bin"], f"{SAMPLES} -o many.bin"),
        ([str(SAMPLES), "-o", "-"], f"{SAMPLES} -o -"),
        ([*[one] * 5, "-o", "many.bin"], f"{one} {one} {one} ... -o many.bin"),
    ):
        run_here("encode", *arguments, code=2 if "-o" in arguments and "npz" not in typed else 1)
        line = capsys.readouterr().err.splitlines()[-1]
        assert f"; `cvae pack {typed}` writes one pack" in line
    line = run_cvae("encode", "-", stdin=tar_of(SAMPLES), code=1).stderr.decode()
    assert "stdin: holds many images; `cvae pack -` writes one pack" in line
    line = run_cvae("pack", "-", stdin=Path(one).read_bytes(), code=1).stderr.decode()
    assert "stdin: expected a tar archive; `cvae encode -` takes one image" in line
    assert listed(".") == ["digits.npz", "x.tar"]


def test_what_is_coded_already_is_answered_with_the_command_that_reads_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    one, model = str(SAMPLES / NAMES[0]), str(ROOT / "weights" / "linear-mnist.cvae")
    run_here("encode", one, "-o", "one.bin", *FAST)
    run_here("pack", SAMPLES, "-o", "many.bin", *FAST)
    capsys.readouterr()
    for command, output in (("encode", "out/"), ("denoise", "out/"), ("pack", "out.bin")):
        for source, found, reader in (
            ("one.bin", "a container", "decode"),
            ("many.bin", "a pack", "unpack"),
            (model, "a model", "info"),
        ):
            if (command, source) == ("pack", "many.bin"):
                continue  # which decodes it
            run_here(command, source, "-o", output, code=1)
            (line,) = errors(capsys)
            text = f"{source}: expected an image, found {found}; `cvae {reader} {source}` reads it"
            assert line == f"cvae: error: {text}"
    assert listed(".") == ["many.bin", "one.bin"]
    run_here("encode", one, "many.bin", "-o", "out/", *FAST, code=1)
    assert listed("out") == ["digit_0.bin"]


@pytest.mark.parametrize(
    "command",
    [
        ("encode", "x.png", "-o", "s3://bucket/x.bin"), ("decode", "http://host/x.bin"),
        ("denoise", "http://host/x.png"), ("sample", "-o", "s3://bucket/x.png"),
    ],
)  # fmt: skip
def test_a_url_of_a_single_file_is_refused(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    run_here(*command, code=2)
    line = capsys.readouterr().err.splitlines()[-1]
    assert "://" in line
    assert "is a URL, " in line
    assert "`cvae pack" in line
    assert listed(".") == []
