"""The weights of a lossless network, read back out of its model file: what `export.lossless` wrote.

A network with more units than the file's begins as that of the file: the added units learn what it
misses, and count for nothing at first.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from cvae.errors import ModelError, TrainingError, translated
from cvae.kinds.exactnet import stored_layers
from cvae.models.file import Model
from cvae.training.networks import lossless
from cvae.training.networks.exact import ONE
from cvae.training.pixels import companding

_OTHERS = (ValueError, IndexError)


def restore(model: Any, source: Model) -> None:
    """Sets all weights of a `networks.lossless.Lossless` from a model file of at most as many units.

    Raises:
        ModelError: the file is damaged.
        TrainingError: its window, its channels or its places are others, or it has more units.
    """
    tables, window = source.causal, model.window
    text = (
        "expected a model of this preset's window and of at most its units, found another in"
        f" {source.path}"
    )
    with translated(TrainingError, text, "", (*_OTHERS, ModelError)):
        stored = stored_layers(tables)
        ours = lossless.layers(model)
        same = (
            tables.window.tolist() == [window.up, window.side, window.predicts]
            and np.array_equal(tables.companding, companding())
            and len(tables.trees) == len(model.order)
            and len(tables.positions) == model.places
            and len(stored) == len(ours)
        )
        if not same:
            raise ValueError("other sizes")
        model.set_splits(tables.trees)
        for layer, whole in zip(ours, stored, strict=True):
            _put(layer, whole)
        if model.places:
            positions = tables.positions / 2.0 ** (model.first.bits + ONE)
            model.positions.assign(_within(np.zeros(model.positions.shape), positions))


def _put(layer: Any, whole: Any) -> None:
    """Raises ValueError where the layer's kernels are smaller than those of the file, or finer."""
    if whole.shift != (None if layer.last else layer.bits):
        raise ValueError(f"expected weights of {layer.bits} bits behind the point")
    for kernel, weights in zip(layer.kernels, whole.kernels, strict=True):
        start = _copy(kernel)
        start[:, :, weights.shape[2] :, : weights.shape[3]] = 0
        kernel.assign(_within(start, weights * 2.0**-layer.bits))
    bias = whole.bias * 2.0 ** -(layer.bits + ONE)
    layer.bias.assign(_within(_copy(layer.bias), bias))


def _copy(variable: Any) -> NDArray[Any]:
    return np.array(keras.ops.convert_to_numpy(variable))


def _within(whole: NDArray[Any], part: NDArray[Any]) -> NDArray[Any]:
    """The array with its first entries along each axis replaced. Raises ValueError if it is smaller."""
    if any(small > large for small, large in zip(part.shape, whole.shape, strict=True)):
        raise ValueError(f"expected at most {whole.shape}, found {part.shape}")
    whole[tuple(slice(size) for size in part.shape)] = part
    return whole
