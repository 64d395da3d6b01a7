"""`--lossless` on the command line: which model is taken, what is refused, and what is said of losses."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvae.data.images import Pixels, as_image

from ..conftest import ROOT, photo, run_here
from ..data.pictures import swapped_profile
from ..lossless import tables, write

SHAPE = (12, 10, 3)


@pytest.fixture(autouse=True)
def _models(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two models for pictures of one size, and one for any, of the same random networks."""
    folder = workdir / "models"
    folder.mkdir()
    for number, seed in enumerate((1, 2)):
        made = tables(SHAPE, any_size=False, seed=seed)
        write(folder / f"one-{seed}.cvae", SHAPE, made=made, id=500 + number)
    write(folder / "any.cvae", (8, 8, 3), any_size=True, id=502)
    monkeypatch.setenv("CVAE_MODELS", str(folder))
    # Of the shipped models one that is not lossless is left.
    shipped = workdir / "shipped"
    shipped.mkdir()
    shutil.copy(ROOT / "weights" / "mnist.cvae", shipped)
    monkeypatch.setattr("cvae.models.registry.shipped_folder", lambda: shipped)


def save(name: str, pixels: Pixels, **options: object) -> Path:
    as_image(pixels).save(name, **options)
    return Path(name)


def there_and_back(path: Path, *options: str) -> Pixels:
    run_here("encode", path, "--lossless", "-o", "coded.bin", "-f", *options)
    run_here("decode", "coded.bin", "-o", "back.png", "-f")
    return np.asarray(Image.open("back.png"))


def test_every_pixel_comes_back_of_colour_grey_palette_and_bits() -> None:
    for seed, shape in enumerate([SHAPE, (7, 31, 3), (9, 9, 1), (28, 28, 1)]):
        picture = photo(*shape, seed=seed)
        path = save("a.png", picture)
        assert np.array_equal(there_and_back(path), picture.squeeze())
    Image.fromarray(photo(*SHAPE)).quantize(9).save("p.png")
    assert np.array_equal(
        there_and_back(Path("p.png")), np.asarray(Image.open("p.png").convert("RGB"))
    )
    Image.fromarray(photo(9, 8, 1)[..., 0] > 128).save("1.png")
    assert np.array_equal(there_and_back(Path("1.png")), 255 * np.asarray(Image.open("1.png")))


def test_a_file_that_is_larger_than_before_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(photo(30, 40)).save("a.jpg", quality=30)
    Image.fromarray(photo(30, 40)).save("b.bmp")
    before = Path("a.jpg").stat().st_size
    run_here("encode", "a.jpg", "--lossless", "-o", "a.bin")
    assert f"lossless, more than the {before:,} bytes before" in capsys.readouterr().err
    run_here("encode", "b.bmp", "--lossless", "-o", "b.bin")
    assert "before" not in capsys.readouterr().err
    drawn = save("drawn.png", np.kron(np.eye(2), np.full((40, 40), 255)).astype("u1"))
    model = str(ROOT / "weights" / "photo.cvae")
    run_here("encode", drawn, "-m", model, "-q", "100", "-o", "drawn.bin")
    assert f" dB, more than the {drawn.stat().st_size} bytes before" in capsys.readouterr().err
    Image.fromarray(photo(30, 40, seed=5)).save("c.bmp")
    run_here("encode", "b.bmp", "c.bmp", "--lossless", "-o", "coded/")
    assert "lossless -> coded" in capsys.readouterr().err


