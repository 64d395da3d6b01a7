"""Training runs of the tiny preset: resumed, exported, calibrated."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvae.bitstream.tables import Bank, Symbols
from cvae.cli import train as cli_train
from cvae.codec import open_model
from cvae.errors import DataError, TrainingError
from cvae.models import registry
from cvae.models.file import ANALYSIS, SYNTHESIS, Model
from cvae.models.qualities import Quantizer
from cvae.training import architectures, datasets, exporter, presets, runs, trainer
from cvae.training.backend import Machine
from cvae.training.export import calibration, naming
from cvae.training.export import codec as codec_export

from ..conftest import blobs, killed, run_cvae, run_here


def weights(run: Path) -> list[np.ndarray]:
    from cvae.training import checkpoints

    return checkpoints.load(runs.Run.open(run)).get_weights()


def command(out: Path, data: Path, *more: str) -> list[str]:
    return ["train", "tiny", "--data", str(data), "--out", str(out), "--epochs", "6", *more]


def test_a_run_leaves_model_history_curves_and_pictures(tiny_run: Path) -> None:
    assert {path.name for path in tiny_run.iterdir()} == {
        "run.json",
        "history.csv",
        "checkpoint.weights.h5",
        "curves.png",
        "reconstructions.png",
        "samples.png",
        "latents.png",
        "tiny.cvae",
    }
    rows = list(csv.DictReader((tiny_run / "history.csv").open()))
    assert [int(row["epoch"]) for row in rows] == list(range(1, 31))
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"]) / 2
    for path in tiny_run.glob("*.png"):
        Image.open(path).verify()


@pytest.mark.parametrize(
    ("preset", "model"),
    [("tiny-ae", "tiny_ae_run"), pytest.param("tiny-hq", "tiny_hq_model", marks=pytest.mark.slow)],
)
def test_a_killed_and_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(
    preset: str, model: str, tiny_data: Path, tmp_path: Path, request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(cli_train, "finish", lambda *_: None)
    found: Path = request.getfixturevalue(model)
    whole = found if found.is_dir() else found.parent
    resumed = killed(whole, tmp_path)
    assert len(runs.read_history(runs.Run.open(resumed))) == 1
    train = ["train", preset, "--data", str(tiny_data), "--out", str(resumed), "--quiet"]
    run_here(*train, "--resume")
    pairs = zip(weights(whole), weights(resumed), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)
    assert len(runs.read_history(runs.Run.open(resumed))) == 8


def test_an_epoch_whose_checkpoint_was_not_written_is_done_again(
    tiny_run: Path, tiny_data: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    rows = (run / "history.csv").read_text()
    # As if a run had been killed between the history and the checkpoint of one more epoch.
    last = rows.splitlines()[-1].replace("30,", "31,", 1)
    (run / "history.csv").write_text(rows + last + "\n")
    run_here("train", "tiny", "--data", tiny_data, "--out", run, "--quiet", "--resume")
    assert len(runs.read_history(runs.Run.open(run))) == 30


def test_ctrl_c_keeps_the_checkpoint_and_says_how_to_go_on(tiny_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"

    def interrupt(process: int) -> None:
        until = time.monotonic() + 180
        while not (out / "checkpoint.weights.h5").exists():
            assert time.monotonic() < until, "no epoch has finished"
            time.sleep(0.005)
        os.kill(process, signal.SIGINT)

    result = run_cvae(*command(out, tiny_data, "--epochs", "500"), code=130, begun=interrupt)
    assert b"--resume" in result.stderr


def test_another_seed_gives_other_weights(tiny_data: Path, tmp_path: Path) -> None:
    dataset = datasets.load(str(tiny_data), "mnist", (8, 8, 1))

    def trained(folder: str, seed: int) -> np.ndarray:
        preset = replace(presets.TINY, epochs=1)
        run = runs.start(tmp_path / folder, preset, dataset, seed, resume=False, force=False)
        return trainer.train(run, dataset, Machine()).get_weights()[0]

    # That the same seed gives the same weights is what resumed runs show.
    assert not np.array_equal(trained("first", 0), trained("other", 1))


def test_a_finished_run_is_not_overwritten_and_not_resumed_otherwise(
    tiny_run: Path, tiny_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["train", "tiny", "--data", str(tiny_data), "--out", str(tiny_run)]
    before = (tiny_run / "checkpoint.weights.h5").read_bytes()
    run_here(*base, code=1)
    assert "--resume" in capsys.readouterr().err
    run_here(*base, "--resume", "--learning-rate", "0.5", code=1)
    assert "learning_rate was 0.01 and is now 0.5" in capsys.readouterr().err
    assert (tiny_run / "checkpoint.weights.h5").read_bytes() == before


def test_exporting_again_keeps_id_tables_and_name(
    tiny_run: Path, tiny_data: Path, tmp_path: Path
) -> None:
    run = tmp_path / "copy"
    shutil.copytree(tiny_run, run)
    # Counted again the tables would be others: the step is. The first export's are kept.
    settings = json.loads((run / "run.json").read_text())
    settings["preset"]["step_width"] *= 2
    (run / "run.json").write_text(json.dumps(settings))
    run_here("export", run, "--data", tiny_data, "--quiet")
    first, second = Model(tiny_run / "tiny.cvae"), Model(run / "tiny.cvae")
    assert second.manifest.id == first.manifest.id
    assert second.manifest.name == first.manifest.name
    assert second.qualities.hashes() == first.qualities.hashes()


def test_exporting_on_other_data_is_refused(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "other.npz", x_train=blobs(400, seed=9)[..., 0])
    run_here("export", tiny_run, "--data", tmp_path / "other.npz", code=1)
    assert "expected the data it was trained on" in capsys.readouterr().err


def test_a_graph_that_differs_from_the_trained_network_is_not_exported(tiny_run: Path) -> None:
    from cvae.training import checkpoints

    run = runs.Run.open(tiny_run)
    model = checkpoints.load(run)
    bank = Model(tiny_run / "tiny.cvae").qualities
    x = blobs(100)
    networks = codec_export.from_keras(model, run, x.astype(np.float32) / 255)
    codec_export.check(networks, bank, x)
    trained = networks.trained
    brighter = replace(
        networks, trained={**trained, SYNTHESIS: lambda y: trained[SYNTHESIS](y) + 0.01}
    )
    with pytest.raises(TrainingError, match="levels"):
        codec_export.check(brighter, bank, x)
    shifted = replace(networks, trained={**trained, ANALYSIS: lambda x: trained[ANALYSIS](x) + 0.1})
    with pytest.raises(TrainingError, match="symbols"):
        codec_export.check(shifted, bank, x)


def test_names_that_are_taken_get_a_number() -> None:
    known = registry.known_models()[0]
    assert naming.free_name("mnist", known) == "mnist-2"
    assert naming.free_name("unheard-of", known) == "unheard-of"


def test_training_anew_keeps_the_old_model_beside_the_new(
    tiny_run: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "copy"
    shutil.copytree(tiny_run, run)
    again = ["--quiet", "--force", "--seed", "1", "--epochs", "1"]
    run_here(*command(run, tiny_data, *again))
    assert runs.Run.open(run).seed == 1
    assert (run / "tiny.cvae").read_bytes() == (tiny_run / "tiny.cvae").read_bytes()
    assert Model(run / "tiny-2.cvae").manifest.name == "tiny-2"
    assert Model(run / "tiny-2.cvae").manifest.id != Model(run / "tiny.cvae").manifest.id
    other = ["export", run, "--data", tiny_data, "--quiet", "-o", run / "tiny.cvae"]
    run_here(*other, code=1)
    assert "--force" in capsys.readouterr().err
    run_here(*other, "--force")


def test_a_loss_that_is_no_number_stops_the_run(
    tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_here(*command(tmp_path / "run", tiny_data, "--learning-rate", "1e30"), code=1)
    assert "no longer finite" in capsys.readouterr().err


def test_the_linear_codec_is_pca(tmp_path: Path) -> None:
    pixels = blobs(400)
    dataset = datasets.Dataset("x", "x", pixels[:360], pixels[360:])
    preset = replace(presets.LINEAR_MNIST, image_shape=(8, 8, 1), latent_dim=64, step_width=0.01)
    run = runs.start(tmp_path / "run", preset, dataset, seed=0, resume=False, force=False)
    linear = architectures.of(preset)
    linear.fit(run, dataset.train)
    codec = open_model(exporter.export(run, dataset, name="pca")[0].path)
    coded = codec.encode_batch(dataset.validation)
    # All 64 components and a fine step: what is lost is rounding alone.
    assert min(item.psnr for item in coded) > 45
    few = replace(preset, latent_dim=500)
    with pytest.raises(TrainingError, match="at most 64 latents"):
        linear.fit(replace(run, preset=few), dataset.train)


def test_validation_is_a_fixed_tenth_of_the_training_split(tiny_data: Path) -> None:
    a, b = (datasets.load(str(tiny_data), "mnist", (8, 8, 1)) for _ in range(2))
    assert len(a.train) == 360
    assert len(a.validation) == 40
    assert np.array_equal(a.validation, b.validation)
    with np.load(tiny_data) as arrays:
        test = {image.tobytes() for image in arrays["x_test"]}
    assert not test & {image.tobytes() for image in np.concatenate([a.train, a.validation])}


def test_folders_of_images_are_data(tmp_path: Path) -> None:
    for number, pixels in enumerate(blobs(20)):
        Image.fromarray(pixels[..., 0]).save(tmp_path / f"{number}.png")
    dataset = datasets.load(str(tmp_path), "mnist", (8, 8, 1))
    described = dataset.describe()
    assert sum(described[part] for part in ("train", "validation", "test")) == 20
    with pytest.raises(DataError, match="none in this folder"):
        (tmp_path / "empty").mkdir()
        datasets.load(str(tmp_path / "empty"), "mnist", (8, 8, 1))


def test_without_a_network_the_message_says_to_pass_data(tmp_path: Path) -> None:
    # A proxy that nobody listens at stands for a machine without a network.
    env = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    result = run_cvae(
        "train",
        "mnist",
        "--out",
        tmp_path / "run",
        code=1,
        env={**env, "KERAS_HOME": str(tmp_path)},
    )
    assert len(result.stderr.splitlines()) == 1
    assert b"--data" in result.stderr


@pytest.mark.parametrize(
    "counts", [[0, 0, 0, 0, 5, 0, 0, 0, 0, 0], list(range(10)), [10**6] * 9 + [10**7]]
)
def test_frequencies_are_valid_and_follow_the_counts(counts: list[int]) -> None:
    frequencies = calibration.to_frequencies(np.array(counts)).astype(int)
    assert frequencies.sum() == 1 << 16
    assert frequencies.min() >= 1
    assert np.argmax(frequencies) == np.argmax(counts)


def test_calibrated_tables_cost_little_more_than_the_entropy() -> None:
    latents = np.random.default_rng(0).normal(0, [1, 3, 0.01], (20_000, 3)).astype(np.float32)
    step, said = np.full(3, 0.5, np.float32), list[str]()

    def round_plainly(images: int, quantizer: Quantizer, bank: Bank) -> Symbols:
        return quantizer.quantize(latents[:images])

    qualities = calibration.calibrate(
        latents, step, np.ones(3, np.float32), round_plainly, 64, said.append
    )
    assert (said[0], len(said)) == ("1 of 17 qualities counted", 17)
    for quality in (20, 50, 80):
        symbols = qualities.quantizer(quality).quantize(latents)
        entropy = 0.0
        for column in symbols.T:
            _, counts = np.unique(column, return_counts=True)
            shares = counts / counts.sum()
            entropy -= (shares * np.log2(shares)).sum()
        bits = qualities.bank.bits(qualities.rows(quality), symbols)
        cost = bits.sum(axis=1).mean()
        assert entropy <= cost <= entropy + 0.1


def test_presets_survive_json() -> None:
    for preset in presets.PRESETS.values():
        assert presets.Preset.from_json(json.loads(json.dumps(preset.to_json()))) == preset


@pytest.mark.slow
def test_the_tiny_preset_trains_on_jax_as_well(tiny_data: Path, tmp_path: Path) -> None:
    env = {**os.environ, "KERAS_BACKEND": "jax"}
    run_cvae(*command(tmp_path / "run", tiny_data, "--quiet", "--epochs", "1"), env=env)
    assert Model(tmp_path / "run" / "tiny.cvae").manifest.versions["backend"] == "jax"
