"""What the perceptual loss compares."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from cvae.errors import TrainingError
from cvae.training.networks import features
from cvae.training.presets import CIFAR10, TINY_AE, Preset

from ..conftest import run_here

X = np.random.default_rng(0).random((4, 16, 16, 3)).astype(np.float32)
NOISE = np.random.default_rng(1).normal(size=X.shape).astype(np.float32)


def difference(x: np.ndarray, x_hat: np.ndarray, preset: Preset = CIFAR10) -> np.ndarray:
    compare = features.perceptual(replace(preset, perceptual_weight=1.0))
    assert compare is not None
    return np.asarray(compare(x, x_hat))


def test_equal_images_differ_by_nothing_and_others_the_more_the_more_they_do() -> None:
    assert difference(X, X).tolist() == [0, 0, 0, 0]
    little, more, much = (difference(X, X + factor * NOISE) for factor in (0.01, 0.03, 0.1))
    assert (little > 0).all()
    assert (more > 4 * little).all()
    assert (much > 4 * more).all()


def test_grey_images_are_compared_as_colour_images_of_that_grey() -> None:
    grey, other = X[..., :1], X[::-1, ..., :1]
    found = difference(grey, other, TINY_AE)
    colour = [np.repeat(x, 3, axis=3) for x in (grey, other)]
    np.testing.assert_allclose(found, difference(*colour), rtol=1e-4)


def test_gradients_reach_every_image() -> None:
    import tensorflow as tf

    compare = features.perceptual(CIFAR10)
    assert compare is not None
    x_hat = tf.Variable(X + 0.1 * NOISE)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(compare(X, x_hat))
    gradient = np.asarray(tape.gradient(loss, x_hat))
    assert (np.abs(gradient).max(axis=(1, 2, 3)) > 1e-4).all()


def test_without_weight_there_is_nothing_to_compare() -> None:
    assert features.perceptual(replace(TINY_AE, features="nowhere.npz")) is None


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    network = features.build()
    features.save(network.get_weights(), tmp_path / "own.npz")
    found = features.load(tmp_path / "own.npz")
    for a, b in zip(found(X), network(X), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), atol=0.01)
    preset = replace(CIFAR10, features=str(tmp_path / "own.npz"))
    assert not np.allclose(difference(X, X + NOISE, preset), difference(X, X + NOISE))


def test_a_file_of_something_else_is_an_error_that_names_it(tmp_path: Path) -> None:
    text, other, small = (tmp_path / name for name in ("text.npz", "other.npz", "small.npz"))
    text.write_text("text")
    np.savez(other, x=X)
    features.save([weight[:1] for weight in features.build().get_weights()], small)
    for path, expected in (
        (text, "npz file"),
        (other, "'kernel0', found x"),
        (small, "weights of"),
    ):
        with pytest.raises(TrainingError, match=expected) as error:
            features.load(path)
        assert str(error.value).startswith(f"--features {path}: expected")
    with pytest.raises(TrainingError, match="No such file"):
        features.load(tmp_path / "nowhere.npz")


@pytest.mark.parametrize("source", ["vgg16", "nowhere.h5"])
def test_without_vgg16_one_line_names_the_alternatives(
    source: str, tiny_data: Path, workdir: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def fails(*_: object, **__: object) -> None:
        raise Exception("URL fetch failure on https://storage: None\nand more lines")

    if source == "vgg16":
        monkeypatch.setattr(keras.applications, "VGG16", fails)
    base = ["train", "tiny-ae", "--data", tiny_data, "--out", "run", "--quiet"]
    run_here(*base, "--perceptual-weight", "1", "--features", source, code=1)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"cvae: error: --features {source}: the weights of VGG16 cannot be had")
    assert "--features cifar10" in line
    assert "FILE.h5" in line
    assert not Path("run").exists()


def test_features_without_weight_are_wrong_usage(
    tiny_data: Path, workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_here("train", "tiny-ae", "--data", tiny_data, "--features", "cifar10", code=2)
    assert "--perceptual-weight above 0" in capsys.readouterr().err
