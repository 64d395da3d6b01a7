"""The functions of `cvae` do what the commands do; codecs are pickled and described."""

from __future__ import annotations

import pickle
import shutil
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import cvae

from .conftest import SAMPLES, blobs, photo, run_here

LINEAR = "linear-mnist"
DIGIT = SAMPLES / "digit_3.png"


@pytest.fixture
def digit(workdir: Path) -> NDArray[np.uint8]:
    return np.asarray(Image.open(DIGIT))


def error(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    return float(np.mean((a.astype(float) - b) ** 2))


def pixels_of(path: str) -> NDArray[np.uint8]:
    return np.asarray(Image.open(path))


def test_models_are_listed_as_the_command_lists_them(
    workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_here("models")
    printed = capsys.readouterr().out
    found = {info.name: info for info in cvae.list_models()}
    for info in found.values():
        assert f"id {info.id:#06x}" in printed
        assert info.name in printed
        assert info.path.is_file()
    assert found["mnist"].kind == "codec"
    assert found["photo-dae"].denoises
    shown = repr(found["fashion-dae"])
    assert "fashion-dae" in shown
    assert "28x28 grey, denoises" in shown


def test_a_damaged_model_is_left_out_of_the_list_with_a_warning(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("damaged.cvae").write_bytes(b"no model")
    monkeypatch.setenv("CVAE_MODELS", "damaged.cvae")
    with pytest.warns(UserWarning, match="damaged.cvae"):
        names = [info.name for info in cvae.list_models()]
    assert "mnist" in names
    assert "damaged" not in names


def test_a_target_gives_the_file_of_the_command(digit: NDArray[np.uint8]) -> None:
    for option, limits in (("--max-bytes", {"max_bytes": 12}), ("--min-psnr", {"min_psnr": 26})):
        value = next(iter(limits.values()))
        run_here("encode", DIGIT, "-o", "x.bin", "-f", option, str(value))
        assert cvae.encode(digit, **limits) == Path("x.bin").read_bytes()  # type: ignore[arg-type]
    coded = cvae.open_model(LINEAR).encode([digit, digit], effort=0, max_bytes=40)
    assert [len(data) <= 40 for data in coded] == [True, True]


def test_what_encode_gives_decode_takes(digit: NDArray[np.uint8]) -> None:
    lake = photo(20, 33)
    datas = [*cvae.encode([digit, digit], LINEAR), cvae.encode(lake, "photo", effort=0)]
    datas.append(cvae.encode(Image.open(DIGIT)))
    for given in (datas, tuple(datas)):
        found = cvae.decode(given)
        assert [image.shape for image in found] == [(28, 28), (28, 28), (20, 33, 3), (28, 28)]
        for image, data in zip(found, datas, strict=True):
            assert np.array_equal(image, cvae.decode(data))
    assert cvae.decode([]) == []
    with pytest.raises(cvae.FormatError, match=r"^container 1: "):
        cvae.decode([datas[0], b"damaged"])


def test_a_pack_warns_once_of_all_images_that_come_back_badly(digit: NDArray[np.uint8]) -> None:
    images, names = np.stack([digit, 255 - digit, 255 - digit]), ["a", "b", "c"]
    text = r"^2 of 3 images came back below the .* dB expected of model mnist, the worst at [0-9.]+ dB$"
    with pytest.warns(cvae.QualityWarning, match=text) as found:
        cvae.encode_pack(images, "x.bin", effort=0, names=names)
    assert [warning.filename for warning in found] == [__file__]
    cvae.encode_pack(images, "y.bin", effort=0, names=names, verify=False)
    assert Path("x.bin").read_bytes() == Path("y.bin").read_bytes()


def test_a_warning_of_quality_names_the_line_of_the_caller(digit: NDArray[np.uint8]) -> None:
    for use in (cvae.encode, cvae.open_model().encode):
        with pytest.warns(cvae.QualityWarning) as found:
            use(255 - digit)
        assert [warning.filename for warning in found] == [__file__]


def test_a_target_out_of_reach_names_the_image(digit: NDArray[np.uint8]) -> None:
    codec = cvae.open_model(LINEAR)
    blank, noise = np.zeros_like(digit), np.random.default_rng(0).integers(0, 256, (28, 28), "u1")
    with pytest.raises(cvae.TargetError, match=r"^image 1: expected at least 40 dB"):
        codec.encode([blank, noise], effort=0, min_psnr=40)
    with pytest.raises(cvae.TargetError, match=r"^expected at least 90 dB"):
        codec.encode(digit, effort=0, min_psnr=90)


def test_a_seed_draws_what_the_command_draws(workdir: Path) -> None:
    run_here("sample", "-n", "3", "--seed", "7", "-m", LINEAR, "-o", "new/")
    drawn = cvae.sample(3, LINEAR, seed=7)
    assert drawn.shape == (3, 28, 28)
    assert np.array_equal(drawn[1], pixels_of("new/sample_0001.png"))
    assert not np.array_equal(drawn, cvae.sample(3, LINEAR))
    assert cvae.sample(2, "linear-cifar").shape == (2, 32, 32, 3)


def test_the_way_between_images_is_that_of_the_command(digit: NDArray[np.uint8]) -> None:
    Path("b.bin").write_bytes(data := cvae.encode(blobs(1, side=28)[0], LINEAR))
    run_here("interpolate", DIGIT, "b.bin", "-n", "3", "-o", "way/")
    way = cvae.interpolate(Image.open(DIGIT), data, 3)  # the model is that of the container
    assert way.shape == (3, 28, 28)
    assert np.array_equal(way[1], pixels_of("way/step_0001.png"))
    assert np.array_equal(way, cvae.interpolate(digit, data, 3, LINEAR))
    for wrong, found in ((photo(20, 33), "20, 33, 3"), (np.stack([digit] * 2), "2, 28, 28")):
        with pytest.raises(cvae.ImageShapeError, match=rf"^b: .*found uint8 \({found}\)"):
            cvae.interpolate(digit, wrong, 3)


def test_noise_is_taken_away_as_by_the_command(workdir: Path) -> None:
    picture = photo(40, 52)
    Image.fromarray(picture).save("photo.png")
    run_here("denoise", "photo.png")
    clean = pixels_of("photo_denoised.png")
    assert np.array_equal(cvae.denoise(picture), clean)
    assert np.array_equal(cvae.denoise(Image.open("photo.png")), clean)


def test_many_images_are_denoised_each_in_its_size_and_colour(workdir: Path) -> None:
    rng = np.random.default_rng(0)
    shoe = blobs(1, side=28)[0, ..., 0]
    noisy = (shoe + rng.normal(0, 60, shoe.shape)).clip(0, 255).astype(np.uint8)
    grey = photo(20, 31, 1)[..., 0]
    clean = cvae.denoise([noisy, grey, Image.fromarray(photo(9, 16))])
    assert [image.shape for image in clean] == [(28, 28), (20, 31), (9, 16, 3)]
    assert error(clean[0], shoe) < error(noisy, shoe) / 2
    batch = np.stack([noisy, noisy])[..., np.newaxis]
    assert np.array_equal(cvae.denoise(batch)[1, ..., 0], clean[0])
    assert cvae.denoise([]) == []
    assert cvae.denoise(batch[:0]).shape == (0, 28, 28, 1)
    for model in (None, "fashion-dae"):
        assert np.array_equal(cvae.denoise(batch[..., 0], model), cvae.denoise(batch)[..., 0])
    with pytest.raises(cvae.ImageShapeError, match=r"list\(x\) gives grey images \(n, h, w\)"):
        cvae.denoise(np.stack([grey, grey]))


def test_latents_lead_back_to_pictures(digit: NDArray[np.uint8]) -> None:
    latents = cvae.latents([digit, Image.open(DIGIT)], LINEAR)
    assert latents.dtype == np.float32
    assert np.array_equal(latents[0], cvae.latents(digit, LINEAR))
    pictures = cvae.from_latents(latents, LINEAR)
    assert pictures.shape == (2, 28, 28)
    assert error(pictures[0], digit) < error(np.zeros_like(digit), digit) / 20
    assert np.array_equal(cvae.from_latents(latents[0], LINEAR), pictures[0])
    zeros = [0] * latents.shape[1]
    assert np.array_equal(
        cvae.from_latents(zeros, LINEAR), cvae.from_latents(np.zeros(400), LINEAR)
    )
    for bad in (["a"] * 400, [True] * 400, [1j] * 400):
        with pytest.raises(cvae.CvaeError, match="expected finite numbers"):
            cvae.from_latents(bad, LINEAR)


def test_a_codec_that_was_pickled_codes_as_before(digit: NDArray[np.uint8]) -> None:
    codec = cvae.open_model(LINEAR, max_pixels=1000)
    data = codec.encode(digit)
    with get_context("spawn").Pool(1) as pool:
        assert pool.apply(codec.encode, (digit,)) == data
    again = pickle.loads(pickle.dumps(codec))
    assert again.max_pixels == 1000
    sized = cvae.open_model("photo").sized(20, 33)
    assert pickle.loads(pickle.dumps(sized)).image_shape == (20, 33, 3)


def test_a_pickled_codec_needs_its_model_where_it_was(workdir: Path) -> None:
    source = cvae.open_model(LINEAR).model.path
    shutil.copy(source, "mine.cvae")
    pickled = pickle.dumps(cvae.open_model("mine.cvae"))
    shutil.copy(source.with_name("linear-fashion.cvae"), "mine.cvae")
    with pytest.raises(cvae.ModelError, match=r"expected the model of id .*found id"):
        pickle.loads(pickled)
    Path("mine.cvae").unlink()
    with pytest.raises(cvae.ModelError, match=r"mine\.cvae"):
        pickle.loads(pickled)


def test_objects_say_what_they_are(digit: NDArray[np.uint8]) -> None:
    codec = cvae.open_model(LINEAR)
    model_id = f"id {codec.model.manifest.id:#06x}"
    assert repr(codec) == f"<Codec {LINEAR}, {model_id}, 28x28 grey>"
    assert repr(cvae.open_model("photo").sized(9, 9)).endswith("any size RGB>")
    (coded,) = codec.encode_batch(digit[None, ..., None])
    assert repr(coded).startswith(f"<Encoded, {len(coded.data)} bytes, quality 50, ")
    cvae.encode_pack([digit], "x.bin", codec)
    with cvae.open_pack("x.bin") as pack:
        assert repr(pack) == f"<Pack x.bin, 1 image of {LINEAR}, quality 50>"
    assert "x.bin" in repr(pack)  # closed


def test_a_path_is_answered_with_what_reads_it() -> None:
    with pytest.raises(
        cvae.ImageError, match=r"PIL\.Image\.open\(path\) or Codec\.read\(path\) reads a file$"
    ):
        cvae.encode("digit.png")  # type: ignore[arg-type]


def test_a_shell_completes_what_the_package_offers() -> None:
    offered = dir(cvae)
    assert set(cvae.__all__) <= set(offered)
    assert not {"TYPE_CHECKING", "annotations"} & set(offered)
