"""`cvae denoise` and `cvae eval --noise` as people use them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvae.cli import main
from cvae.data.images import encode_image
from cvae.models import registry

from .. import denoisers
from ..cli.test_cli import DIGIT, error_line, names
from ..conftest import SAMPLES, run_cvae
from ..models.test_file import edited, manifest
from ..test_startup import modules_after

PHOTO = encode_image(np.random.default_rng(0).integers(0, 256, (21, 34, 3), np.uint8))


@pytest.fixture(autouse=True)
def _in_an_empty_folder(workdir: Path) -> None:
    pass


@pytest.fixture
def photo_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A denoiser of any size: a box filter."""
    return denoisers.write(tmp_path_factory.mktemp("models") / "box.cvae", denoisers.box())


@pytest.fixture
def digit_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A codec that says it was trained on noisy images."""
    folder = tmp_path_factory.mktemp("models")
    source = registry.open_model("linear-mnist").path
    return edited(
        source, folder, manifest(name="digits-dae", preset={"architecture": "linear", "noise": 0.3})
    )


def test_a_photo_is_denoised_beside_the_current_folder(photo_model: Path) -> None:
    Path("in").mkdir()
    Path("in/photo.jpg").write_bytes(PHOTO)
    result = run_cvae("denoise", "in/photo.jpg", "-m", photo_model)
    assert b"34x21" in result.stderr
    assert b"box" in result.stderr
    assert result.stdout == b""
    assert names() == ["in/photo.jpg", "photo_denoised.png"]
    clean = Image.open("photo_denoised.png")
    assert (clean.size, clean.mode) == ((34, 21), "RGB")
    noisy = np.asarray(Image.open("in/photo.jpg"), float)
    middle = noisy[4:7, 9:12].mean(axis=(0, 1))
    assert np.abs(np.asarray(clean)[5, 10] - middle).max() < 1
    line = error_line(run_cvae("denoise", "in/photo.jpg", "-m", photo_model, code=1))
    assert "exists already" in line
    run_cvae("denoise", "in/photo.jpg", "-m", photo_model, "-f", "--quiet")


def test_folders_pipes_and_formats_work_as_in_decode(photo_model: Path) -> None:
    Path("in/deep").mkdir(parents=True)
    for name in ("in/a.png", "in/deep/b.webp"):
        Path(name).write_bytes(PHOTO)
    Path("in/bad.png").write_text("text")
    result = run_cvae("denoise", "in", "-m", photo_model, "-o", "out", code=1)
    assert b"in/bad.png" in result.stderr
    assert b"2 of 3 images denoised" in result.stderr
    assert names("out") == ["a_denoised.png", "deep/b_denoised.png"]
    piped = run_cvae("denoise", "-", "-m", photo_model, stdin=PHOTO)
    assert piped.stdout == Path("out/a_denoised.png").read_bytes()
    run_cvae("denoise", "in/a.png", "-m", photo_model, "-o", "x.jpg")
    assert Image.open("x.jpg").format == "JPEG"


def test_a_truncated_cmyk_photo_costs_itself_alone(photo_model: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (80, 80, 4), np.uint8)
    Path("in").mkdir()
    Image.fromarray(pixels, "CMYK").save("in/b.jpg")
    Path("in/b.jpg").write_bytes(Path("in/b.jpg").read_bytes()[:4000])
    for name in ("in/a.png", "in/c.png"):
        Path(name).write_bytes(PHOTO)
    for arguments in (
        ["denoise", "in", "-m", photo_model, "-o", "clean"],
        ["encode", "in", "--fit", "-o", "coded"],
        ["pack", "in", "--fit", "-o", "x.bin"],
    ):
        result = run_cvae(*arguments, code=1)
        assert b"cvae: error: in/b.jpg: the image is damaged" in result.stderr
    assert names("clean") == ["a_denoised.png", "c_denoised.png"]
    assert names("coded") == ["a.bin", "c.bin"]
    assert json.loads(run_cvae("info", "x.bin", "--json").stdout)["images"] == 2


def test_grey_stays_grey_and_what_is_lost_is_said(photo_model: Path) -> None:
    Image.open(DIGIT).save("grey.png")
    assert b"warning" not in run_cvae("denoise", "grey.png", "-m", photo_model).stderr
    assert Image.open("grey_denoised.png").mode == "L"
    Image.new("RGBA", (5, 6), (200, 100, 0, 128)).save("clear.png")
    result = run_cvae("denoise", "clear.png", "-m", photo_model)
    assert b"warning: clear.png: transparent parts laid on #000000" in result.stderr
    assert Image.open("clear_denoised.png").getpixel((2, 2)) == (100, 50, 0)


def test_a_codec_of_noisy_images_denoises_its_own_size(digit_model: Path) -> None:
    run_cvae("denoise", DIGIT, "-m", digit_model)
    assert Image.open("digit_3_denoised.png").size == (28, 28)
    Path("photo.png").write_bytes(PHOTO)
    line = error_line(run_cvae("denoise", "photo.png", "-m", digit_model, code=1))
    assert "expected 28x28 grey, found 34x21 RGB" in line


def test_models_that_do_not_denoise_name_those_that_do(photo_model: Path) -> None:
    env = {"CVAE_MODELS": str(photo_model)}
    line = error_line(run_cvae("denoise", DIGIT, "-m", "mnist", code=1, env=env))
    assert "mnist was not trained on noisy images" in line
    assert "box (any size RGB)" in line
    assert not names()


def test_the_default_model_follows_the_image(
    digit_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("models").mkdir()
    edited(digit_model, Path("models"), manifest(name="fashion-dae"))
    monkeypatch.setattr(registry, "shipped_folder", lambda: Path("models"))
    Path("photo.png").write_bytes(PHOTO)
    with pytest.raises(SystemExit) as stop:
        main(["denoise", "photo.png", str(DIGIT), "-o", "out", "-v"])
    assert stop.value.code == 1
    said = capsys.readouterr().err
    assert "digit_3_denoised.png: 28x28, model fashion-dae" in said
    assert "photo.png: the default, photo-dae, is not here" in said
    assert "models that denoise: fashion-dae (28x28 grey)" in said
    denoisers.write(Path("models/photo-dae.cvae"), denoisers.box())
    with pytest.raises(SystemExit) as stop:
        main(["denoise", "photo.png"])
    assert stop.value.code == 0
    assert Path("photo_denoised.png").exists()


def test_a_denoiser_asked_to_code_says_what_it_is(photo_model: Path) -> None:
    expected = "box is a denoiser, not a codec: `cvae denoise -m box IMAGE`"
    for command in ("encode", "decode", "eval"):
        line = error_line(run_cvae(command, DIGIT, "-m", photo_model, code=1))
        assert expected in line
    assert not names()


def test_models_and_info_know_denoisers(photo_model: Path) -> None:
    env = {"CVAE_MODELS": str(photo_model)}
    text = run_cvae("models", env=env).stdout.decode()
    assert "box " in text
    assert "any size RGB denoiser" in text
    listed = {m["name"]: m for m in json.loads(run_cvae("models", "--json", env=env).stdout)}
    assert (listed["box"]["kind"], listed["box"]["denoises"]) == ("denoiser", True)
    assert (listed["mnist"]["kind"], listed["mnist"]["denoises"]) == ("codec", False)
    facts = json.loads(run_cvae("info", photo_model, "--json").stdout)
    assert facts["kind"] == "model (denoiser)"
    assert facts["reach"] == 1
    assert "expected_psnr" not in str(facts)
    facts = json.loads(run_cvae("info", "mnist", "--json").stdout)
    assert facts["kind"] == "model (codec)"
    assert "expected_psnr_at_quality_50" in facts


def test_eval_of_a_denoiser_gives_figures_of_noise_alone(photo_model: Path) -> None:
    Path("in").mkdir()
    Path("in/a.png").write_bytes(PHOTO)
    Path("in/b.png").write_bytes(DIGIT.read_bytes())
    command = ["eval", "in", "-m", photo_model, "--noise", "0.4", "--against", "tv"]
    figures = json.loads(run_cvae(*command, "--json").stdout)
    assert list(figures) == [
        "model", "dataset", "split", "images", "noise", "noisy_mse", "denoised_mse", "noisy_psnr",
        "denoised_psnr", "rivals",
    ]  # fmt: skip
    assert (figures["model"], figures["dataset"], figures["images"]) == ("box", "in", 2)
    (row,) = figures["rivals"]
    assert list(row) == ["codec", "weight", "images", "mse", "psnr"]
    assert json.loads(run_cvae(*command, "--json").stdout) == figures
    text = run_cvae(*command).stdout.decode()
    assert f"{figures['denoised_psnr']:.2f} dB" in text
    assert f"weight {row['weight']:g}" in text


def test_eval_of_a_codec_adds_the_noise_to_its_figures(digit_model: Path) -> None:
    coded = json.loads(run_cvae("eval", SAMPLES, "-m", digit_model, "--json").stdout)
    command = ["eval", SAMPLES, "-m", digit_model, "--noise", "0.3"]
    result = run_cvae(*command, "--json")
    assert result.stderr == b""
    figures = json.loads(result.stdout)
    assert list(figures)[len(coded) :] == [
        "noise", "noisy_mse", "denoised_mse", "noisy_psnr", "denoised_psnr",
    ]  # fmt: skip
    assert figures["psnr_mean"] == coded["psnr_mean"]
    assert figures["denoised_mse"] < figures["noisy_mse"]
    text = run_cvae("eval", SAMPLES, "-m", "mnist", "--noise", "0.3", "--limit", "2")
    assert b"mnist was not trained on noisy images" in text.stderr
    assert b"denoised" in text.stdout


def test_a_split_that_there_is_not_is_not_in_the_title(photo_model: Path) -> None:
    Path("photo.png").write_bytes(PHOTO)
    command = ["eval", "photo.png", "-m", photo_model, "--noise", "0.3"]
    assert b"(all, 1 image)" in run_cvae(*command, "--split", "train").stdout
    np.savez("grey.npz", x_test=np.zeros((3, 8, 8), np.uint8))
    command[1] = "grey.npz"
    assert "grey.npz: x_test: expected any size, RGB" in error_line(run_cvae(*command, code=1))


def test_what_was_trained_on_and_left_out_is_said_with_noise_as_without(
    digit_model: Path, photo_model: Path
) -> None:
    Path("in").mkdir()
    rng = np.random.default_rng(0)
    for number in range(12):
        pixels = rng.integers(0, 256, (28, 28), np.uint8)
        Path(f"in/{number}.png").write_bytes(encode_image(pixels))
    Path("in/text.png").write_text("text")
    said = {}
    for model in (digit_model, photo_model):
        for options in ([], ["--noise", "0.3"]) if model == digit_model else (["--noise", "0.3"],):
            result = run_cvae("eval", "in", "-m", model, "--split", "train", *options)
            said[model, len(options)] = result.stderr.decode().replace(model.stem, "MODEL")
    assert "in: 1 file skipped\n  text.png" in said[digit_model, 0]
    assert "in: not the images that digits-dae was trained on" in said[digit_model, 0]
    assert said[digit_model, 2] == said[digit_model, 0]
    assert "in: not the images that MODEL was trained on" in said[photo_model, 2]


def test_of_a_split_only_what_denoising_converts_is_said(photo_model: Path) -> None:
    Path("in").mkdir()
    rng = np.random.default_rng(0)
    for number in range(12):
        Image.fromarray(rng.integers(0, 256, (40, 50, 4), np.uint8)).save(f"in/{number}.png")
    command = ["eval", "in", "-m", photo_model, "--noise", "0.3", "--split", "train"]
    trained, *converted = run_cvae(*command).stderr.decode().splitlines()
    assert "in: not the images that" in trained
    (line,) = converted  # pictures keep their sizes here, as they do not in training
    assert " images: transparent parts laid on" in line


def test_a_folder_that_does_not_fit_comes_with_advice(photo_model: Path) -> None:
    Path("in").mkdir()
    Path("in/a.png").write_bytes(PHOTO)
    image, folder = run_cvae("eval", "in", "-m", "mnist", code=1).stderr.decode().splitlines()
    assert "in/a.png: expected 28x28 grey, found 34x21 RGB; -m photo takes images of any" in image
    assert "in: expected images, found none; --split test reads the folder as" in folder
    assert "--split" not in error_line(run_cvae("eval", "in/a.png", "-m", "mnist", code=1))
    Path("in/b.png").write_text("text")
    result = run_cvae("eval", "in", "-m", photo_model, "--noise", "0.3", code=1)
    line, count = result.stderr.decode().splitlines()
    assert "in/b.png: expected an image" in line
    assert "cvae models" not in line
    assert count == "1 of 2 images measured"


def test_options_that_make_no_sense_together_are_wrong_usage(photo_model: Path) -> None:
    for options in (
        ["--noise", "0.3", "-m", photo_model, "--against", "png"],
        ["--noise", "0.3", "--against", "tv", "--plot", "x.png"],
        ["--noise", "0.3", "-m", photo_model, "--html", "x.html"],
        ["--noise", "0.3", "-m", photo_model, "--csv", "x.csv"],
        ["--noise", "-1"],
        ["--against", "tv"],
        ["--noise", "0.3", "-m", photo_model, "-q", "50"],
        ["--noise", "0.3", "-m", photo_model, "--effort", "5"],
    ):
        run_cvae("eval", DIGIT, *options, code=2)
    assert "0 to 10" in error_line(run_cvae("eval", DIGIT, "--noise", "nan", code=1))
    assert not names()


def test_denoising_loads_what_it_needs(photo_model: Path) -> None:
    loaded = modules_after("denoise", str(DIGIT), "-m", str(photo_model), "-o", "x.png")
    assert "onnxruntime" in loaded
    assert not loaded & {"tensorflow", "keras", "jax", "onnx", "matplotlib", "skimage", "scipy"}
    assert not modules_after("denoise", "--help") & {"numpy", "PIL", "onnxruntime"}
