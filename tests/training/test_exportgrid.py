"""A trained grid as a model file: it computes what the networks compute, and commands know it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cvae
from cvae.bitstream import container
from cvae.codec import Codec
from cvae.data.images import as_image
from cvae.kinds.context import CLASSES, Entropy
from cvae.kinds.exactnet import all_places
from cvae.kinds.grid import GridCoding
from cvae.models.file import Model
from cvae.training import checkpoints
from cvae.training.export import gridgraphs
from cvae.training.networks import grid
from cvae.training.runs import Run

from ..conftest import photo, run_here

SIDES = 128, 192  # of whole hyper latents: where they are not, networks and file pad otherwise
QUALITY = 58


@pytest.fixture(scope="module")
def trained(tiny_grid_run: Path) -> Any:
    """The networks as they were exported, with rounded weights."""
    model = checkpoints.load(Run.open(tiny_grid_run))
    gridgraphs.prepare(model)
    return model


@pytest.fixture(scope="module")
def codec(tiny_grid_run: Path) -> Codec:
    return cvae.open_model(tiny_grid_run / "tiny-grid.cvae")


@pytest.fixture
def coding(codec: Codec) -> GridCoding:
    coding = codec.coding.sized(*SIDES)
    assert isinstance(coding, GridCoding)
    return coding


@pytest.fixture
def entropy(coding: GridCoding) -> Entropy:
    return coding.entropy


def test_the_networks_give_the_symbols_of_the_model_file(trained: Any, coding: GridCoding) -> None:
    pixels = photo(*SIDES, seed=9)[np.newaxis]
    y = coding.analyse(pixels).reshape(1, 8, 12, 8) / coding.steps(QUALITY)
    for _ in range(20):
        latents = (y * coding.steps(QUALITY)).reshape(1, -1)
        z, values = coding.parts(coding.choose(pixels, latents, QUALITY, 0))
        # Latents that are not coded, though they are far from their means: training knows none.
        coded = values.astype(np.float32) / 16
        skipped = np.abs(y - coded) > 0.51
        if not skipped.any():
            break
        y = np.where(skipped, coded, y)
    assert not skipped.any()
    level = np.full_like(y[..., :1], coding.entropy.tables.level[QUALITY - 1] / np.float32(255))
    seen = np.arcsinh(y[..., : trained.sizes.hyper_sees] / 2)
    found = trained.hyper_analysis(np.concatenate([seen, level], axis=-1))
    assert np.array_equal(np.rint(found), z)
    decoded, _ = trained.code(y, level, training=False)
    assert np.array_equal(16 * np.asarray(decoded), values)
    assert np.any(values % 16)


def test_networks_of_whole_numbers_give_the_same_means_and_classes(
    trained: Any, entropy: Entropy
) -> None:
    rng, (height, width) = np.random.default_rng(0), (7, 6)

    def activations(channels: int, least: int) -> Any:
        return rng.integers(least, 256, (2, height, width, channels)).astype(np.float32)

    for number in range(entropy.stages):
        group, turn = divmod(number, 2)
        known = [activations(trained.sizes.features + 1, 0)]
        known += [activations(channels, -255) for channels in entropy.groups[: group + turn]]
        if turn:  # of its own group the first half of the checkerboard is known
            known[-1] *= np.indices((height, width)).sum(axis=0)[..., np.newaxis] % 2 == 0
        mean, scale = trained.parameters(number, known)
        whole, classes = entropy.parameters(number, known, all_places(height, width))
        odd = (np.indices((height, width)).sum(axis=0) % 2 == turn).ravel()
        shape = (2, height * width, entropy.groups[group])
        assert np.array_equal(16 * np.asarray(mean).reshape(shape)[:, odd], whole[:, odd])
        ratio = np.log(grid.SCALE_MOST / grid.SCALE_LEAST) / (CLASSES - 1)
        place = np.log(np.asarray(scale).reshape(shape) / grid.SCALE_LEAST) / ratio
        # Where a class is half-way the logarithm may say either.
        assert np.abs(place - classes)[:, odd].max() <= 0.5 + 1e-4
        assert len(np.unique(classes)) > 1


@pytest.mark.parametrize("quality", [1, 50, 100])
def test_the_hyper_synthesis_gives_the_same_activations(
    trained: Any, entropy: Entropy, quality: int
) -> None:
    z = np.random.default_rng(1).integers(-40, 41, (1, 2, 3, entropy.hyper_channels))
    level = np.full((1, 7, 10, 1), entropy.tables.level[quality - 1], np.float32)
    found = entropy.features(z.astype(np.int32), quality, 7, 10)
    expected = trained.hyper_features(z.astype(np.float32), level, (1, 7, 10))
    assert np.array_equal(found[..., :-1], expected)
    assert np.array_equal(found[..., -1:], level)


def test_sizes_that_do_not_belong_together_are_refused() -> None:
    from dataclasses import replace

    from cvae.errors import TrainingError
    from cvae.training import architectures
    from cvae.training.presets import TINY_GRID

    for changes in ({"groups": (4, 5)}, {"hidden": ((8, 8),)}, {"hyper_sees": 9}):
        preset = replace(TINY_GRID, grid=replace(TINY_GRID.grid, **changes))
        with pytest.raises(TrainingError, match="tiny-grid: its sizes do not fit"):
            architectures.of(preset).model(preset)


def test_another_export_keeps_id_and_tables(tiny_grid_run: Path, tmp_path: Path) -> None:
    again = tmp_path / "run"
    shutil.copytree(tiny_grid_run, again)
    first = Model(tiny_grid_run / "tiny-grid.cvae")
    run_here("export", again, "-o", again / "other.cvae", "--quiet")
    second = Model(again / "other.cvae")
    assert second.manifest.identity == first.manifest.identity
    assert second.grids.hashes() == first.grids.hashes()


def test_a_run_leaves_curves_and_reconstructions(tiny_grid_run: Path) -> None:
    assert {path.name for path in tiny_grid_run.glob("*.png")} == {
        "curves.png", "reconstructions.png",
    }  # fmt: skip


def test_info_and_models_say_what_it_is(
    tiny_grid_run: Path, workdir: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("CVAE_MODELS", str(tiny_grid_run))
    model = Model(tiny_grid_run / "tiny-grid.cvae")
    run_here("info", model.path, "--json")
    facts = json.loads(capsys.readouterr().out)
    assert facts["kind"] == "model (grid)"
    assert facts["latent_channels"] == 8
    assert facts["id"] == f"{model.manifest.id:#06x}"
    run_here("models")
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if "any size RGB" in line and "tiny-grid" in line]
    assert f"{model.manifest.figures['bpp']:.3f} bpp" in line
    as_image(photo(33, 21, 1)).save("a.png")
    run_here("encode", "a.png", "-m", "tiny-grid", "--quiet")
    run_here("info", "a.bin", "--json")
    facts = json.loads(capsys.readouterr().out)
    item = container.unpack(Path("a.bin").read_bytes())
    assert facts["original_size"] == [21, 33]
    assert facts["grey"] is True
    assert facts["model"] == "tiny-grid"
    assert facts["payload_bytes"] == len(item.payload)
    assert facts["symbol_count"] == 4 + 3 * 2 * 8


def test_it_draws_no_samples(
    tiny_grid_run: Path, workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_here("sample", "-m", tiny_grid_run / "tiny-grid.cvae", code=1)
    assert "expected a model of images of one size" in capsys.readouterr().err
