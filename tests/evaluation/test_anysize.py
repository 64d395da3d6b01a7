"""`benchmarks/`: pictures of any size beside other codecs, and what its helpers compute."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import bjontegaard
import numpy as np
import pytest
from PIL import Image

from cvae.data.images import Pixels

from ..conftest import ROOT

NAMES = ("anysize", "credits", "crops", "msssim", "photospeed", "results", "timing")


def imported(name: str) -> ModuleType:
    """A module of benchmarks/, whose modules import each other by bare names."""
    return importlib.import_module(name)


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and "benchmarks" in str(
            sys.modules[name].__file__
        ):
            del sys.modules[name]


def scene(height: int, width: int, channels: int = 3) -> Pixels:
    """Waves of several lengths, with some noise."""
    y, x = np.mgrid[:height, :width]
    waves = sum(np.sin(x / n + y / (2 * n)) + np.cos(y / n) for n in (3, 9, 31))
    noise = np.random.default_rng(0).normal(0, 0.3, (height, width, channels))
    return np.clip(127 + 25 * (np.asarray(waves)[..., np.newaxis] + noise), 0, 255).astype(np.uint8)


def noisy(x: Pixels, deviation: float) -> Pixels:
    noise = np.random.default_rng(1).normal(0, deviation, x.shape)
    return np.clip(x + noise, 0, 255).astype(np.uint8)


# (height, width) even and odd at several scales
@pytest.mark.parametrize("shape", [(192, 256), (177, 203)])
@pytest.mark.parametrize("deviation", [5.0, 40.0])
def test_ms_ssim_is_that_of_tensorflow(shape: tuple[int, int], deviation: float) -> None:
    tf = pytest.importorskip("tensorflow")
    x = scene(*shape)
    y = noisy(x, deviation)
    expected = float(tf.image.ssim_multiscale(x, y, max_val=255))
    assert imported("msssim").ms_ssim(x, y) == pytest.approx(expected, abs=2e-4)


def test_ms_ssim_is_one_of_equal_pictures_and_none_of_small_ones() -> None:
    ms_ssim, x = imported("msssim").ms_ssim, scene(176, 180, 1)
    assert ms_ssim(x, x) == pytest.approx(1)
    assert ms_ssim(x[:175], x[:175]) is None


def curve(shift: float, start: float = -3, count: int = 7) -> list[tuple[float, float]]:
    """5 dB a doubling of the rate, at `shift` times the bits."""
    return [(shift * 2.0 ** (start + i), 20.0 + 5 * (start + i)) for i in range(count)]


def test_bd_rate_of_the_same_curve_at_fewer_bits_is_the_share_of_bits_saved() -> None:
    bd_rate = imported("anysize").bd_rate
    for rates in ((0, math.inf), (0.25, 1.0)):
        assert bd_rate(curve(0.6), curve(1.0), rates) == pytest.approx(-40)
        assert bd_rate(curve(1.5), curve(1.0), rates) == pytest.approx(50)


def test_bd_rate_over_all_rates_is_that_of_the_package() -> None:
    ours = [(0.1, 24.0), (0.2, 27.5), (0.5, 31.0), (1.1, 35.5), (2.0, 38.0)]
    other = [(0.15, 23.0), (0.3, 27.0), (0.6, 30.5), (1.3, 34.0), (2.5, 39.0)]
    expected = bjontegaard.bd_rate(
        *(list(axis) for axis in (*zip(*other, strict=True), *zip(*ours, strict=True))),
        method="pchip", require_matching_points=False, min_overlap=0,
    )  # fmt: skip
    assert imported("anysize").bd_rate(ours, other) == pytest.approx(expected, abs=0.05)


def test_bd_rate_counts_only_where_the_other_is_within_the_rates() -> None:
    bd_rate = imported("anysize").bd_rate
    # Half the bits up to 25 dB, which the other reaches at 2 bits, and three times beyond.
    ours = [(bits * (0.5 if bits <= 2 else 3), psnr) for bits, psnr in curve(1.0, count=9)]
    assert bd_rate(ours, curve(1.0, count=9), (0.25, 1.0)) == pytest.approx(-50, abs=0.5)
    assert bd_rate(ours, curve(1.0, count=9)) > -50


def test_bd_rate_is_none_where_there_is_too_little_in_common() -> None:
    bd_rate = imported("anysize").bd_rate
    assert bd_rate(curve(1.0), curve(1.0)[:3]) is None
    assert bd_rate(curve(1.0, start=5), curve(1.0)) is None
    assert bd_rate(curve(1.0), curve(1.0, start=1, count=5), (0.25, 1.0)) is None
    assert bd_rate(curve(1.0), curve(1.0), (0.9, 1.0)) is None


def test_the_hull_leaves_out_what_a_mixture_of_two_beats() -> None:
    points = [(3.0, 31.0), (1.0, 20.0), (2.0, 25.0), (2.5, 24.0), (4.0, 30.0)]
    assert imported("anysize").hull(points) == [(1.0, 20.0), (3.0, 31.0)]
    assert imported("anysize").front(points) == [(1.0, 20.0), (2.0, 25.0), (3.0, 31.0)]


def test_points_are_kept_by_what_a_picture_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    anysize = imported("anysize")
    monkeypatch.setattr(anysize, "KEPT", tmp_path / "kept")
    for name in ("a", "b"):
        Image.fromarray(scene(40, 48)).save(tmp_path / f"{name}.png")
    setting = next(iter(anysize.RIVALS["jpeg"].settings("single", 3)))
    tasks = [
        anysize.Task(tmp_path / f"{name}.png", "jpeg", anysize.json.dumps(setting)) for name in "ab"
    ]
    point = anysize.measure(tasks[0])
    assert 0 < point.bpp < 8
    assert point.ms_ssim is None
    assert tasks[1].kept == tasks[0].kept
    monkeypatch.setattr(anysize, "_measured", None)
    assert anysize.measure(tasks[1]) == point


def test_a_codec_that_refuses_a_picture_has_no_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    anysize = imported("anysize")
    monkeypatch.setattr(anysize, "KEPT", tmp_path / "kept")
    Image.fromarray(scene(3, 3)).save(tmp_path / "a.png")
    setting = '{"num_resolutions": 6, "irreversible": true, "no_jp2": true}'
    task = anysize.Task(tmp_path / "a.png", "jpeg2000", setting)
    assert anysize.measure(task) is None
    assert anysize.measure(task) is None


def test_crops_take_the_lowest_quality_of_at_least_as_many_bytes() -> None:
    smallest_from = imported("crops").smallest_from

    def code(quality: int) -> tuple[int, Pixels]:
        return 10 * quality, scene(1, 1)

    assert smallest_from(255, code)[0] == 260
    assert smallest_from(1, code)[0] == 10
    assert smallest_from(5000, code)[0] == 1000


@pytest.mark.parametrize(
    ("credit", "author"),
    [
        ("(credit: “Targets, by the dozen” by Ann Lee/flickr, CC BY 2.0)", "Ann Lee/flickr"),
        ("(Credit: Ann Lee/ Flickr/ Attribution 2.0 Generic (CC BY 2.0))", "Ann Lee/Flickr"),
        ("(credit: modification of work “X” by “ann”/Flickr, CC0 1.0)", "ann/Flickr"),
        ("credit: Ann Lee)", "Ann Lee"),
        ("", ""),
    ],
)
def test_credits_name_the_author_alone(credit: str, author: str) -> None:
    assert imported("credits").author(credit) == author


def test_credits_are_grouped_by_licence_and_counted() -> None:
    rows = [
        {"set": "train", "source": "github.com/a/b", "licence": "CC0", "credit": ""},
        {"set": "valid", "source": "github.com/a/b", "licence": "CC0", "credit": ""},
        {"set": "train", "source": "github.com/a/b", "licence": "MIT", "credit": "(credit: Ann)"},
    ]
    page = imported("credits").document(rows)
    assert "2 pictures to train, 1 pictures to validate" in page
    assert page.endswith("## CC0: 2\n\n- from a/b (2)\n\n## MIT: 1\n\n- Ann\n")


def test_pictures_of_any_size_are_mirrored_tiles() -> None:
    tile = scene(8, 10)
    picture = imported("photospeed").mirrored([tile], 20, 12)
    assert picture.shape == (12, 20, 3)
    assert np.array_equal(picture[:8, :8], tile[:, :8])
    assert np.array_equal(picture[:8, 8:16], tile[:, 7::-1])
    assert np.array_equal(picture[8:, :8], tile[:3:-1, :8])


def test_sections_are_replaced_by_their_headings_and_the_rest_stays() -> None:
    with_sections = imported("results").with_sections
    text = "# Results\n\nHead.\n\n## A\n\n1\n\n## B\n\n2\n"
    assert with_sections(text, {}) + "\n" == text
    changed = with_sections(text, {"A": "3", "C": "4"})
    assert changed == "# Results\n\nHead.\n\n## A\n\n3\n\n## B\n\n2\n\n## C\n\n4"