def test_the_shortest_file_of_all_lossless_models_that_fit_is_kept(
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, sizes = save("a.png", photo(*SHAPE, seed=3)), {}
    for name in ("one-1", "one-2", "any"):
        run_here("encode", path, "-m", name, "-o", f"{name}.bin")
        sizes[name] = Path(f"{name}.bin").stat().st_size
    run_here("encode", path, "--lossless", "-o", "best.bin", "-v")
    assert "lossless" in capsys.readouterr().err
    assert Path("best.bin").stat().st_size <= min(sizes.values())
    run_here("info", "best.bin", "--json")
    facts = json.loads(capsys.readouterr().out)
    assert facts["quality"] == 0
    assert facts["model"] in sizes
    assert not {"symbols", "information_bits"} & {
        *facts
    }  # which would take decoding, and that long


def test_files_of_other_formats_keep_every_pixel_or_say_that_they_do_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clear = np.concatenate([photo(30, 40), photo(30, 40, 1, seed=1) // 2], axis=2)
    clear[:5, :, 3] = 0  # what lies below it is kept, too
    for number, picture in enumerate((photo(30, 40), photo(30, 40, 1), clear)):
        run_here("encode", save("a.png", picture), "--lossless", "-o", f"coded/{number}.bin")
        capsys.readouterr()
        for ending in ("webp", "tif"):
            run_here("decode", f"coded/{number}.bin", "-o", f"x.{ending}", "-f")
            mode = as_image(picture).mode
            assert np.array_equal(Image.open(f"x.{ending}").convert(mode), picture.squeeze())
            assert "changed pixels" not in capsys.readouterr().err
    run_here("decode", "coded/0.bin", "-o", "x.jpg")
    said = capsys.readouterr().err
    assert "x.jpg: this format changed pixels of a lossless file; .png and .webp keep all" in said
    run_here("decode", "coded/0.bin", "-o", "x.jp2")
    assert "changed pixels" not in capsys.readouterr().err
    run_here("pack", save("a.png", photo(30, 40)), "--lossless", "-o", "a.bin")
    capsys.readouterr()
    run_here("unpack", "a.bin", "-o", "y.webp")
    assert np.array_equal(Image.open("y.webp"), photo(30, 40))
    assert "changed pixels" not in capsys.readouterr().err
    run_here("unpack", "a.bin", "-o", "y.jpg")
    assert "y.jpg: this format changed pixels" in capsys.readouterr().err


def test_a_pack_takes_one_model_by_its_first_pictures(capsys: pytest.CaptureFixture[str]) -> None:
    pictures = [photo(*SHAPE, seed=seed) for seed in range(5)]
    for seed, picture in enumerate(pictures):
        Path("one").mkdir(exist_ok=True)
        save(f"one/{seed}.png", picture)
    run_here("pack", "one", "--lossless", "-o", "one.bin")
    said = capsys.readouterr().err
    assert ", lossless; model " in said
    assert ", by the first images; " in said
    assert "dB" not in said
    run_here("unpack", "one.bin", "-o", "back")
    for seed, picture in enumerate(pictures):
        assert np.array_equal(np.asarray(Image.open(f"back/{seed}.png")), picture)
    save("one/other.png", photo(40, 30, 3))
    run_here("pack", "one", "--lossless", "-o", "any.bin")
    assert "model any" in capsys.readouterr().err
    run_here("unpack", "any.bin", "-o", "all")
    assert np.array_equal(np.asarray(Image.open("all/other.png")), photo(40, 30, 3))


def test_verify_compares_every_pixel(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a").mkdir()
    picture = photo(*SHAPE)
    save("a/x.png", picture)
    run_here("pack", "a", "--lossless", "-o", "a.bin")
    run_here("verify", "a.bin", "--against", "a", "--json")
    assert json.loads(capsys.readouterr().out)[0]["psnr_mean"] == 99
    run_here("verify", "a.bin", "--against", "a")
    said = capsys.readouterr().out
    assert "a.bin against a: 1 image, model one" in said
    assert "0 of 1 images\n" in said
    assert "quality" not in said
    picture[3, 4, 1] ^= 1
    save("a/x.png", picture)
    run_here("encode", "a/x.png", "--lossless", "-o", "x.bin")
    run_here("verify", "x.bin", "--against", "a", "--json")
    assert json.loads(capsys.readouterr().out)[0]["images_that_differ"] == 0
    run_here("verify", "a.bin", "--against", "a", "--json", code=1)
    said = capsys.readouterr()
    assert json.loads(said.out)[0]["images_that_differ"] == 1
    assert "a.bin: 1 lossless image and their originals differ" in said.err


def test_packs_and_files_of_any_size_are_verified_and_added_to(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("a").mkdir()
    save("a/x.png", photo(7, 5, 3))
    save("a/y.png", photo(4, 9, 1))
    run_here("pack", "a", "--lossless", "-o", "a.bin")
    run_here("verify", "a.bin", "--against", "a")
    for model in ("any", "one-1"):
        path = save(f"{model}.png", photo(*SHAPE))
        run_here("encode", path, "-m", model, "-o", f"{model}.bin")
        run_here("verify", f"{model}.bin", "--against", path)
    run_here("pack", "any.png", "--append", "--lossless", "-o", "a.bin")
    capsys.readouterr()
    run_here("list", "a.bin", "--json")
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [image["size"] for image in found] == [[5, 7], [9, 4], [10, 12]]


def test_nothing_lossless_is_added_to_a_lossy_pack(capsys: pytest.CaptureFixture[str]) -> None:
    path = save("a.png", photo(28, 28, 1))
    run_here("pack", path, "-m", "mnist", "--effort", "0", "-o", "a.bin")
    run_here("pack", path, "--append", "--lossless", "-o", "a.bin", code=1)
    assert "of all images, found --lossless" in capsys.readouterr().err


def test_no_curve_is_drawn_of_a_lossless_model(capsys: pytest.CaptureFixture[str]) -> None:
    path = save("a.png", photo(*SHAPE))
    run_here("eval", path, "-m", "one-1", "--against", "png", "--plot", "p.png", code=2)
    assert "one-1 is lossless" in capsys.readouterr().err


def test_a_picture_that_no_lossless_model_takes_gets_advice_that_loses_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = save("a.png", photo(20, 30, 3))
    Path("models/any.cvae").unlink()
    for model in ([], ["-m", "one-1"]):
        run_here("encode", path, "--lossless", *model, code=1)
        said = capsys.readouterr().err
        assert "`cvae train auto --lossless` makes others" in said
        assert "photo" not in said
        assert "--fit" not in said


@pytest.mark.parametrize(
    "option", [["-q", "50"], ["--effort", "3"], ["--max-bytes", "99"], ["--min-psnr", "30"]]
)
def test_what_chooses_between_pictures_that_lose_is_refused(
    option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = save("a.png", photo(*SHAPE))
    run_here("encode", path, "--lossless", *option, code=2)
    assert f"{option[0]} has nothing to choose" in capsys.readouterr().err
    assert not Path("a.bin").exists()


def test_pictures_that_would_lose_something_are_refused_with_advice(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Image.fromarray(photo(9, 8, 3)).convert("RGBA").save("whole.png")
    assert there_and_back(Path("whole.png")).shape == (9, 8, 3)  # nothing shines through
    alpha = Image.fromarray(photo(9, 8, 3)).convert("RGBA")
    alpha.putpixel((2, 2), (1, 2, 3, 100))
    alpha.save("alpha.png")
    Image.fromarray(np.arange(72, dtype=np.uint16).reshape(8, 9) * 900).save("deep.png")
    Image.new("CMYK", (9, 8), (9, 99, 0, 3)).save("ink.tif")
    for name, found in [
        ("deep.png", "16 bits a sample; convert it to 8 bits"),
        ("ink.tif", "CMYK; convert it to RGB"),
    ]:
        run_here("encode", name, "--lossless", code=1)
        assert found in capsys.readouterr().err
    run_here("pack", "alpha.png", "--lossless", "-o", "a.bin", code=1)
    found = "transparent parts; --background #rrggbb lays them on a colour, files of"
    assert found in capsys.readouterr().err
    back = there_and_back(Path("alpha.png"), "--background", "white")
    assert not np.array_equal(back[2, 2], (1, 2, 3))


def test_a_profile_is_left_out_with_a_word_and_pixels_stay(
    capsys: pytest.CaptureFixture[str],
) -> None:
    picture = photo(*SHAPE)
    Image.fromarray(picture).save("wide.png", icc_profile=swapped_profile())
    assert np.array_equal(there_and_back(Path("wide.png")), picture)
    assert "colour profile left out" in capsys.readouterr().err
    Image.fromarray(picture).save("bad.png", icc_profile=b"none" * 40)
    assert np.array_equal(there_and_back(Path("bad.png")), picture)
    assert "damaged colour profile ignored" in capsys.readouterr().err
    turned = Image.fromarray(picture)
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save("turned.png", exif=exif)
    back = there_and_back(Path("turned.png"))
    assert np.array_equal(back, np.rot90(picture, -1))
    assert "turned upright, as its EXIF orientation says" in capsys.readouterr().err


def test_a_lossy_model_is_no_lossless_one(capsys: pytest.CaptureFixture[str]) -> None:
    path = save("a.png", photo(28, 28, 1))
    run_here("encode", path, "--lossless", "-m", "mnist", code=1)
    assert "model mnist is not lossless; without -m" in capsys.readouterr().err
    run_here("encode", path, "-m", "any", "--npy", code=1)
    assert "are the pixels, which numpy writes as .npy" in capsys.readouterr().err


def test_models_and_their_facts_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    run_here("models")
    assert "any size RGB, lossless" in capsys.readouterr().out
    run_here("info", "any", "--json")
    facts = json.loads(capsys.readouterr().out)
    assert facts["kind"] == "model (lossless-any)"
    assert facts["lossless"] is True


def test_a_picture_from_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    as_image(photo(*SHAPE)).save(buffer, "PNG")
    data = io.BufferedReader(io.BytesIO(buffer.getvalue()))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(data))
    run_here("encode", "-", "--lossless", "-o", "x.bin")
    run_here("decode", "x.bin", "-o", "x.png")
    assert np.array_equal(np.asarray(Image.open("x.png")), photo(*SHAPE))


def test_pictures_are_drawn_again_by_their_seed_and_lie_between_no_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("a", "b"):
        run_here("sample", "-m", "one-1", "-n", "3", "--seed", "7", "-o", f"{name}/")
    assert "has no prior" not in capsys.readouterr().err
    drawn = [[np.asarray(Image.open(path)) for path in sorted(Path(n).iterdir())] for n in "ab"]
    assert np.array_equal(drawn[0], drawn[1])
    assert len({picture.tobytes() for picture in drawn[0]}) == 3
    path = save("a.png", photo(*SHAPE))
    run_here("interpolate", path, path, "-m", "one-1", "-o", "x.png", code=1)
    assert "lossless: its latents are the pixels" in capsys.readouterr().err
