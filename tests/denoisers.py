"""Denoisers built by hand, whose results are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cvae.models.file import DENOISER, Manifest, member_hashes, write_model
from cvae.training.export.graph import Graph


def identity(channels: int = 3) -> bytes:
    """Gives back what it gets."""
    graph = Graph()
    return _finish(graph, graph.add("Mul", "x", np.array(1, np.float32)), channels)


def box(channels: int = 3) -> bytes:
    """The mean of 3x3 pixels, beyond the edge zeros: looks one pixel around."""
    graph = Graph()
    x = graph.add("Transpose", "x", perm=[0, 3, 1, 2])
    kernel = np.full((channels, 1, 3, 3), 1 / 9, np.float32)
    x = graph.add("Conv", x, kernel, pads=[1] * 4, group=channels)
    return _finish(graph, graph.add("Transpose", x, perm=[0, 2, 3, 1]), channels)


def coarse(channels: int = 3) -> bytes:
    """A box filter at a quarter of the resolution: sides are multiples of 4."""
    graph = Graph()
    x = graph.add("Transpose", "x", perm=[0, 3, 1, 2])
    x = graph.add("MaxPool", x, kernel_shape=[4, 4], strides=[4, 4])
    kernel = np.full((channels, 1, 3, 3), 1 / 9, np.float32)
    x = graph.add("Conv", x, kernel, pads=[1] * 4, group=channels)
    x = graph.add("DepthToSpace", graph.add("Concat", *[x] * 16, axis=1), blocksize=4)
    return _finish(graph, graph.add("Transpose", x, perm=[0, 2, 3, 1]), channels)


def whole(channels: int = 3) -> bytes:
    """Subtracts a share of the sum of all pixels: looks everywhere."""
    graph = Graph()
    total = graph.add("ReduceSum", "x", np.array([1, 2], np.int64), keepdims=1)
    share = graph.add("Mul", total, np.array(1e-4, np.float32))
    return _finish(graph, graph.add("Sub", "x", share), channels)


def _finish(graph: Graph, output: str, channels: int) -> bytes:
    shape = ("height", "width", channels)
    return graph.to_bytes("denoiser", {"x": shape}, output, shape)


def write(path: Path, graph: bytes, **changes: Any) -> Path:
    """A model file around a denoiser's graph, named like the file."""
    values: dict[str, Any] = {
        "id": 7,
        "name": path.stem,
        "image_shape": (64, 64, 3),
        "latent_shape": (),
        "default_quality": 0,
        "expected_psnr": (),
        "hashes": {**member_hashes({DENOISER: graph}, None), "weights": path.stem},
        "kind": "denoiser",
        "multiple": 1,
        "reach": 1,
        "summary": "for tests",
    }
    write_model(path, Manifest(**{**values, **changes}), {DENOISER: graph}, None, force=True)
    return path
