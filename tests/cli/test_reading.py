"""How commands read pictures that the model does not code as they are: as its training did."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cvae
from cvae.bitstream import container

from ..conftest import run_cvae, run_here
from ..cropped import CLEAR, picture, write_model


@pytest.fixture
def model(workdir: Path) -> str:
    return write_model("own.cvae")


def warnings_of(said: str) -> set[str]:
    """What was said of images that were changed."""
    return {line for line in said.splitlines() if "laid on" in line or "to 28x28" in line}


def mean_of(path: str) -> float:
    return float(np.asarray(Image.open(path).convert("L")).mean())


def test_encode_reads_as_training_did_and_says_what_was_lost(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    picture().save("a.png")
    run_here("encode", "a.png", "-m", model)
    said = capsys.readouterr().err
    for change in ("transparent parts laid on #ffffff", "cropped and scaled to 28x28"):
        assert f"a.png: {change}" in said
    assert container.unpack(Path("a.bin").read_bytes()).original_size == (20, 20)
    run_here("decode", "a.bin", "-m", model, "--quiet")
    assert Image.open("a_reconstructed.png").size == (20, 20)
    assert mean_of("a_reconstructed.png") > 150


def test_only_what_was_cropped_is_said_to_be(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for size, said in (
        ((30, 30), "scaled to 28x28"), ((44, 28), "cropped to 28x28"),
        ((44, 30), "cropped and scaled to 28x28"), ((28, 28), ""),
    ):  # fmt: skip
        Image.new("L", size, 90).save("a.png")
        run_here("encode", "a.png", "-m", model, "-f")
        assert warnings_of(capsys.readouterr().err) == (
            {f"cvae: warning: a.png: {said}"} if said else set()
        )


def test_a_picture_of_its_background_alone_is_named(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    picture(colour=(255, 255, 255, 255)).crop((4, 0, 40, 20)).save("white.png")
    run_here("encode", "white.png", "-m", model)
    assert "white.png: nothing is seen on #ffffff" in capsys.readouterr().err
    Image.new("RGBA", (28, 28), (255, 0, 0, 128)).save("pink.png")
    run_here("encode", "pink.png", "-m", model)
    assert "nothing is seen" not in capsys.readouterr().err
    run_here("encode", "white.png", "-m", model, "--background", "black", "-f")
    assert "nothing is seen" not in capsys.readouterr().err


def test_options_choose_otherwise(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    picture().save("a.png")
    run_here("encode", "a.png", "-m", model, "--resize", "--background", "black")
    assert "transparent parts laid on #000000" in capsys.readouterr().err
    assert container.unpack(Path("a.bin").read_bytes()).original_size == (40, 20)
    run_here("decode", "a.bin", "-m", model, "--quiet")
    assert mean_of("a_reconstructed.png") < 100


def test_pack_eval_and_verify_read_alike(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("in").mkdir()
    for number in range(3):
        picture((40 + 10 * number, 20)).save(f"in/{number}.png")
    run_here("pack", "in", "-m", model, "-o", "p.bin")
    said = capsys.readouterr().err
    assert "3 images: transparent parts laid on #ffffff: 0.png, 1.png, 2.png" in said
    run_here("eval", "in", "-m", model, "--json")
    told = capsys.readouterr()
    evaluated = json.loads(told.out)
    assert warnings_of(told.err) == warnings_of(said)
    run_here("verify", "p.bin", "--against", "in", "-m", model, "--json")
    told = capsys.readouterr()
    (verified,) = json.loads(told.out)
    assert warnings_of(told.err) == warnings_of(said)
    run_here("encode", "in", "-m", model, "-o", "single/", "--quiet")
    run_here("verify", "single", "--against", "in", "-m", model, "--json")
    told = capsys.readouterr()
    assert json.loads(told.out)[0]["psnr_mean"] == pytest.approx(evaluated["psnr_mean"], abs=0.05)
    assert warnings_of(told.err) == warnings_of(said)
    assert verified["psnr_mean"] == pytest.approx(evaluated["psnr_mean"], abs=0.05)
    run_here("pack", "in", "-m", model, "-o", "folder", "--workers", "1", "--quiet")
    run_here("verify", "folder", "--against", "in", "-m", model, "--json")
    (again,) = json.loads(capsys.readouterr().out)
    assert again["psnr_mean"] == pytest.approx(verified["psnr_mean"], abs=1e-6)


def test_what_is_lost_of_arrays_is_said_once(
    workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 28, 28, 3), np.uint8)
    pixels[0] = pixels[0, ..., :1]  # grey pixels lose nothing
    np.save("x.npy", pixels)
    np.savez("x.npz", pixels)
    fast = ["-m", "linear-mnist", "--fit", "--effort", "0"]
    for name in ("x.npy", "x.npz"):
        label = name if name == "x.npy" else "x.npz: arr_0"
        said = f"cvae: warning: 4 images: colours made grey: {label}"
        run_here("pack", name, "-o", "x.bin", "-f", *fast)
        assert said in capsys.readouterr().err.splitlines()
        run_here("eval", name, "--json", *fast)
        assert capsys.readouterr().err.splitlines() == [said]
        run_here("verify", "x.bin", "--against", name)
        (line,) = capsys.readouterr().err.splitlines()  # with its whole path
        assert line.endswith(label)
        assert line.startswith("cvae: warning: 4 images: colours made grey: ")
    run_here("pack", "x.npy", "-o", "many", "--shard-images", "3", "--workers", "1", *fast)
    said = "4 images: colours made grey: part-00000.bin, part-00001.bin"
    assert f"cvae: warning: {said}" in capsys.readouterr().err.splitlines()


@pytest.mark.parametrize(
    ("shape", "advice"),
    [
        ((3, 28, 28, 4), "x[..., :3] drops the alpha of RGBA"),
        ((3, 28, 28, 2), "x[..., :1] drops the alpha of grey"),
        ((3, 28, 28, 5), "x[..., :3] takes three of the channels"),
        ((3, 3, 28, 28), "np.moveaxis(x, 1, -1) puts the channels last"),
    ],
)
def test_arrays_of_other_channels_get_advice_that_helps(
    workdir: Path, capsys: pytest.CaptureFixture[str], shape: tuple[int, ...], advice: str
) -> None:
    pixels = np.zeros(shape, np.uint8)
    np.save("x.npy", pixels)
    for command in (["pack", "x.npy", "-o", "x.bin"], ["eval", "x.npy", "-m", "photo"]):
        run_here(*command, code=1)
        (line,) = capsys.readouterr().err.splitlines()
        assert "x.npy: expected images (h, w), (h, w, 1) or (h, w, 3), found (" in line
        assert f"; {advice}" in line
        assert "--fit" not in line
    better = (
        np.moveaxis(pixels, 1, -1) if shape[1] == 3 else pixels[..., : 1 if shape[3] == 2 else 3]
    )
    np.save("y.npy", better)
    run_here("pack", "y.npy", "-o", "y.bin", "-m", "linear-mnist", "--fit", "--quiet")


def test_images_of_eval_that_cannot_be_read_are_named_and_counted(
    workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in").mkdir()
    for number in range(3):
        Image.new("L", (28, 28)).save(f"in/{number}.png")
    Path("in/1.png").write_bytes(b"no image")
    run_here("eval", "in", "-m", "linear-mnist", "--effort", "0", code=1)
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("cvae: error: in/1.png: ")
    assert last == "2 of 3 images measured"


def test_a_folder_of_packs_says_what_was_lost(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in").mkdir()
    for number in range(2):
        picture().save(f"in/{number}.png")
    run_here("pack", "in", "-m", model, "-o", "folder", "--workers", "1")
    assert "2 images: transparent parts laid on #ffffff" in capsys.readouterr().err


def test_a_model_without_a_folder_lays_images_on_what_is_named(
    workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture((28, 28)).save("a.png")
    run_here("encode", "a.png", "-m", "mnist", code=1)
    assert "--background" in capsys.readouterr().err
    run_here("encode", "a.png", "-m", "mnist", "--background", "white")
    assert "a.png: transparent parts laid on #ffffff" in capsys.readouterr().err
    assert container.unpack(Path("a.bin").read_bytes()).original_size is None
    picture((30, 28)).save("b.png")
    run_here("encode", "b.png", "-m", "mnist", "--background", "white", code=1)


def test_models_of_any_size_take_the_background(workdir: Path) -> None:
    picture().save("a.png")
    means = []
    for colour in ("black", "white"):
        run_here("encode", "a.png", "-m", "photo", "--background", colour, "-o", f"{colour}.bin")
        data = Path(f"{colour}.bin").read_bytes()
        means.append(cvae.open_model("photo").decode(data).mean())
    assert means[0] < 100 < 150 < means[1]


@pytest.mark.parametrize("colour", ["#ff000080", "#f008", "#ff0000ff"])
def test_a_background_is_opaque(workdir: Path, colour: str) -> None:
    picture().save("a.png")
    said = run_cvae(
        "encode", "a.png", "-m", "photo", "--background", colour, code=2
    ).stderr.decode()
    assert f"expected an opaque colour such as white or '#ffffff', found '{colour}'" in said
    assert not Path("a.bin").exists()


def test_nothing_is_said_of_opaque_images(
    workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = picture().convert("RGB").convert("RGBA")
    image.save("a.png")
    image.quantize(8).save("b.png")
    run_here("encode", "a.png", "b.png", "-m", "photo", "-o", "out/")
    assert "laid on" not in capsys.readouterr().err


def test_interpolate_and_denoise_say_what_was_lost(
    workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "ab":
        picture((30, 30)).save(f"{name}.png")
    run_here("interpolate", "a.png", "b.png", "-m", "mnist", "--fit", "-n", "2")
    assert "2 images: transparent parts laid on #000000" not in capsys.readouterr().out
    run_here("denoise", "a.png", "--background", "white")
    assert "a.png: transparent parts laid on #ffffff" in capsys.readouterr().err


@pytest.mark.parametrize("bits", [8, 16])
def test_white_is_zero_comes_back_the_right_way(workdir: Path, bits: int) -> None:
    from ..data.pictures import RAMP, raw_tiff

    values = (255 - RAMP).astype("<u2") * (257 if bits == 16 else 1)
    rows = values.astype("<u2" if bits == 16 else "u1").tobytes()
    Path("a.tif").write_bytes(raw_tiff(rows, (bits,), 0))
    run_here("encode", "a.tif", "-m", "cifar", "--fit", "--quiet")
    run_here("decode", "a.bin", "--quiet")
    assert abs(mean_of("a_reconstructed.png") - RAMP.mean()) < 12


def test_floats_are_refused_and_the_others_go_on(
    workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in").mkdir()
    Image.fromarray(np.random.default_rng(0).random((32, 32), np.float32)).save("in/a.tif")
    Image.new("RGB", (32, 32), "teal").save("in/b.png")
    for command in (["encode", "in", "-o", "out/"], ["pack", "in", "-o", "p.bin"]):
        run_here(*command, "-m", "cifar", "--fit", code=1)
        assert "in/a.tif: samples are floats" in capsys.readouterr().err
    assert [path.name for path in Path("out").iterdir()] == ["b.bin"]
    buffer = io.BytesIO(Path("p.bin").read_bytes())
    assert buffer.getbuffer().nbytes > 0


def test_denoise_keeps_the_profile_and_encode_converts(workdir: Path) -> None:
    from ..data.pictures import swapped_profile

    profile = swapped_profile()
    Image.new("RGB", (32, 32), (200, 40, 90)).save("a.png", icc_profile=profile)
    run_here("denoise", "a.png", "--quiet")
    clean = Image.open("a_denoised.png")
    assert clean.info["icc_profile"] == profile
    assert np.abs(np.asarray(clean, int).mean((0, 1)) - [200, 40, 90]).max() < 20
    run_here("encode", "a.png", "-m", "cifar", "--quiet")
    run_here("decode", "a.bin", "--quiet")
    back = np.asarray(Image.open("a_reconstructed.png"), int).mean((0, 1))
    assert np.abs(back - [40, 200, 90]).max() < 20


def test_a_model_of_transparent_pictures_codes_others_as_it_is_evaluated(
    workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("logos").mkdir()
    rng = np.random.default_rng(0)
    for number in range(30):
        image = picture((48, 48))
        for _ in range(3):
            place = tuple(rng.integers(0, 32, 2).tolist())
            image.paste(
                (*rng.integers(0, 200, 3).tolist(), 255), (*place, place[0] + 14, place[1] + 14)
            )
        image.save(f"logos/{number:02}.png")
    train = ["train", "linear", "--data", "logos", "--size", "16", "--colour", "--out", "run"]
    run_here(*train, "--background", "white", "--quiet")
    run_here("eval", "logos", "--split", "test", "-m", "run", "--json")
    told = capsys.readouterr()
    evaluated = json.loads(told.out)
    expected = evaluated["psnr_mean"]
    assert f"{evaluated['images']} images: transparent parts laid on #ffffff: " in told.err
    run_here("eval", "logos", "-m", "run", "--json")
    assert json.loads(capsys.readouterr().out)["psnr_mean"] > expected - 6
    run_here("encode", "logos", "-m", "run", "-o", "out/")
    said = capsys.readouterr().err
    assert "30 images: transparent parts laid on #ffffff: logos/00.png, " in said
    assert "polarity" not in said


def test_photo_lays_transparent_images_on_white(workdir: Path) -> None:
    Image.new("RGBA", (40, 30), CLEAR).save("a.png")
    run_here("encode", "a.png", "--quiet")
    run_here("decode", "a.bin", "--quiet")
    assert mean_of("a_reconstructed.png") > 240
