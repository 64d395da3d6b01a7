"""Keras networks as ONNX graphs: ONNX Runtime must give what Keras gives."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest

from cvae.models.networks import Network
from cvae.training import architectures, presets
from cvae.training.export import gradient, layers
from cvae.training.export.graph import Graph, half_precision
from cvae.training.networks import builders, chains

# Together every word, on odd sides where it takes them.
CHAINS = {
    "convolutions": ((9, 7, 2), ("conv 4 valid", "conv 5 /2 norm", "conv 3 valid /2 sigmoid")),
    "even sides": ((8, 6, 3), ("conv 4 /2", "pool", "conv 2 norm sigmoid")),
    "odd sides": ((9, 7, 2), ("pool", "conv 3 norm", "pool", "up", "drop 0.3", "conv 2")),
    "vectors": ((7, 5, 2), ("conv 3", "drop 0.5", "dense 6")),
    "after phases": ((6,), ("grid 4", "tconv 3 *2 norm", "pool", "tconv 2 *2", "dense 5")),
    "wide": ((6,), ("grid 3", "tconv 4 *2", "tconv 6 norm sigmoid")),
    "growing": ((6,), ("grid 3", "tconv 4 *2 norm", "tconv 3 *2", "tconv 2 norm sigmoid")),
    "phases as they are": ((6,), ("grid 3", "tconv 4 *2 norm", "drop 0.1", "tconv 2 *2 sigmoid")),
    "up": ((3, 4, 2), ("tconv 3 *2", "up", "tconv 2", "conv 1 valid sigmoid")),
}


def randomize(network: keras.Model, seed: int = 0) -> None:
    """Weights, and statistics of normalization, as a trained network might have them."""
    rng = np.random.default_rng(seed)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            size = layer.gamma.shape
            values = [rng.uniform(0.5, 1.5, size), *rng.normal(0, 0.3, (2, *size))]
            layer.set_weights([*values, rng.uniform(0.2, 2, size)])
        else:
            given = [weight.shape for weight in layer.weights]
            layer.set_weights([rng.normal(0, 0.7 / math.prod(s) ** 0.25, s) for s in given])


def random_network(name: str) -> keras.Model:
    shape, words = CHAINS[name]
    x = keras.Input(shape)
    network = keras.Model(x, chains.chain(words, x, (8, 12, 1)))
    randomize(network)
    return network


def ready(network: keras.Model) -> keras.Model:
    """As it is when it is exported."""
    layers.fold_normalization(network)
    network.set_weights([half_precision(weight) for weight in network.get_weights()])
    return network


def random_input(network: keras.Model, *sides: int) -> np.ndarray:
    shape = sides or network.input.shape[1:]
    return np.random.default_rng(1).normal(size=(5, *shape)).astype(np.float32)


def exported(network: keras.Model, output: Any = None) -> Network:
    """The graph of a network whose sides are fixed, or of one of its outputs."""
    graph, given = Graph(), network.input.shape[1:]
    result = (network.output if output is None else output).shape[1:]
    name = layers.add_network(graph, network, "x", output)
    return Network(graph.to_bytes("n", {"x": given}, name, result), "n", [given], result)


@pytest.mark.parametrize("name", CHAINS)
def test_a_graph_gives_what_the_network_gives(name: str) -> None:
    network = ready(random_network(name))
    x = random_input(network)
    expected = np.asarray(network(x))
    assert expected.std() > 0.02, "a network that gives nothing shows nothing"
    np.testing.assert_allclose(exported(network)(x), expected, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in CHAINS if "norm" in str(CHAINS[name])])
def test_folding_normalization_changes_no_output(name: str) -> None:
    network = random_network(name)
    x = random_input(network)
    before = network.predict(x, verbose=0)
    layers.fold_normalization(network)
    np.testing.assert_allclose(network.predict(x, verbose=0), before, atol=1e-5)
    # What is left of it is exactly nothing, in half precision too: graphs leave it out.
    for norm in (layer for layer in network.layers if "norm" in layer.name):
        norm.set_weights([half_precision(weight) for weight in norm.get_weights()])
        y = random_input(norm)
        assert np.array_equal(np.asarray(norm(y)), y)


@pytest.mark.parametrize("sides", [(8, 12), (4, 4), (20, 8)])
def test_a_denoiser_is_the_same_at_every_size(sides: tuple[int, int]) -> None:
    preset = replace(presets.TINY_DAE, filters=(3, 4, 5), image_shape=(8, 8, 2))
    network = builders.build_denoiser(preset)
    randomize(network)
    x = random_input(network, *sides, 2)
    before = np.asarray(network(x))
    ready(network)
    graph, free = Graph(), ("height", "width", 2)
    data = graph.to_bytes("d", {"x": free}, layers.add_network(graph, network, "x"), free)
    found = Network(data, "d", [(None, None, 2)], (None, None, 2))(x)
    np.testing.assert_allclose(found, np.asarray(network(x)), atol=1e-4)
    assert np.abs(found - before).max() < 0.05 * before.std()  # of half precision


@pytest.mark.parametrize("name", ["tiny", "tiny-hq"])
@pytest.mark.parametrize("half", ["analysis", "synthesis"])
def test_named_architectures_give_what_keras_gives(name: str, half: str) -> None:
    preset = presets.PRESETS[name]
    network = getattr(architectures.of(preset).model(preset), half)
    randomize(network)
    ready(network)
    x, output = random_input(network), network.outputs[0]
    expected = keras.Model(network.input, output)(x)
    np.testing.assert_allclose(exported(network, output)(x), expected, atol=1e-4)


def test_of_two_heads_the_one_that_is_asked_for_is_added() -> None:
    network = builders.build_vae(presets.TINY_VAE).analysis
    randomize(network)
    ready(network)
    x = random_input(network)
    for output, expected in zip(network.output, network(x), strict=True):
        found = exported(network, output)(x)
        np.testing.assert_allclose(found, np.asarray(expected), atol=1e-4)


@pytest.mark.parametrize("name", ["growing", "phases as they are", "up"])
def test_the_gradient_of_such_a_synthesis_is_what_small_changes_do(name: str) -> None:
    network = ready(random_network(name))
    given, result = network.input.shape[1:], network.output.shape[1:]
    size = math.prod(given)
    data = gradient.gradient(layers.synthesis_graph(network))
    derived = Network(data, "gradient", [(size,), result], (size + 1,))
    rng = np.random.default_rng(2)
    y = rng.normal(size=(40, size)).astype(np.float32)
    target = rng.random((40, *result)).astype(np.float32)
    found = derived(y, target)

    def error(latents: np.ndarray) -> np.ndarray:
        made = np.asarray(network(latents.reshape(-1, *given)), np.float64)
        return np.square(target - made).sum(axis=(1, 2, 3))

    np.testing.assert_allclose(found[:, -1], error(y), rtol=1e-4)
    direction = rng.normal(size=y.shape).astype(np.float32)
    change = 2e-3 * direction
    slope = (error(y + change) - error(y - change)) / 4e-3
    expected = -2 * (found[:, :-1] * direction).sum(axis=1)
    # Where a ReLU has its kink between both points, the slope is another; that is rare.
    apart = np.abs(slope - expected) / np.abs(expected).mean()
    assert np.mean(apart < 0.05) > 0.9
