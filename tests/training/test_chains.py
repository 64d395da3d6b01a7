"""The words that networks are written in, and the presets that are written in them."""

from __future__ import annotations

import math
from dataclasses import replace

import keras
import numpy as np
import pytest

from cvae.errors import TrainingError
from cvae.training import architectures, presets
from cvae.training.networks import builders, chains

GIVEN = (7, 9, 2)
KERNEL = 3 * 3 * 2 * 5 + 5


def network(*words: str, given: tuple[int, ...] = GIVEN, image: tuple[int, int, int] = (8, 12, 1)):
    x = keras.Input(given)
    return keras.Model(x, chains.chain(words, x, image))


def count(model: keras.Model) -> int:
    return sum(math.prod(weight.shape) for weight in model.weights)


@pytest.mark.parametrize(
    ("word", "shape", "parameters"),
    [
        ("conv 5", (7, 9, 5), KERNEL),
        ("conv 5 sigmoid", (7, 9, 5), KERNEL),
        ("conv 5 valid", (5, 7, 5), KERNEL),
        ("conv 5 /2", (4, 5, 5), KERNEL),
        ("conv 5 valid /2", (3, 4, 5), KERNEL),
        ("conv 5 norm", (7, 9, 5), KERNEL + 4 * 5),
        ("tconv 5", (7, 9, 5), KERNEL),
        ("tconv 5 *2", (14, 18, 5), KERNEL),
        ("tconv 5 *2 norm sigmoid", (14, 18, 5), KERNEL + 4 * 5),
        ("pool", (4, 5, 2), 0),
        ("up", (14, 18, 2), 0),
        ("drop 0.25", GIVEN, 0),
        ("dense 6", (6,), 7 * 9 * 2 * 6 + 6),
        ("grid 3", (8, 12, 3), 7 * 9 * 2 * 8 * 12 * 3 + 8 * 12 * 3),
    ],
)
def test_a_word_gives_the_layer_that_it_says(
    word: str, shape: tuple[int, ...], parameters: int
) -> None:
    made = network(word)
    assert made.output.shape[1:] == shape
    assert count(made) == parameters


def test_convolutions_end_in_relu_or_a_sigmoid_and_dense_layers_in_nothing() -> None:
    x = 10 * np.random.default_rng(0).normal(size=(4, *GIVEN)).astype(np.float32)
    relu, sigmoid, dense = (
        np.asarray(network(word)(x)) for word in ("conv 5", "conv 5 sigmoid", "dense 50")
    )
    assert relu.min() == 0
    assert relu.max() > 1
    assert 0 <= sigmoid.min() < 0.1 < 0.9 < sigmoid.max() <= 1
    assert dense.min() < 0


def test_pooling_takes_the_largest_and_up_repeats() -> None:
    x = np.random.default_rng(0).normal(size=(1, *GIVEN)).astype(np.float32)
    # Odd sides: the last cell has a row or column less.
    padded = np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)), constant_values=-np.inf)
    largest = padded.reshape(1, 4, 2, 5, 2, 2).max(axis=(2, 4))
    assert np.array_equal(np.asarray(network("pool")(x)), largest)
    assert np.array_equal(np.asarray(network("up")(x)), x.repeat(2, axis=1).repeat(2, axis=2))


def test_dropout_drops_its_share_in_training_alone() -> None:
    x = np.ones((100, *GIVEN), np.float32)
    dropping = network("drop 0.25")
    assert np.mean(np.asarray(dropping(x, training=True)) == 0) == pytest.approx(0.25, abs=0.02)
    assert np.array_equal(np.asarray(dropping(x)), x)


def test_a_grid_is_as_small_as_the_doublings_behind_it_make_it() -> None:
    made = network("grid 3", "tconv 4 *2", "conv 4", "tconv 2 *2", given=(5,))
    assert made.output.shape[1:] == (8, 12, 2)
    (reshape,) = (layer for layer in made.layers if isinstance(layer, keras.layers.Reshape))
    assert reshape.output.shape[1:] == (2, 3, 3)
    with pytest.raises(ValueError, match="sides divisible by 8, found 12x8"):
        network("grid 3", *("tconv 2 *2",) * 3, given=(5,))


@pytest.mark.parametrize(
    "word",
    ["convolution 3", "conv", "conv x", "conv 0", "conv 8 /3", "conv 8 *2", "conv 8 16", "tconv 8 valid",
     "tconv 8 /2", "pool 3", "up 2", "drop", "drop 1", "dense -1", "dense 3 norm", "grid", ""],
)  # fmt: skip
def test_an_unknown_word_is_named(word: str) -> None:
    with pytest.raises(TrainingError) as error:
        network("conv 4", word)
    assert f"found {word!r}" in str(error.value)


def test_presets_have_the_networks_that_they_are_documented_with() -> None:
    for preset in (presets.FASHION_AE, presets.FASHION_DAE):
        made = builders.build_autoencoder(preset)
        assert made.analysis.output.shape[1:] == (4, 4, 128)
        assert sum(map(count, made)) == 342_049
    drops = [layer for half in made for layer in half.layers if "dropout" in layer.name]
    assert [layer.rate for layer in drops] == [0.25, 0.25]
    assert builders.build_autoencoder(presets.MNIST_AE).analysis.output.shape[1:] == (4, 4, 8)
    cifar = builders.build_autoencoder(presets.CIFAR10)
    assert cifar.analysis.output.shape[1:] == (256,)
    photos = builders.build_vae(replace(presets.PHOTO_VAE, image_shape=(128, 192, 3)))
    assert photos.synthesis.output.shape[1:] == (128, 192, 3)
    assert [output.shape[1:] for output in photos.analysis.output] == [(64,), (64,)]


@pytest.mark.parametrize(
    ("preset", "changes", "message"),
    [
        (presets.PHOTO_VAE, {"image_shape": (96, 128, 3)}, "divisible by 64.*128x96.*--size"),
        (presets.TINY_AE, {"image_shape": (12, 10, 1)}, r"\(12, 10, 1\), found \(12, 12, 1\)"),
        (presets.MNIST_AE, {"image_shape": (2, 2, 1)}, "mnist-ae.*--size"),
        (presets.TINY, {"image_shape": (8, 6, 1)}, "multiples of 4, found 6x8"),
        (presets.PHOTO_DAE, {"image_shape": (32, 32, 3)}, "at least 64, found 32x32.*--size"),
        (presets.PHOTO_DAE, {"image_shape": (128, 126, 3)}, "multiples of 4 .* found 126x128"),
        (presets.TINY_AE, {"latent_dim": 33}, "at most 32 as --latents, found 33"),
        (presets.CIFAR10, {"latent_dim": 257}, "at most 256 as --latents, found 257"),
    ],
)
def test_sides_and_latents_that_do_not_fit_are_refused(
    preset: presets.Preset, changes: dict[str, object], message: str
) -> None:
    architecture = architectures.of(preset)
    architecture.model(preset)
    with pytest.raises(TrainingError, match=message):
        architecture.model(replace(preset, **changes))
