"""Other codecs on the same images: mosaics, brackets, curves, rows."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from cvae import open_model
from cvae.codec import Codec
from cvae.data import metrics
from cvae.data.sources import Which
from cvae.errors import CvaeError, MissingExtraError
from cvae.evaluation import comparison, measure, rivals
from cvae.evaluation.measure import Measured
from cvae.evaluation.rivals import JPEG, PNG, RIVALS, WEBP

from ..conftest import SAMPLES, blobs


def quiet(_: str) -> None:
    pass


def photos(count: int, channels: int) -> np.ndarray:
    """Smooth images of 24x16 with a little noise: something that every codec can be asked for."""
    rng = np.random.default_rng(0)
    x = 4 * blobs(count, 24).astype(int)[:, :, :16] // 5 + rng.integers(
        0, 30, (count, 24, 16, channels)
    )
    return x.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(("count", "channels"), [(1, 1), (7, 3), (23, 1)])
def test_mosaics_cut_apart_are_the_originals(
    monkeypatch: pytest.MonkeyPatch, count: int, channels: int
) -> None:
    monkeypatch.setattr(rivals, "MOSAIC_TILES", 10)
    x = photos(count, channels)
    pictures = rivals.mosaics(x)
    assert len(pictures) == -(-count // 10)
    assert np.array_equal(rivals.cut(pictures, x.shape), x)


def test_a_mosaic_of_a_thousand_images_is_nearly_square() -> None:
    (picture,) = rivals.mosaics(np.zeros((1000, 28, 28, 1), np.uint8))
    height, width, _ = picture.shape
    assert max(height, width) / min(height, width) < 1.1
    (wide,) = rivals.mosaics(np.zeros((100, 8, 32, 1), np.uint8))
    assert wide.shape == (20 * 8, 5 * 32, 1)


def test_large_images_make_smaller_mosaics() -> None:
    assert rivals.tiles_a_mosaic((28, 28, 1)) == 1000
    assert rivals.tiles_a_mosaic((1000, 1000, 3)) == 64


def test_png_is_lossless_and_its_bytes_are_pillows_own() -> None:
    x = photos(5, 1)
    options = PNG.settings("single", 1, lossless=True)[0]
    point = rivals.measure(PNG, x, "single", options)
    sizes = []
    for image in x:
        buffer = io.BytesIO()
        Image.fromarray(image[..., 0]).save(buffer, format="PNG", optimize=True)
        sizes.append(buffer.tell())
    assert point.total_bytes == sum(sizes)
    assert point.lossless
    assert point.psnr == metrics.PSNR_CAP
    mosaic = rivals.measure(PNG, x, "mosaic", options)
    assert mosaic.lossless
    assert mosaic.total_bytes < point.total_bytes


@pytest.mark.parametrize("name", [name for name in RIVALS if name != "avif"])
@pytest.mark.parametrize("layout", ["single", "mosaic"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_codec_codes_grey_and_colour(name: str, layout: rivals.Layout, channels: int) -> None:
    rival = RIVALS[name]
    rivals.check(rival)
    x = photos(6, channels)
    for lossless in rival.settings(layout, channels, lossless=True):
        assert rivals.measure(rival, x, layout, lossless).lossless
    settings = rival.settings(layout, channels)
    if settings:
        low, high = (rivals.measure(rival, x, layout, s) for s in (settings[0], settings[-1]))
        assert low.total_bytes < high.total_bytes
        assert 4 < low.psnr < high.psnr
        assert low.decoded.shape == x.shape
        assert low.psnr == pytest.approx(metrics.psnr(x, low.decoded).mean())


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
@pytest.mark.parametrize("channels", [1, 3])
def test_avif_codes_grey_and_colour(channels: int) -> None:
    x = photos(2, channels)
    settings = RIVALS["avif"].settings("single", channels)
    point = rivals.measure(RIVALS["avif"], x, "single", settings[-1])
    assert 30 < point.psnr < metrics.PSNR_CAP


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_grey_pictures_among_others_are_coded_as_grey_ones() -> None:
    avif, (grey,), (colour,) = RIVALS["avif"], photos(1, 1), photos(1, 3)
    of_grey, of_colour = (avif.settings("single", channels)[0] for channels in (1, 3))
    point = rivals.measure(avif, [grey, colour], "single", of_colour)
    sizes = rivals.code(avif, grey, of_grey)[0], rivals.code(avif, colour, of_colour)[0]
    assert point.total_bytes == sum(sizes)
    assert rivals.code(avif, grey, of_colour)[0] > sizes[0]


@pytest.mark.parametrize("name", ["jpeg", "avif"])
def test_colour_behind_a_sample_of_grey_is_coded_in_colour(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if name == "avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    monkeypatch.setattr(rivals, "_SAMPLE", 2)
    red = np.zeros((1, 16, 16, 3), np.uint8) + np.array([200, 30, 40], np.uint8)
    points = rivals.curve(RIVALS[name], [*photos(3, 1), *red], "single", 60, quiet)
    assert all(
        "subsampling=4:2:0" in p.settings or "subsampling=4:4:4" in p.settings for p in points
    )
    assert points[-1].mse[-1] < 10  # without its colour it would be far off


def test_the_front_holds_what_nothing_beats() -> None:
    points = [(10.0, 20.0), (12.0, 19.0), (12.0, 22.0), (9.0, 15.0), (15.0, 22.0)]
    assert rivals.front(points) == [3, 0, 2]


@pytest.mark.parametrize("layout", ["single", "mosaic"])
@pytest.mark.parametrize("rival", [WEBP, JPEG], ids=lambda rival: rival.name)
def test_curves_bracket_their_target_as_tightly_as_the_settings_allow(
    rival: rivals.Rival, layout: rivals.Layout
) -> None:
    x = photos(12, 1)
    target = 30.0
    points = [p for p in rivals.curve(rival, x, layout, target, quiet) if not p.lossless]
    assert len(points) >= 4
    below = max(p.psnr for p in points if p.psnr < target)
    above = min(p.psnr for p in points if p.psnr >= target)
    reached = [rivals.measure(rival, x, layout, s) for s in rival.settings(layout, 1)]
    front = rivals.front([(p.mean_bytes, p.psnr) for p in reached])
    inside = [reached[i].psnr for i in front if below < reached[i].psnr < above]
    assert inside == []
    assert min(p.total_bytes for p in reached) == points[0].total_bytes


def test_a_bracket_is_exact_where_a_sample_misleads() -> None:
    sample = [20.0 + i for i in range(20)]
    asked = []

    def reached(index: int) -> float:
        asked.append(index)
        return sample[index] - 3.3

    found = rivals.bracket(reached, sample, 28.0)
    assert {0, 11, 12} <= {*found}
    assert found == sorted(asked)
    assert len(asked) == len(set(asked)) < 12


def test_settings_that_an_encoder_refuses_are_left_out() -> None:
    tiny = np.zeros((3, 2, 2, 1), np.uint8)
    broken = replace(JPEG, lossy={"quality": [1, 50], "subsampling": ["nonsense"]})
    with pytest.raises(CvaeError, match="jpeg: cannot code 2x2"):
        rivals.curve(broken, tiny, "single", 30.0, quiet)
    lossy = {"quality": [50], "subsampling": ["nonsense", "4:4:4"]}
    half = replace(JPEG, lossy=lossy, colour={})
    assert len(rivals.curve(half, photos(3, 3), "single", 30.0, quiet)) == 1


@pytest.mark.skipif(not features.check("jpg_2000"), reason="needs JPEG 2000")
def test_a_small_mosaic_has_as_few_resolutions_as_it_takes() -> None:
    one, rival = blobs(1, side=28), RIVALS["jpeg2000"]
    assert rivals.curve(rival, one, "mosaic", 30.0, quiet)[-1].lossless
    settings = rival.settings("mosaic", 1, lossless=True)
    assert max(options["num_resolutions"] for options in settings) == 6
    assert rivals.smallest(rival, one, "mosaic", settings)["num_resolutions"] < 6


def test_a_codec_that_is_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "check", lambda name: False)
    with pytest.raises(CvaeError, match=r"webp: expected a Pillow with WEBP.*pip install"):
        rivals.check(WEBP)
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    with pytest.raises(MissingExtraError, match="pillow-jxl-plugin"):
        rivals.check(RIVALS["jxl"])
    monkeypatch.setitem(sys.modules, "bjontegaard", None)
    with pytest.raises(MissingExtraError, match="bjontegaard"):
        comparison.check(open_model(), [])


def test_names_are_checked() -> None:
    assert comparison.parse("webp, PNG,webp") == ["webp", "png"]
    with pytest.raises(CvaeError, match="found 'gif'"):
        comparison.parse("png,gif")


def row(size: float, psnr: float, lossless: bool = False) -> comparison.Row:
    return {"file_bytes_mean": size, "psnr_mean": psnr, "lossless": lossless}


def test_bytes_at_a_psnr_are_interpolated_between_neighbours_only() -> None:
    rows = [row(100, 20), row(400, 30), row(90, 99, True)]
    assert comparison.bytes_at(rows[:2], 25) == pytest.approx(200)
    assert comparison.bytes_at(rows[:2], 19.9) is None
    assert comparison.bytes_at(rows[:2], 30.1) is None
    assert comparison.bytes_at(rows, 25) == 90
    assert comparison.bytes_at(rows[2:], 25) is None


def test_bd_rate_is_negative_where_ours_needs_less() -> None:
    ours = [row(10 * 2**i, 20 + 3 * i) for i in range(5)]
    theirs = [row(20 * 2**i, 20 + 3 * i) for i in range(5)]
    assert comparison.bd_rate(ours, theirs) == pytest.approx(-50)
    assert comparison.bd_rate(theirs, ours) == pytest.approx(100)
    assert comparison.bd_rate(ours, theirs[:3]) is None
    far = [row(20 * 2**i, 60 + 3 * i) for i in range(5)]
    assert comparison.bd_rate(ours, far) is None


@pytest.fixture(scope="module")
def model() -> Codec:
    return open_model("mnist")


@pytest.fixture(scope="module")
def measured(model: Codec) -> Measured:
    return measure.measure(
        model, measure.load(SAMPLES, Which("test"), model.reading())[0], effort=1
    )


def test_rows_of_both_sides_have_the_same_figures(model: Codec, measured: Measured) -> None:
    found = comparison.compare(model, measured, ["png", "jpeg"], quiet)
    figures = measure.summarize(model, measured)
    layouts = {(r["codec"], r["layout"]) for r in found.curve + found.rivals}
    assert layouts == {
        ("mnist", "single"), ("mnist", "block"), ("png", "single"), ("png", "mosaic"),
        ("jpeg", "single"), ("jpeg", "mosaic"),
    }  # fmt: skip
    ours = [r for r in found.curve if r["settings"] == "quality=50 effort=1"]
    for name in (
        "file_bytes_mean",
        "psnr_mean",
        "psnr_of_mean_mse",
        "mse_mean",
        "bpp",
        "ssim_mean",
    ):
        assert ours[0][name] == figures[name]
    assert ours[1]["file_bytes_mean"] < ours[0]["file_bytes_mean"]
    assert {r["settings"].split()[0] for r in found.curve} == {
        f"quality={q}" for q in (10, 30, 50, 70, 90)
    }
    for rival in found.rivals:
        assert set(rival) == {*found.curve[0], "bytes_at_our_psnr", "bd_rate_percent"}
    jpeg = [r for r in found.rivals if r["codec"] == "jpeg" and r["layout"] == "single"]
    assert sum(r["ssim_mean"] is not None for r in jpeg) == 1
    assert jpeg[0]["bd_rate_percent"] < 0
    sizes = [r["file_bytes_mean"] for r in jpeg]
    assert min(sizes) < jpeg[0]["bytes_at_our_psnr"] < max(sizes)


def test_lines_say_what_is_not_reached(model: Codec, measured: Measured) -> None:
    found = comparison.compare(model, measured, ["png"], quiet)
    lines = comparison.lines(found.curve, found.rivals, 50, float(measured.psnr.mean()))
    assert [(line.codec, line.layout) for line in lines] == [
        ("mnist", "single"), ("mnist", "block"), ("png", "single"), ("png", "mosaic"),
    ]  # fmt: skip
    assert lines[2].psnr is None
    assert not lines[2].mark
    assert lines[2].times_ours == pytest.approx(lines[2].bytes / lines[0].bytes)


@pytest.mark.parametrize(
    ("psnr", "mark"), [(20.0, comparison.STARTS_ABOVE), (30.0, ""), (50.0, comparison.ENDS_BELOW)]
)
def test_lines_mark_what_cannot_be_compared_at_our_psnr(psnr: float, mark: str) -> None:
    def whole(codec: str, size: float, reached: float) -> comparison.Row:
        settings = {"codec": codec, "layout": "single", "settings": "quality=50 effort=5"}
        return {**row(size, reached), **settings}

    curve = [whole("ours", 10, psnr)]
    others = [whole("webp", 90, 25), whole("webp", 150, 40)]
    line = comparison.lines(curve, comparison.seen_from(curve, psnr, others), 50, psnr)[1]
    assert line.mark == mark
    assert line.psnr == {20.0: 25, 30.0: 30, 50.0: 40}[psnr]


def test_linear_is_the_one_fitted_to_the_same_images(
    tiny_model: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cvae.training import architectures, datasets, exporter, presets, runs

    codec = open_model(tiny_model)
    monkeypatch.setenv("CVAE_MODELS", str(tiny_model))
    with pytest.raises(CvaeError, match="cvae train linear"):
        comparison.find_linear(codec)

    preset = replace(presets.LINEAR_MNIST, name="tiny-linear", image_shape=(8, 8, 1), latent_dim=8)
    dataset = datasets.load(str(tiny_data), "mnist", preset.image_shape)
    run = runs.start(tmp_path / "linear", preset, dataset, 0, False, False)
    architectures.of(preset).fit(run, dataset.train)
    monkeypatch.setenv("CVAE_MODELS", str(exporter.export(run, dataset)[0].path))
    assert comparison.find_linear(codec).name == "tiny-linear"
    with pytest.raises(CvaeError, match="another kind"):
        comparison.find_linear(comparison.find_linear(codec))

    ours = measure.measure(codec, blobs(20, seed=1), effort=0)
    found = comparison.compare(codec, ours, ["linear"], quiet)
    assert {(r["codec"], r["layout"]) for r in found.rivals} == {
        ("linear", "single"), ("linear", "block"),
    }  # fmt: skip
    singles = [r for r in found.rivals if r["layout"] == "single"]
    blocks = [r for r in found.rivals if r["layout"] == "block"]
    assert [r["mse_mean"] for r in singles] == [r["mse_mean"] for r in blocks]
    assert all(
        a["file_bytes_mean"] > b["file_bytes_mean"] for a, b in zip(singles, blocks, strict=True)
    )
