"""Grids begin with the weights of model files: what is read back, and what says so."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cvae.bitstream.tables import TOTAL
from cvae.cli import train
from cvae.data.images import Pixels
from cvae.errors import ModelError, TrainingError
from cvae.kinds.grid import Grid, GridCoding
from cvae.models import registry
from cvae.models.file import ANALYSIS, Manifest, Model, member_hashes, write_model
from cvae.models.grids import GridTables
from cvae.training import architectures, auto, checkpoints, presets, runs, trainer
from cvae.training.auto import Survey
from cvae.training.backend import Machine
from cvae.training.datasets import Dataset
from cvae.training.export import gridgraphs, gridtables, gridweights
from cvae.training.presets import TINY_GRID
from cvae.training.runs import Run

from ..conftest import run_here

FOUND = Survey(99, 600, False, large=True)


def build(**changes: Any) -> Any:
    preset = replace(TINY_GRID, **changes)
    model = architectures.of(preset).model(preset)
    model.build((None, 64, 64, 3))
    return model


def drawn(seed: int) -> Any:
    """A model whose weights all have a say."""
    model, rng = build(), np.random.default_rng(seed)
    for weight in model.weights:
        value = weight.numpy()
        spread = 0.6 / np.sqrt(max(1, np.prod(value.shape[:-1])))
        weight.assign(value + rng.normal(0, spread, value.shape))
    model.gains.assign(rng.normal(0, 0.3, model.gains.shape))
    spread = np.array([2, 1, 0.5, 0])[:, np.newaxis]
    slopes = rng.normal(0, spread, model.hyper_density.shape) + (spread == 0)
    model.hyper_density.assign(slopes)
    return model


def tables_of(model: Any) -> GridTables:
    """With tables of the hyper latents as its own distributions have them."""
    tables = gridtables.first(model, np.ones(model.latents, np.float32), [1, 1])
    rows, density = list(tables.bank), model.hyper_density.numpy().astype(np.float64)
    index = np.empty_like(tables.hyper_index)
    # Nine qualities share tables, those of the fifth of them.
    for row in range(4, 104, 9):
        level = tables.level[min(row, 99)] / 255
        for channel, (location, location_slope, scale, scale_slope) in enumerate(density.T):
            index[row - 4 : row + 5, channel] = len(rows)
            scale_here = 0.5 * np.exp(scale + level * scale_slope)
            p = gridtables.logistic(location + level * location_slope, scale_here, 255)
            rows.append(gridtables.frequencies(p))
    arrays = {**vars(tables), "bank": np.stack(rows), "hyper_index": index}
    return GridTables(**arrays)


def write(path: Path, model: Any, name: str = "photo", preset: Any = None) -> Model:
    digest, graphs, tables = gridgraphs.prepare(model), gridgraphs.graphs(model), tables_of(model)
    fields: dict[str, Any] = {"kind": "grid", "latent_shape": (model.latents,)}
    manifest = Manifest(
        id=0x1234, name=name, image_shape=(64, 64, 3), default_quality=50,
        expected_psnr=(0.0,) * 100, preset=preset or {},
        hashes={**member_hashes(graphs, tables), "weights": digest}, **fields,
    )  # fmt: skip
    path.parent.mkdir(exist_ok=True)
    write_model(path, manifest, graphs, tables, True)
    return Model(path)


@pytest.fixture(scope="module")
def trained() -> Any:
    return drawn(0)


@pytest.fixture(scope="module")
def file(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model named photo, with the thin networks of tiny-grid."""
    return write(tmp_path_factory.mktemp("models") / "photo.cvae", trained)


@pytest.fixture(scope="module")
def restored(file: Model) -> Any:
    model = drawn(1)
    gridweights.restore(model, file)
    return model


def test_what_is_read_back_is_exported_alike(restored: Any, file: Model, tmp_path: Path) -> None:
    again = write(tmp_path / "again.cvae", restored)
    ours, theirs = file.manifest.hashes, again.manifest.hashes
    loose = {"tables.npz/step", "tables.npz/bank", "tables.npz/hyper_index", "weights"}
    assert {name for name in ours if ours[name] != theirs[name]} <= loose
    assert set(ours) >= {ANALYSIS, "hyper.onnx", "synthesis.onnx", "tables.npz/weights"}
    assert np.allclose(again.grids.step, file.grids.step, rtol=1e-6, atol=0)
    rng = np.random.default_rng(3)
    small = rng.integers(0, 256, (1, 6, 8, 3), np.uint8)[0]
    picture = Image.fromarray(small).resize((96, 70), Image.Resampling.BICUBIC)
    x: Pixels = np.asarray(picture)[np.newaxis]
    codings: list[GridCoding] = [Grid().coding(model).sized(70, 96) for model in (file, again)]
    for quality in (20, 70):
        before, after = (coding.choose(x, coding.analyse(x), quality, 0) for coding in codings)
        assert before.any()
        assert np.array_equal(before, after)


