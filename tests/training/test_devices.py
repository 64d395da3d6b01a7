"""Training on several devices, on a chosen one, in half precision and compiled: on virtual processors."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cvae.models.file import Model

from ..conftest import ROOT, blobs

# Devices can only be set up before TensorFlow starts, so all runs share a process of their own.
SCRIPT = """
import json, os, sys
import tensorflow as tf

processor = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)
from cvae.cli import main, train

finish = train.finish
for arguments in json.loads(sys.argv[1]):
    # What is exported is the same on any device.
    train.finish = (lambda *_: None) if "--devices" in arguments else finish
    tf.debugging.set_log_device_placement("--devices" in arguments)
    print("RUN", flush=True)
    try:
        main(arguments)
    except SystemExit as stop:
        print("EXIT", stop.code, file=sys.stderr)
"""
RUNS = {
    "both": ("tiny", "--epochs", "1", "--devices", "cpu:0, CPU:1"),
    "second": ("tiny", "--epochs", "1", "--devices", "CPU:1"),
    "all at once": ("tiny-ae", "--epochs", "2", "--mixed-precision", "--xla", "--tensorboard"),
    "unknown": ("tiny", "--devices", "CPU:0,GPU:7"),
}

pytestmark = pytest.mark.slow

Finished = tuple[Path, dict[str, str], str]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The folder of those runs, where each computed what, and stderr of all."""
    folder = tmp_path_factory.mktemp("devices")
    # 39 images validate, and 353 train: neither can be shared out evenly.
    uneven = folder / "uneven.npz"
    np.savez(uneven, x_train=blobs(392)[..., 0], x_test=blobs(10, seed=1)[..., 0])
    commands = [
        [
            "train",
            preset,
            "--data",
            str(uneven),
            *options,
            "--out",
            str(folder / name),
        ]
        for name, (preset, *options) in RUNS.items()
    ]
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(commands)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    assert "Traceback" not in result.stderr, result.stderr[-3000:]
    # TensorFlow logs on stdout.
    placed = result.stdout.split("RUN\n")[1:]
    return folder, dict(zip(RUNS, placed, strict=True)), result.stderr


def losses(folder: Path) -> list[float]:
    return [float(row["val_loss"]) for row in csv.DictReader((folder / "history.csv").open())]


def test_all_runs_end_as_they_should(finished: Finished) -> None:
    assert re.findall(r"^EXIT (\d+)$", finished[2], re.MULTILINE) == ["0", "0", "0", "1"]


def test_two_devices_reach_nearly_the_loss_of_one(finished: Finished) -> None:
    folder = finished[0]
    # Nearly: each device draws noise for its own part of a batch.
    assert losses(folder / "both") == pytest.approx(losses(folder / "second"), rel=0.05)
    assert losses(folder / "both") != losses(folder / "second")


def test_steps_are_computed_on_the_devices_that_were_named(finished: Finished) -> None:
    def gradients(run: str) -> set[str]:
        return set(re.findall(r"\(Conv2DBackpropFilter\): .*device:(CPU:\d)", finished[1][run]))

    assert gradients("second") == {"CPU:1"}
    assert gradients("both") == {"CPU:0", "CPU:1"}


def test_half_precision_compiled_and_logged_trains_and_exports(finished: Finished) -> None:
    run = finished[0] / "all at once"
    assert json.loads((run / "run.json").read_text())["preset"]["precision"] == "mixed_bfloat16"
    assert losses(run)[1] < losses(run)[0]
    assert Model(run / "tiny-ae.cvae").manifest.name == "tiny-ae"
    events = list((run / "tensorboard").rglob("events.out.tfevents.*"))
    assert len(events) >= 2  # of training and of validation
    assert all(path.stat().st_size for path in events)


def test_devices_that_are_not_there_are_an_error_that_names_those_that_are(
    finished: Finished,
) -> None:
    folder, _, stderr = finished
    expected = "cvae: error: --devices: expected some of CPU:0,CPU:1, found GPU:7"
    assert expected in stderr.splitlines()
    assert not (folder / "unknown").exists()
