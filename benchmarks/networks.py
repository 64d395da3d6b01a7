"""Networks of the default model in several forms and batch sizes, over Keras and the matrix product."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from timing import seconds

import cvae
from cvae.codec import Codec
from cvae.kinds import search
from cvae.models.file import ANALYSIS, SYNTHESIS

Floats = NDArray[np.float32]

# Images a batch, and how many pass in a measurement.
BATCHES = {1: 256, 64: 4096, 1024: 10_240}
_PRODUCT = 2048  # side of the matrices
_SEARCHED = 512


def keras_networks() -> tuple[Any, Any]:
    """Keras networks of the default model's architecture; for speed the weights do not matter."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from cvae.training import backend, presets
    from cvae.training.networks import builders

    backend.load_keras()
    import keras

    networks = builders.build_cvae(presets.PRESETS["mnist"])
    return keras.Model(networks.analysis.input, networks.analysis.outputs[0]), networks.synthesis


def products(network: Any) -> int:
    """Multiplications of an image in a Keras network of convolutions and dense layers."""
    total = 0
    for layer in network.layers:
        if not layer.weights:
            continue
        kernel = layer.get_weights()[0]
        # A transposed convolution has a product for each place that it reads, others where they write.
        transposed = type(layer).__name__ == "Conv2DTranspose"
        places = (layer.input if transposed else layer.output).shape[1:-1]
        total += int(np.prod(kernel.shape) * np.prod(places))
    return total


def untouched(network: Any) -> bytes:
    """The graph that Keras exports by itself."""
    network(
        np.zeros((1, *network.input.shape[1:]), np.float32)
    )  # what was never called is not exported
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "network.onnx")
        network.export(str(path), format="onnx", verbose=False)
        return path.read_bytes()


def layer_by_layer(network: Any, output: Any = None) -> bytes:
    """Our export as it is now; shipped models may be from an earlier one."""
    from cvae.training.export import layers
    from cvae.training.export.graph import Graph

    graph, given = Graph(), network.input.shape[1:]
    y = layers.add_network(graph, network, "x", output)
    return graph.to_bytes("network", {"x": given}, y, network.output.shape[1:])


def session(graph: bytes) -> Callable[[Floats], object]:
    """ONNX Runtime as it is when nothing is chosen: all threads on each batch."""
    import onnxruntime

    opened = onnxruntime.InferenceSession(graph)
    name = opened.get_inputs()[0].name
    return lambda batch: opened.run(None, {name: batch})


def in_batches(run: Callable[[Floats], object], items: Floats, batch: int) -> Callable[[], None]:
    def work() -> None:
        for start in range(0, len(items), batch):
            run(items[start : start + batch])

    return work


def report() -> str:
    import zipfile

    codec = cvae.open_model()
    rng = np.random.default_rng(0)
    # Noise is as good as digits: the time does not depend on the pixels.
    x = rng.random((max(BATCHES.values()), *codec.image_shape), np.float32)
    y = codec.coding.analysis(x)
    analysis, synthesis = keras_networks()
    with zipfile.ZipFile(codec.model.path) as archive:
        shipped = {name: archive.read(name) for name in (ANALYSIS, SYNTHESIS)}
    rate = product_rate()
    rows = [
        f"Products of two {_PRODUCT}x{_PRODUCT} matrices by numpy take {2 * rate / 1e9:,.0f} GFLOP/s here; "
        "the last column is the share of it that `networks.py` reaches.",
        "",
        "| network | batch | Keras `predict` | its own export | ours by layers | ours | `networks.py` "
        "| over Keras | over its export | of the product |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, network, items, member, whole in (
        ("analysis", analysis, x, ANALYSIS, codec.coding.analysis),
        ("synthesis", synthesis, y, SYNTHESIS, codec.coding.synthesis),
    ):
        forms = [session(untouched(network)), session(layer_by_layer(network)),
                 session(shipped[member])]  # fmt: skip
        for batch, count in BATCHES.items():
            part = items[:count]
            works: dict[str, Callable[[], object]] = {
                "keras": lambda part=part, batch=batch, network=network: network.predict(
                    part, batch, verbose=0
                )
            }
            works |= {str(i): in_batches(form, part, batch) for i, form in enumerate(forms)}
            # A batch is what a caller has at once; how it is cut further is up to `networks.py`.
            works["ours"] = in_batches(whole, part, batch)
            rates = [count / time for time in seconds(works).values()]
            shares = [rates[-1] / rates[0], rates[-1] / rates[1]]
            rows.append(
                f"| {name} | {batch:,} | "
                + " | ".join(f"{value:,.0f}" for value in rates)
                + f" | {shares[0]:.2f} | {shares[1]:.2f} | {rates[-1] * products(network) / rate:.0%} |"
            )
    rows += ["", searches(codec, x[:_SEARCHED])]
    return "\n".join(rows)


def product_rate() -> float:
    """Multiplications a second of a matrix product in single precision."""
    a = np.random.default_rng(0).random((_PRODUCT, _PRODUCT), np.float32)
    time = seconds({"product": lambda: a @ a})["product"]
    return _PRODUCT**3 / time


def searches(codec: Codec, x: Floats) -> str:
    """What each effort of `cvae encode` costs."""
    pixels = np.rint(255 * x).astype(np.uint8)
    quality, elements = codec.quality(None), codec.coding.elements
    works: dict[str, Callable[[], object]] = {
        str(effort): lambda effort=effort: codec.quantize(pixels, quality, effort)
        for effort in (0, 1, 3, 5, 7, 9)
    }
    works["synthesis"] = lambda: codec.synthesize(np.zeros((len(x), elements), np.int32), quality)
    times = seconds(works)
    alone = times.pop("synthesis")
    rows = [
        "| effort | syntheses | images a second | time over one synthesis |",
        "|---|---|---|---|",
    ]
    for effort, time in times.items():
        count = search.syntheses(int(effort), elements) if int(effort) else 0
        rows.append(f"| {effort} | {count} | {len(x) / time:,.0f} | {time / alone:.1f} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(report())
