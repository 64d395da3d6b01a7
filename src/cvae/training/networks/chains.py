"""Networks that are a chain of layers, written as words: `("conv 32 /2 norm", "pool", "dense 16")`.

The words, with optional ones in brackets:

- `conv C [valid] [/2] [norm] [sigmoid]`: 3x3 convolution to C channels, same padding unless `valid`,
  stride 2 with `/2`, batch normalization with `norm`, then ReLU, or a sigmoid
- `tconv C [*2] [norm] [sigmoid]`: 3x3 transposed convolution, stride 2 with `*2`
- `pool`: 2x2 max pooling, odd sides rounded up
- `up`: 2x2 nearest-neighbour upsampling
- `drop P`: dropout with rate P
- `dense N`: flattened and dense to N values, no activation
- `grid C`: dense and ReLU to the smallest grid of C channels, for `tconv ... *2` to grow from
"""

from __future__ import annotations

import math
from typing import Any

from keras import layers

from cvae.errors import TrainingError

# Options after the number of channels.
_OPTIONS = {"conv": {"valid", "/2", "norm", "sigmoid"}, "tconv": {"*2", "norm", "sigmoid"}}
# Suffix of a normalization's name; the rest is the name of the convolution before it.
NORM = "_norm"
# Of the running statistics, which settle within fifty steps, in a short run too.
_MOMENTUM = 0.95


def chain(words: tuple[str, ...], x: Any, image_shape: tuple[int, int, int]) -> Any:
    """Applies the layers that the words stand for to the Keras tensor `x`.

    Raises:
        TrainingError: a word is none of these.
        ValueError: sides do not fit.
    """
    doublings = sum("*2" in word.split() for word in words)
    for word in words:
        layer, number, options = _parse(word)
        match layer:
            case "conv":
                x = _convolution(layers.Conv2D, int(number), options, x)
            case "tconv":
                x = _convolution(layers.Conv2DTranspose, int(number), options, x)
            case "pool":
                x = layers.MaxPooling2D(2, padding="same")(x)
            case "up":
                x = layers.UpSampling2D(2)(x)
            case "drop":
                x = layers.Dropout(number)(x)
            case "dense":
                x = layers.Dense(int(number))(layers.Flatten()(x))
            case "grid":
                x = _grid(int(number), 2**doublings, x, image_shape)
    return x


def _parse(word: str) -> tuple[str, float, list[str]]:
    """The name of a layer, its number (0 where it has none), and the options behind it."""
    name, *rest = word.split() or [""]
    if name in ("pool", "up") and not rest:
        return name, 0, []
    try:
        number = float(rest[0]) if name == "drop" else int(rest[0])
    except (IndexError, ValueError):
        number = -1
    fits = 0 <= number < 1 if name == "drop" else number >= 1
    known = name in ("drop", "dense", "grid", *_OPTIONS)
    if not (known and fits and set(rest[1:]) <= _OPTIONS.get(name, set())):
        raise TrainingError(
            f"expected layers such as 'conv 32 /2 norm' (see {__name__}), found {word!r}"
        )
    return name, number, rest[1:]


def _convolution(kind: Any, channels: int, options: list[str], x: Any) -> Any:
    strides = 2 if {"/2", "*2"} & {*options} else 1
    layer = kind(channels, 3, strides=strides, padding="valid" if "valid" in options else "same")
    x = layer(x)
    if "norm" in options:
        x = layers.BatchNormalization(momentum=_MOMENTUM, name=f"{layer.name}{NORM}")(x)
    return layers.Activation("sigmoid" if "sigmoid" in options else "relu")(x)


def _grid(channels: int, factor: int, x: Any, image_shape: tuple[int, int, int]) -> Any:
    height, width, _ = image_shape
    if height % factor or width % factor:
        raise ValueError(f"expected sides divisible by {factor}, found {width}x{height}")
    grid = (height // factor, width // factor, channels)
    x = layers.Dense(math.prod(grid))(layers.Flatten()(x))
    return layers.Reshape(grid)(layers.Activation("relu")(x))
