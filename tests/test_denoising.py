"""Denoising through both kinds of model, and how well it is measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cvae import denoising, kinds
from cvae.codec import Codec
from cvae.data import metrics, pipeline, windows
from cvae.data.images import Pixels, as_floats, encode_image
from cvae.data.reading import Reading
from cvae.data.sources import Which
from cvae.errors import (
    CvaeError,
    DataError,
    ImageError,
    ImageShapeError,
    ModelError,
    ModelKindError,
    ModelNotFoundError,
)
from cvae.evaluation import noise
from cvae.models import registry
from cvae.models.file import Model
from cvae.models.networks import Network

from . import denoisers
from .models.test_file import Edit, edited, manifest


@pytest.fixture(autouse=True)
def no_extra_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CVAE_MODELS", raising=False)


def photos(*shape: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def free(graph: bytes) -> Network:
    return Network(graph, "g", [(None, None, 3)], (None, None, 3))


def levels_apart(a: Pixels, b: Pixels) -> int:
    return int(np.abs(a.astype(int) - b).max())


@pytest.mark.parametrize(("graph", "multiple", "reach"), [("box", 1, 1), ("coarse", 4, 4)])
@pytest.mark.parametrize("size", [(64, 96), (61, 95), (33, 200), (5, 90)])
def test_tiles_join_to_what_the_whole_image_gives(
    tmp_path: Path, graph: str, multiple: int, reach: int, size: tuple[int, int]
) -> None:
    data = getattr(denoisers, graph)()
    assert denoising.find_reach(free(data), 3, multiple) == reach
    model = Model(denoisers.write(tmp_path / "d.cvae", data, multiple=multiple, reach=reach))
    x = photos(2, *size, 3)
    at_once = denoising.denoise(model, x)
    assert at_once.shape == x.shape
    for tile in (16, 18, 40):
        assert levels_apart(denoising.denoise(model, x, tile), at_once) == 0
    # A network that looks further than its manifest says would show.
    blind = Model(denoisers.write(tmp_path / "b.cvae", data, multiple=multiple, reach=0))
    assert levels_apart(denoising.denoise(blind, x, 16), at_once) > 1


@pytest.mark.parametrize("processors", [1, 3])
def test_few_tiles_are_computed_at_once_however_wide_the_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processors: int
) -> None:
    taken: list[int] = []
    compute = Network.__call__

    def spy(network: Network, x: NDArray[np.float32]) -> NDArray[np.float32]:
        taken.append(len(x))
        return compute(network, x)

    model = Model(denoisers.write(tmp_path / "d.cvae", denoisers.box()))
    x = photos(1, 40, 400, 3)
    at_once = denoising.denoise(model, x)
    monkeypatch.setattr(pipeline, "processors", lambda: processors)
    monkeypatch.setattr(Network, "__call__", spy)
    assert (denoising.denoise(model, x, 16) == at_once).all()
    assert max(taken) == processors
    taken.clear()
    denoising.denoise(model, x[:, :4], 16)  # of low ones as many as make up for it
    assert max(taken) == 4 * processors


def test_windows_cover_an_axis_once_and_keep_their_distance() -> None:
    for length in range(8, 400, 8):
        found = windows.windows(length, 64, 16)
        assert [w.kept.stop for w in found] == [w.kept.start for w in found[1:]] + [length]
        assert found[0].kept.start == 0
        for tile, kept, inner in found:
            assert tile.stop - tile.start == min(length, 64)
            assert tile.start == 0 or kept.start - tile.start >= 16
            assert tile.stop == length or tile.stop - kept.stop >= 16
            assert (tile.start + inner.start, tile.start + inner.stop) == (kept.start, kept.stop)


def test_sides_that_are_no_multiple_are_padded_by_reflection_and_cut(tmp_path: Path) -> None:
    model = Model(denoisers.write(tmp_path / "d.cvae", denoisers.coarse(), multiple=4, reach=4))
    x = photos(1, 9, 14, 3)
    padded = np.pad(x, [(0, 0), (0, 3), (0, 2), (0, 0)], "reflect")
    assert (denoising.denoise(model, x) == denoising.denoise(model, padded)[:, :9, :14]).all()
    one = photos(1, 1, 1, 3)
    grown = np.tile(one, (1, 4, 4, 1))
    assert (denoising.denoise(model, one) == denoising.denoise(model, grown)[:, :1, :1]).all()
    assert denoising.denoise(model, photos(0, 4, 4, 3)).shape == (0, 4, 4, 3)


def test_a_network_that_looks_everywhere_has_no_reach() -> None:
    with pytest.raises(ModelError, match="looks further"):
        denoising.find_reach(free(denoisers.whole()), 3, 32)
    assert denoising.find_reach(free(denoisers.identity()), 3, 8) == 0


def test_large_tiles_go_through_the_network_one_by_one() -> None:
    network = free(denoisers.identity())
    assert network._batch([np.empty((9, 512, 512, 3), np.float32)], 1) == 1
    assert network._batch([np.empty((500, 28, 28, 3), np.float32)], 1) > 30


def test_a_codec_that_never_saw_noise_denoises_by_analysis_and_synthesis_without_quantization() -> (
    None
):
    model = registry.open_model("linear-mnist")
    x = photos(3, 28, 28, 1)
    coding = kinds.of(model.manifest).coding(model)
    expected = coding.synthesize(coding.analyse(as_floats(x)))
    found = denoising.denoise(model, x)
    assert np.abs(found - 255 * expected).max() <= 0.5001
    with pytest.raises(ImageShapeError, match="28x28 grey"):
        denoising.denoise(model, photos(1, 30, 28, 1))


def test_what_denoises_is_told_from_what_does_not(tmp_path: Path) -> None:
    plain = registry.open_model("linear-mnist")
    with pytest.raises(ModelKindError, match=r"linear-mnist.*models that denoise"):
        denoising.check(plain.manifest)
    trained = edited(plain.path, tmp_path, manifest(preset={"noise": 0.3}))
    denoising.check(Model(trained).manifest)
    model = Model(denoisers.write(tmp_path / "d.cvae", denoisers.box()))
    denoising.check(model.manifest)
    assert kinds.of(model.manifest).describe(model.manifest) == "any size RGB"
    with pytest.raises(ImageShapeError, match="any size RGB"):
        denoising.denoise(model, photos(1, 8, 8, 1))


def test_where_no_model_denoises_the_next_step_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "shipped_folder", lambda: tmp_path)
    denoisers.write(tmp_path / "d.cvae", denoisers.box())
    assert denoising.denoisers() == "models that denoise: d (any size RGB)"
    (tmp_path / "d.cvae").unlink()
    assert "`cvae train photo-dae --data FOLDER`" in denoising.denoisers()
    assert "CVAE_MODELS" in denoising.denoisers()


def test_a_denoiser_is_no_codec_and_no_file_is_written_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = registry.open_model("mnist").manifest
    path = denoisers.write(tmp_path / "photo.cvae", denoisers.box(), id=known.id)
    with pytest.raises(ModelKindError, match=r"photo is a denoiser, not a codec.*cvae denoise -m"):
        Codec(Model(path))
    monkeypatch.setenv("CVAE_MODELS", str(path))
    assert registry.find_by_id(known.id, kinds.codes).manifest.name == "mnist"
    path = denoisers.write(tmp_path / "photo.cvae", denoisers.box(), id=1)
    with pytest.raises(ModelNotFoundError, match="no model of id 0x0001"):
        registry.find_by_id(1, kinds.codes)


def swap_for(graph: bytes) -> Edit:
    def edit(members: dict[str, bytes]) -> None:
        members["denoiser.onnx"] = graph

    return edit


def lose(members: dict[str, bytes]) -> None:
    del members["denoiser.onnx"]


@pytest.mark.parametrize(
    "edit",
    [
        manifest(kind="moon"),
        manifest(kind=["denoiser"]),
        manifest(kind="codec"),
        manifest(multiple=0),
        manifest(multiple=10**9),
        manifest(multiple=2.0),
        manifest(reach=-1),
        manifest(reach=10**9),
        manifest(multiple=4, reach=6),
        manifest(latent_shape=[4]),
        manifest(expected_psnr=[20] * 100),
        manifest(default_quality=50),
        manifest(image_shape=[8, 8, 2]),
        manifest(image_shape=[8, 8, 1]),
        manifest(preset={"noise": "x"}),
        manifest(preset=[]),
        manifest(figures={"denoised_psnr": "x"}),
        manifest(hashes={}),
        lose,
        swap_for(denoisers.identity()),
        swap_for(b"no graph"),
    ],
)
def test_a_denoiser_that_was_tampered_with_is_refused_by_name(tmp_path: Path, edit: Edit) -> None:
    path = edited(denoisers.write(tmp_path / "d.cvae", denoisers.box()), tmp_path, edit)
    with pytest.raises(ModelError, match=r"edited\.cvae"):
        kinds.verify(Model(path))


def test_a_codec_says_nothing_of_tiles(tmp_path: Path) -> None:
    path = edited(registry.open_model("mnist").path, tmp_path, manifest(reach=8))
    with pytest.raises(ModelError, match="multiple and reach"):
        Codec(Model(path))


def test_a_denoiser_of_fixed_size_or_another_result_is_refused(tmp_path: Path) -> None:
    graph = denoisers.Graph()
    fixed = graph.to_bytes("d", {"x": (8, 8, 3)}, graph.add("Relu", "x"), (8, 8, 3))
    with pytest.raises(ModelError, match="expected inputs of shape"):
        kinds.verify(Model(denoisers.write(tmp_path / "f.cvae", fixed)))
    graph = denoisers.Graph()
    cut = graph.add("MaxPool", "x", kernel_shape=[2, 1], strides=[2, 1])
    half = graph.to_bytes("d", {"x": ("h", "w", 3)}, cut, ("h", "v", 3))
    model = Model(denoisers.write(tmp_path / "h.cvae", half))
    with pytest.raises(ModelError, match=r"h\.cvae"):
        denoising.denoise(model, photos(1, 8, 8, 3))


def test_the_noise_is_as_documented_and_the_same_again() -> None:
    x = photos(40, 30, 3)
    once = noise.add_noise(x, 0.3, 5)
    numbers = np.random.default_rng([0, 5]).standard_normal(x.shape, np.float32)
    expected = np.clip(x / 255 + 0.3 * numbers, 0, 1) * 255
    assert np.abs(once - expected).max() <= 0.501
    assert (noise.add_noise(x, 0.3, 5) == once).all()
    assert (noise.add_noise(x, 0.3, 6) != once).any()
    assert (noise.add_noise(x, 0, 5) == x).all()
    for factor in (-1, 11, float("nan")):
        with pytest.raises(CvaeError, match="0 to 10"):
            noise.add_noise(x, factor, 0)


def test_what_changes_nothing_leaves_all_the_noise(tmp_path: Path) -> None:
    model = Model(denoisers.write(tmp_path / "d.cvae", denoisers.identity()))
    x = photos(5, 20, 24, 3)
    figures = noise.measure(model, x, 0.2)
    assert list(figures) == ["noise", "noisy_mse", "denoised_mse", "noisy_psnr", "denoised_psnr"]
    assert figures["denoised_mse"] == figures["noisy_mse"]
    assert figures["denoised_psnr"] == figures["noisy_psnr"]
    noisy = np.stack([noise.add_noise(image, 0.2, i) for i, image in enumerate(x)])
    assert figures["noisy_mse"] == pytest.approx(np.mean((x / 255 - noisy / 255) ** 2))
    assert figures["noisy_psnr"] == pytest.approx(metrics.psnr(x, noisy).mean())
    assert noise.measure(model, x, 0.2) == figures


def test_a_box_filter_takes_noise_off_flat_images(tmp_path: Path) -> None:
    model = Model(denoisers.write(tmp_path / "d.cvae", denoisers.box()))
    figures = noise.measure(model, np.full((2, 64, 64, 3), 128, np.uint8), 0.1)
    assert figures["noisy_mse"] == pytest.approx(0.01, rel=0.05)
    assert figures["denoised_mse"] < figures["noisy_mse"] / 2
    assert figures["denoised_psnr"] > figures["noisy_psnr"] + 3


def test_images_of_different_sizes_are_measured_each_at_its_own(tmp_path: Path) -> None:
    model = Model(denoisers.write(tmp_path / "d.cvae", denoisers.box()))
    (tmp_path / "in").mkdir()
    clean = [photos(9 + i // 2, 12, 3, seed=i) for i in range(5)]
    for i, pixels in enumerate(clean):
        (tmp_path / "in" / f"{i}.png").write_bytes(encode_image(pixels))
    data = noise.load(tmp_path / "in", Which(), model)
    assert [len(data), len(noise.load(tmp_path / "in", Which(), model, limit=2))] == [5, 2]
    (alone,) = noise.load(tmp_path / "in", Which(), model, names=["3.png"])
    assert (alone == clean[3]).all()
    found = noise.measure(model, data, 0.3)
    errors = []
    for i, pixels in enumerate(clean):
        dirty = noise.add_noise(pixels, 0.3, i)
        errors.append(metrics.mse(pixels[None], denoising.denoise(model, dirty[None])))
    assert found["denoised_mse"] == pytest.approx(np.mean(errors) / 255**2)
    assert found["denoised_psnr"] == pytest.approx(np.mean(metrics.psnr_of_mse(np.array(errors))))


def test_data_that_a_denoiser_cannot_take_is_refused(tmp_path: Path) -> None:
    model = Model(denoisers.write(tmp_path / "d.cvae", denoisers.box()))
    np.savez(tmp_path / "grey.npz", x_test=photos(3, 8, 8))
    with pytest.raises(ImageError, match="expected any size, RGB, found 8x8 with 1 channels"):
        noise.load(tmp_path / "grey.npz", Which(), model)
    for place in ("nowhere", "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(DataError, match=place):
            noise.load(tmp_path / place, Which(), model)
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(ImageError, match=r"text\.png"):
        noise.load(tmp_path / "text.png", Which(), model)[0]


def test_total_variation_is_given_its_best_weight() -> None:
    from skimage.restoration import denoise_tv_chambolle

    y, x = np.mgrid[:24, :24]
    clean = np.repeat((255 * ((x > 8) & (y > 5)))[None, ..., None], 3, axis=0).astype(np.uint8)
    row = noise.total_variation(clean, 0.3)
    reached = {}
    noisy = [noise.add_noise(image, 0.3, i) for i, image in enumerate(clean)]
    for weight in (0.03, 0.1, 0.3, 1.0, row["weight"]):
        found = [denoise_tv_chambolle(i[..., 0] / 255, weight=weight, eps=2e-5) for i in noisy]
        error = np.square(255 * np.clip(found, 0, 1) - clean[..., 0]).mean(axis=(1, 2))
        reached[weight] = metrics.psnr_of_mse(error).mean()
    assert max(reached, key=lambda weight: reached[weight]) == row["weight"]
    assert row["psnr"] == pytest.approx(reached[row["weight"]], abs=0.05)
    assert row["images"] == 3


def test_the_weight_is_the_best_for_all_images_and_not_for_the_first() -> None:
    # Strong smoothing is best for the flat image, little for the rough ones.
    rough = np.random.default_rng(0).integers(0, 2, (7, 16, 16, 1), np.uint8) * np.uint8(255)
    data = np.concatenate([np.full((1, 16, 16, 1), 90, np.uint8), rough])
    row = noise.total_variation(data, 0.1)
    alone = noise.total_variation(data[:1], 0.1)
    assert (row["images"], alone["images"]) == (8, 1)
    assert alone["weight"] > row["weight"]
    stacks = list(noise._stacks(data, 0.1))
    weaker = [metrics.mse(a, noise.tv(b, alone["weight"])) for a, b in stacks]
    assert row["psnr"] > noise._means(weaker)[1] + 1


def test_photos_of_any_mode_are_read(tmp_path: Path) -> None:
    def read(image: Image.Image, channels: int = 3) -> tuple[tuple[int, ...], bool, bool]:
        path = tmp_path / "x.tif"
        image.save(path)
        reading = Reading((0, 0, channels), "own")
        photo = reading.picture(path.read_bytes(), "x")
        return reading.pixels(photo.image).shape, photo.grey, bool(photo.changes)

    colours = Image.fromarray(photos(5, 7, 3))
    assert read(colours) == ((5, 7, 3), False, False)
    assert read(colours.convert("L")) == ((5, 7, 3), True, False)
    assert read(colours.convert("CMYK")) == ((5, 7, 3), False, True)
    assert read(Image.fromarray(photos(5, 7, 4))) == ((5, 7, 3), False, True)
    assert read(Image.fromarray(photos(5, 7).astype(np.uint16) << 8)) == ((5, 7, 3), True, True)
    assert read(colours, 1) == ((5, 7, 1), False, True)