def test_gains_and_distributions_are_those_that_tables_were_made_of(
    restored: Any, trained: Any
) -> None:
    assert np.allclose(restored.gains, trained.gains, atol=1e-4)
    found, expected = restored.hyper_density.numpy(), trained.hyper_density.numpy()
    assert np.abs(found[:2] - expected[:2]).max() < 0.1
    for level in (0.1, 0.9):  # logarithms of scales; what is tried is an eighth apart
        logs = [rows[2] + level * rows[3] for rows in (found, expected)]
        assert np.abs(logs[0] - logs[1]).max() < 0.15


def test_tables_of_one_symbol_give_narrow_distributions(file: Model) -> None:
    tables = file.grids
    alone = np.ones_like(tables.bank)
    alone[:, 255] = TOTAL + 1 - alone.shape[1]
    found = gridweights.density(GridTables(**{**vars(tables), "bank": alone}))
    assert np.isfinite(found).all()
    assert (found[:2].round(6) == 0).all()
    assert found[2].max() < 0  # narrow


def test_other_networks_are_refused(file: Model, tmp_path: Path) -> None:
    wider = replace(TINY_GRID.grid, hidden=((8, 8), (8, 9)))
    for changes in ({"filters": (4, 8, 4)}, {"refine": (8, 4, 4)}, {"grid": wider}):
        with pytest.raises(TrainingError, match="expected a model of the networks of this preset"):
            gridweights.restore(build(**changes), file)
    # Layers of the same shapes in another order.
    model = drawn(2)
    names = ["sixteenth0a", "sixteenth1a"]
    first, second = (model.analysis.get_layer(name) for name in names)
    graphs = gridgraphs.graphs
    gridgraphs.prepare(model)
    swapped = write(tmp_path / "x.cvae", model)
    one, other = first.get_weights(), second.get_weights()
    data = graphs(model)
    first.set_weights(other)
    second.set_weights(one)
    exchanged = gridweights.convolutions(graphs(model)[ANALYSIS])
    with pytest.MonkeyPatch.context() as patch:
        convolutions = gridweights.convolutions
        patch.setattr(
            gridweights, "convolutions",
            lambda graph: exchanged if graph == data[ANALYSIS] else convolutions(graph),
        )  # fmt: skip
        with pytest.raises(TrainingError, match="the exported analysis differs"):
            gridweights.restore(build(), swapped)


def test_a_damaged_file_is_named(file: Model, tmp_path: Path) -> None:
    path = tmp_path / "photo.cvae"
    data = bytearray(file.path.read_bytes())
    data[data.find(b"Conv")] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"photo\.cvae: .*: Bad CRC-32"):
        gridweights.restore(build(), Model(path))


# --- through the command line -------------------------------------------------------------------


def begin_alone(run: Run, dataset: Dataset, machine: Machine) -> None:
    """Leaves a run as if an epoch had taught it nothing."""
    if not runs.read_history(run):
        if run.begin:
            checkpoints.save(run, checkpoints.start(run, dataset.train, machine), best=False)
        runs.write_history(run, [{"epoch": 1, "val_loss": 1.0, "seconds": 1.0}])


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for number in range(14):
        pixels = rng.integers(0, 256, (5, 6, 3), np.uint8)
        blurred = Image.fromarray(pixels).resize((150, 140), Image.Resampling.BICUBIC)
        blurred.save(folder / f"{number}.png")
    return folder


