"""The architectures: one object has all that is particular to each."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cvae.codec import open_model
from cvae.errors import TrainingError
from cvae.training import architectures, presets
from cvae.training.architectures import ARCHITECTURES, Architecture
from cvae.training.presets import PRESETS, TINY

from ..conftest import run_here


def test_every_preset_has_one() -> None:
    assert {preset.architecture for preset in PRESETS.values()} == set(ARCHITECTURES)
    with pytest.raises(TrainingError, match=r"tiny: expected one of cvae, .*, found 'gan'"):
        architectures.of(replace(TINY, architecture="gan"))


def test_asking_about_options_loads_no_keras() -> None:
    script = (
        "import sys; from cvae.training import architectures, presets\n"
        "for p in presets.PRESETS.values(): architectures.of(p).refusal(p, ['latent_dim'])\n"
        "assert not {'keras', 'tensorflow', 'numpy', 'onnx'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(
    ("preset", "option", "applies"),
    [
        ("tiny", "latent_dim", True),
        ("tiny", "distortion_weight", True),
        ("tiny-dae", "latent_dim", False),
        ("tiny-ae", "distortion_weight", False),
        ("cifar10", "distortion_weight", True),
        ("cifar10", "features", True),
        ("tiny", "features", False),
        ("linear", "latent_dim", True),
        ("linear", "epochs", False),
        ("linear", "fine_tune", False),
    ],
)
def test_options_apply_to_what_has_them(preset: str, option: str, applies: bool) -> None:
    recipe = presets.PRESETS[preset]
    assert (architectures.of(recipe).refusal(recipe, [option]) == "") == applies


def test_a_new_one_is_one_object(
    tiny_data: Path, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = Architecture("build_cvae", "VariationalAutoencoder")
    monkeypatch.setitem(ARCHITECTURES, "new", new)
    monkeypatch.setitem(PRESETS, "tiny", replace(TINY, architecture="new", epochs=1))
    run_here("train", "tiny", "--data", tiny_data, "--quiet")
    assert open_model(Path("runs/tiny/tiny.cvae")).image_shape == (8, 8, 1)
