"""Networks that are a chain of layers, written as words: `("conv 32 /2 norm", "pool", "dense 16")`.

The words, of which those in brackets may be left out:

- `conv C [valid] [/2] [norm] [sigmoid]`: 3x3 convolution to C channels, same padding unless `valid`,
  stride 2 with `/2`, batch normalization with `norm`, then ReLU, or a sigmoid
- `tconv C [*2] [norm] [sigmoid]`: 3x3 transposed convolution, stride 2 with `*2`
- `pool`: the largest of 2x2, odd sides rounded up
- `up`: every pixel four times
- `drop P`: dropout of the share P
- `dense N`: N values of all that came before, nothing behind it
- `grid C`: dense and ReLU to the smallest grid of C channels, for `tconv ... *2` to grow from
"""

from __future__ import annotations

import math
from typing import Any

from keras import layers

# What the name of a normalization adds to that of the convolution before it.
NORM = "_norm"
# Of the running statistics: half a hundred steps are enough for them, in a short run too.
_MOMENTUM = 0.95


def chain(words: tuple[str, ...], x: Any, image_shape: tuple[int, int, int]) -> Any:
    """Applies the layers that the words stand for to the Keras tensor `x`.

    Raises:
        ValueError: a word is none of these, or sides do not fit.
    """
    doublings = sum("*2" in word.split() for word in words)
    for word in words:
        kind, *options = word.split()
        if kind in ("conv", "tconv"):
            x = _convolution(kind, int(options[0]), options[1:], x)
        elif kind == "pool":
            x = layers.MaxPooling2D(2, padding="same")(x)
        elif kind == "up":
            x = layers.UpSampling2D(2)(x)
        elif kind == "drop":
            x = layers.Dropout(float(options[0]))(x)
        elif kind == "dense":
            x = layers.Dense(int(options[0]))(layers.Flatten()(x))
        elif kind == "grid":
            x = _grid(int(options[0]), doublings, x, image_shape)
        else:
            raise ValueError(f"no layer is called {word!r}")
    return x


def _convolution(kind: str, channels: int, options: list[str], x: Any) -> Any:
    kinds = {"conv": layers.Conv2D, "tconv": layers.Conv2DTranspose}
    layer = kinds[kind](
        channels,
        3,
        strides=2 if "/2" in options or "*2" in options else 1,
        padding="valid" if "valid" in options else "same",
    )
    x = layer(x)
    if "norm" in options:
        x = layers.BatchNormalization(momentum=_MOMENTUM, name=f"{layer.name}{NORM}")(x)
    return layers.Activation("sigmoid" if "sigmoid" in options else "relu")(x)


def _grid(channels: int, doublings: int, x: Any, image_shape: tuple[int, int, int]) -> Any:
    factor = 2**doublings
    height, width, _ = image_shape
    if height % factor or width % factor:
        raise ValueError(f"expected sides divisible by {factor}, found {width}x{height}")
    grid = (height // factor, width // factor, channels)
    x = layers.Dense(math.prod(grid))(layers.Flatten()(x))
    return layers.Reshape(grid)(layers.Activation("relu")(x))