@pytest.fixture
def installed(file: Model, workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The thin model is found by the name of photo, whose networks are as thin."""
    mnist = registry.shipped_folder() / "mnist.cvae"
    monkeypatch.setattr(registry, "search_path", lambda: [mnist, file.path])
    thin = replace(TINY_GRID, name="photo")
    monkeypatch.setitem(presets.PRESETS, "photo", thin)
    monkeypatch.setattr(auto, "PHOTO", thin)
    monkeypatch.setattr(train, "finish", lambda *_: None)
    monkeypatch.setattr(trainer, "train", begin_alone)
    return file.path


def test_a_run_begins_with_a_model_and_is_resumed_with_the_same_one_alone(
    installed: Path, pictures: Path, trained: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "photo", "--data", pictures, "--epochs", "1", "--fine-tune"]
    run_here(*command, "photo")
    run = Run.open(Path("runs/photo"))
    assert run.begin == str(installed)
    assert run.begin_model.startswith("id 0x1234, sha256 ")
    found, expected = checkpoints.load(run), trained.synthesis.get_weights()
    pairs = zip(found.synthesis.get_weights(), expected, strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)
    assert run.preset.learning_rate == pytest.approx(0.4 * TINY_GRID.learning_rate)
    run_here(*command, installed, "--resume")
    other = Path("photo.cvae")
    write(other, drawn(7))
    run_here(*command, other, "--resume", code=1)
    said = capsys.readouterr().err
    assert "cannot resume with other settings: fine-tune was " in said
    assert said.count("(id 0x1234, sha256 ") == 2


@pytest.mark.parametrize(
    ("preset", "name", "code", "message"),
    [
        ("tiny", "photo", 2, "tiny starts from the folder of a run as --fine-tune"),
        ("linear", "photo", 2, "its only option is --latents"),
        ("photo", "foto", 1, "--fine-tune foto: there is no model named 'foto'; known are: "),
        ("photo", "mnist", 1, "expected a model of the kind grid, found one of the kind codec"),
        ("photo", ".", 1, "expected the folder of a training run"),
    ],
)
def test_what_has_no_such_weights_is_refused(
    preset: str, name: str, code: int, message: str, installed: Path, pictures: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run_here("train", preset, "--data", pictures, "--fine-tune", name, code=code)
    assert message in capsys.readouterr().err
    assert not Path("runs").exists()


@pytest.mark.parametrize("options", [(), ("--minutes", "2", "--learning-rate", "0.001")])
def test_auto_goes_on_from_photo_and_prints_what_does_it_again(
    options: tuple[str, ...], installed: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    begun: list[tuple[Any, Any]] = []

    def start(folder: Path, preset: Any, *others: Any) -> None:
        begun.append((preset, others[-1]))
        raise TrainingError("stopped here")

    monkeypatch.setattr(runs, "start", start)
    run_here("train", "auto", "--data", pictures, "--out", "run", *options, code=1)
    said = capsys.readouterr().err.splitlines()
    rate = "0.001" if options else "0.0002"
    assert f"auto: begins with the weights of the model photo, learning slowly: {rate}" in said
    (line,) = (line for line in said if "the same again" in line)
    assert " --fine-tune photo" in line
    run_here(*shlex.split(line.partition("the same again: cvae ")[2]), code=1)
    (recipe, begin), (again, begin_again) = begun
    assert again == recipe
    assert recipe.minutes == (2 if options else 30)
    assert (begin.path, begin.model) == (begin_again.path, begin_again.model)
    assert begin.path == installed


def test_auto_begins_with_no_other_model(installed: Path, file: Model) -> None:
    thin = auto.choose(FOUND, None, None)
    assert auto.tuned(thin)[1] is not None
    assert auto.tuned(replace(thin, name="foto")) == (replace(thin, name="foto"), None)
    for theirs in ({}, {"refine": [1, 2, 3]}, {"latent_dim": 9}, {"grid": {"hyper": 1}}):
        manifest = replace(file.manifest, preset={**thin.to_json(), **theirs})
        written = Manifest.from_json(manifest.to_json())
        assert auto._has_networks(written, thin) == (theirs == {})
    Path("photo").mkdir()  # what --fine-tune photo would mean
    assert auto.tuned(thin)[1] is None


def test_a_run_of_auto_that_began_without_a_model_is_resumed_without_one(
    installed: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["train", "auto", "--data", pictures, "--epochs", "1"]
    with monkeypatch.context() as patch:
        patch.setattr(registry, "search_path", list)
        run_here(*command)
    assert not Run.open(Path("runs/auto")).begin
    run_here(*command, "--resume")


def test_half_precision_begins_with_the_same_weights(
    installed: Path, file: Model, restored: Any, tmp_path: Path
) -> None:
    half = replace(TINY_GRID, precision="mixed_bfloat16")
    data = {"train": 3, "sha256": ""}
    run = Run(tmp_path, half, 0, "", data, str(file.path), "id and sha256")
    model = checkpoints.start(run, np.zeros((3, 64, 64, 3), np.uint8), Machine())
    assert model.synthesis.get_layer("last").compute_dtype == "bfloat16"
    pairs = zip(model.get_weights(), restored.get_weights(), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)
