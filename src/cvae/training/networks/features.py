"""The perceptual loss: the difference of feature maps of a classifier.

`sum_j ||phi_j(x) - phi_j(x_hat)||^2 / n_j` over its layers j of n_j values (Johnson, Alahi, Fei-Fei 2016,
arXiv:1603.08155), from one of:

- `cifar10`: a small classifier, trained by `benchmarks/features.py` and shipped
- `vgg16`: VGG16 on ImageNet, downloaded by `keras.applications`
- a file: `.npz` as `save` writes it, or weights of VGG16 without its top as `.h5`
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from cvae.data import arrays, files
from cvae.errors import TrainingError, first_line, translated
from cvae.models import registry
from cvae.training import backend
from cvae.training.networks.chains import chain
from cvae.training.networks.losses import Perceptual
from cvae.training.preset import Preset

# The shipped network; feature maps are taken after each line.
BLOCKS = (("conv 32 /2", "conv 32"), ("pool", "conv 64", "conv 64"), ("pool", "conv 128"))
SHIPPED = "features-cifar10.npz"
_VGG16 = "vgg16"
_VGG16_LAYERS = ("block1_conv2", "block2_conv2", "block3_conv3")
_CONVOLUTIONS = sum(word.startswith("conv") for block in BLOCKS for word in block)
_WEIGHTS = [f"{kind}{i}" for i in range(_CONVOLUTIONS) for kind in ("kernel", "bias")]


def perceptual(preset: Preset) -> Perceptual | None:
    """A function from two batches of images (n, h, w, c) in [0, 1] to their differences (n,).

    None where the preset gives it no weight. Raises TrainingError when there are no such features.
    """
    if not preset.perceptual_weight:
        return None
    source = preset.features
    of_vgg = source == _VGG16 or source.endswith(".h5")
    if of_vgg:
        network = _vgg16(source)
    else:
        network = load(registry.shipped_folder() / SHIPPED if source == "cifar10" else Path(source))
    network.trainable = False

    def extract(x: Any) -> Any:
        if preset.image_shape[2] == 1:
            x = ops.repeat(x, 3, axis=3)
        if of_vgg:
            x = keras.applications.vgg16.preprocess_input(255 * x)
        return network(x, training=False)

    def difference(x: Any, x_hat: Any) -> Any:
        maps = zip(extract(x), extract(x_hat), strict=True)
        return sum(ops.mean(ops.square(a - b), axis=(1, 2, 3)) for a, b in maps)

    return difference


def _vgg16(source: str) -> keras.Model:
    weights = "imagenet" if source == _VGG16 else source
    if source == _VGG16:
        backend.downloading()
    try:
        whole = keras.applications.VGG16(include_top=False, weights=weights)
    except Exception as error:  # get_file raises a bare Exception without a network
        raise TrainingError(
            f"--features {source}: the weights of VGG16 cannot be had ({first_line(error)})",
            advice="use --features cifar10, or --features FILE.h5 with its weights without top",
        ) from error
    return keras.Model(whole.input, [whole.get_layer(name).output for name in _VGG16_LAYERS])


def build(blocks: tuple[tuple[str, ...], ...] = BLOCKS) -> keras.Model:
    """The untrained network: RGB images of any size in [0, 1] -> the feature maps of each block."""
    image = keras.Input((None, None, 3))
    x, maps = image, []
    for block in blocks:
        x = chain(block, x, (0, 0, 3))
        maps.append(x)
    return keras.Model(image, maps, name="features")


def load(path: Path) -> keras.Model:
    """The network with weights that `save` wrote. Raises TrainingError when the file holds none."""
    label = f"--features {path}"
    values, network = arrays.read_npz(path, _WEIGHTS, label, TrainingError), build()
    with translated(TrainingError, f"expected weights of {BLOCKS}", label, ValueError):
        network.set_weights([value.astype(np.float32) for value in values])
    return network


def save(weights: list[Any], path: Path) -> None:
    """Writes kernels and biases, alternating, in half precision."""
    named = zip(_WEIGHTS, weights, strict=True)
    with files.atomic_path(path, force=True) as temporary, temporary.open("wb") as file:
        np.savez(file, **{name: value.astype(np.float16) for name, value in named})
