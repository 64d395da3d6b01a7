"""Whether coded digits still say the same to a classifier trained for this, as a section of Markdown."""

from __future__ import annotations

import argparse
import hashlib
import inspect
import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cvae.codec import Codec, open_model
from cvae.data import arrays, files, images, metrics
from cvae.data.images import Pixels
from cvae.data.reading import Reading
from cvae.data.sources import Which
from cvae.evaluation import measure
from cvae.options import DEFAULT_EFFORT, EncodeOptions
from cvae.training import backend

Labels = NDArray[np.int64]  # (n,), 0 to 9

# Made once for a data set and a recipe; git ignores the folder.
CACHE = Path(__file__).parents[1] / "runs" / "classifier"
RECIPE: dict[str, Any] = {
    "seed": 0,
    "epochs": 5,
    "batch_size": 128,
    "learning_rate": 2e-3,
    "shift": 2,
}

QUALITIES = range(10, 100, 20)
EFFORTS = [0, DEFAULT_EFFORT, 9]
WEBP_QUALITIES = [0, 5, 10]
# Images coded at a time: the search keeps much for each.
BATCH = 1000
# Mean file sizes that differ by less than this share count as equal.
EQUAL = 0.05


@dataclass(frozen=True)
class Coded:
    """All test digits after one setting of a codec."""

    file_bytes: float  # mean of single files
    pixels: Pixels  # (n, 28, 28, 1), decoded


@dataclass(frozen=True)
class Reader:
    """The test digits, the trained classifier, and which of them it reads rightly."""

    pixels: Pixels  # (n, 28, 28, 1)
    classifier: Any  # keras.Model
    classes: Labels  # what it takes the originals for
    right: NDArray[np.bool_]  # (n,)

    def changed(self, decoded: Pixels) -> float:
        """Among the digits read rightly, the share that is taken for another one when decoded."""
        found = classify(self.classifier, decoded[self.right])
        return float(np.mean(found != self.classes[self.right]))

    def cells(self, coded: Coded) -> str:
        """File bytes, PSNR and share of changed classes as cells of a table."""
        psnr = metrics.psnr(self.pixels, coded.pixels).mean()
        changed = self.changed(coded.pixels)
        return f"{coded.file_bytes:.2f} B | {psnr:.2f} dB | {100 * changed:.2f} %"


def build() -> Any:
    """An untrained classifier: images (n, 28, 28, 1) in [0, 1] -> logits (n, 10)."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(RECIPE["seed"])
    network: list[Any] = [keras.Input((28, 28, 1))]
    for filters, side, stride in [(32, 5, 2), (64, 3, 1), (64, 3, 2), (96, 3, 1)]:
        network.append(layers.Conv2D(filters, side, stride, padding="same", use_bias=False))
        network += [layers.BatchNormalization(), layers.Activation("relu")]
    network += [layers.Flatten(), layers.Dropout(0.4), layers.Dense(10)]
    return keras.Sequential(network)


def train(pixels: Pixels, labels: Labels) -> Any:
    """The classifier after all epochs over the training split (n, 28, 28, 1); no test digit is seen."""
    import keras

    classifier = build()
    steps = RECIPE["epochs"] * -(-len(pixels) // RECIPE["batch_size"])
    rate = keras.optimizers.schedules.CosineDecay(RECIPE["learning_rate"], steps)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    classifier.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    rng = np.random.default_rng(RECIPE["seed"])
    for epoch in range(RECIPE["epochs"]):
        order = rng.permutation(len(pixels))
        x = images.as_floats(shifted(pixels[order], rng))
        record = classifier.fit(
            x, labels[order], batch_size=RECIPE["batch_size"], shuffle=False, verbose=0
        )
        accuracy = record.history["accuracy"][0]
        print(f"classifier, epoch {epoch + 1}: accuracy {accuracy:.4f}", file=sys.stderr)
    return classifier


def shifted(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Images (n, h, w, c), each moved by up to RECIPE["shift"] pixels a side, black coming in."""
    reach = RECIPE["shift"]
    height, width = pixels.shape[1:3]
    padded = np.pad(pixels, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    places = rng.integers(0, 2 * reach + 1, (len(pixels), 2))
    return np.stack(
        [
            image[down : down + height, right : right + width]
            for image, (down, right) in zip(padded, places, strict=True)
        ]
    )


def trained(pixels: Pixels, labels: Labels) -> Any:
    """`train`, or the weights that an earlier call made of the same data by the same recipe."""
    recipe = json.dumps(RECIPE) + "".join(map(inspect.getsource, (build, train, shifted)))
    key = hashlib.sha256(pixels.tobytes() + labels.tobytes() + recipe.encode()).hexdigest()
    path = CACHE / f"{key[:16]}.weights.h5"
    if path.exists():
        classifier = build()
        classifier.load_weights(path)
        return classifier
    classifier = train(pixels, labels)
    with files.atomic_path(path, force=True) as temporary:
        classifier.save_weights(temporary)
    return classifier


def classify(classifier: Any, pixels: Pixels) -> Labels:
    """The class of each image (n, 28, 28, 1)."""
    logits = classifier.predict(images.as_floats(pixels), batch_size=BATCH, verbose=0)
    return np.asarray(logits.argmax(axis=1), np.int64)


def reader(data: Path, shape: images.Shape) -> Reader:
    """The test digits of an `.npz` file, and the classifier that its training split makes."""
    backend.load_keras()
    y_train, y_test = arrays.read_npz(data, ["y_train", "y_test"], str(data))
    reading = Reading(shape, "exact")
    pixels = measure.load(data, Which("test"), reading)[0]
    classifier = trained(measure.load(data, Which("train"), reading)[0], y_train.astype(np.int64))
    classes = classify(classifier, pixels)
    return Reader(pixels, classifier, classes, classes == y_test)


def code(codec: Codec, pixels: Pixels, quality: int, effort: int) -> Coded:
    """All images to a container each and back."""
    sizes, decoded = [], []
    options = EncodeOptions(quality=quality, effort=effort)
    for start in range(0, len(pixels), BATCH):
        coded = codec.encode_batch(pixels[start : start + BATCH], options)
        sizes += [len(item.data) for item in coded]
        decoded += codec.decode([item.data for item in coded])
    return Coded(float(np.mean(sizes)), np.stack(decoded)[..., np.newaxis])


def webp(pixels: Pixels, quality: int) -> Coded:
    """All images to a WebP file each, as small as this quality gets, and back."""
    sizes, decoded = [], []
    for image in pixels:
        buffer = io.BytesIO()
        Image.fromarray(image[..., 0]).save(buffer, "WEBP", quality=quality, method=6)
        sizes.append(buffer.tell())
        decoded.append(np.asarray(Image.open(buffer).convert("L")))
    return Coded(float(np.mean(sizes)), np.stack(decoded)[..., np.newaxis])


def qualities(digits: Reader, codec: Codec) -> tuple[str, dict[int, float]]:
    """One row a quality at the default effort; also the mean file bytes of each quality."""
    rows = ["| quality | file | PSNR | class changed |", "|---|---|---|---|"]
    default = codec.quality(None)
    sizes = {}
    for quality in sorted({*QUALITIES, default}):
        coded = code(codec, digits.pixels, quality, DEFAULT_EFFORT)
        sizes[quality] = coded.file_bytes
        name = f"{quality} (default)" if quality == default else str(quality)
        rows.append(f"| {name} | {digits.cells(coded)} |")
    return "\n".join(rows), sizes


def efforts(digits: Reader, codec: Codec) -> str:
    """One row an effort at the default quality."""
    rows = ["| effort | file | PSNR | class changed |", "|---|---|---|---|"]
    for effort in EFFORTS:
        coded = code(codec, digits.pixels, codec.quality(None), effort)
        name = f"{effort} (default)" if effort == DEFAULT_EFFORT else str(effort)
        rows.append(f"| {name} | {digits.cells(coded)} |")
    return "\n".join(rows)


def rivals(digits: Reader, sizes: dict[int, float]) -> str:
    """One row a WebP quality, and which quality of the model has files of the same size."""
    coded = {quality: webp(digits.pixels, quality) for quality in WEBP_QUALITIES}
    smallest = min(item.file_bytes for item in coded.values())
    rows = [
        "| codec | file | PSNR | class changed | quality of equal bytes |",
        "|---|---|---|---|---|",
    ]
    met = False
    for quality, item in coded.items():
        near = min(sizes, key=lambda q: abs(sizes[q] - item.file_bytes))
        equal = abs(sizes[near] - item.file_bytes) < EQUAL * item.file_bytes
        met |= equal
        rows.append(
            f"| WebP, quality {quality} | {digits.cells(item)} | {near if equal else 'n/a'} |"
        )
    text = "\n".join(rows)
    if not met:
        text += (
            f"\n\nAt equal bytes: n/a. WebP's smallest is {smallest:.1f} bytes, the largest of the "
            f"qualities above {max(sizes.values()):.1f}."
        )
    return text


def report(data_folder: Path, model_name: str) -> str:
    """The section of a model: Markdown, a heading of the second level first.

    Args:
        data_folder: holds `mnist.npz` in the layout of `keras.datasets`.
        model_name: a name, or the path of a `.cvae` file; a model of 28x28 grey images.
    """
    codec = open_model(model_name)
    digits = reader(data_folder / "mnist.npz", codec.image_shape)
    count, right = len(digits.pixels), int(digits.right.sum())
    over_qualities, sizes = qualities(digits, codec)
    return f"""## The same digit? Model `{codec.name}`

A small convolutional classifier, trained on the originals of the training split alone
(`benchmarks/classifier.py`), reads {right:,} of the {count:,} test digits rightly:
{100 * right / count:.2f} %. "Class changed" is the share of those {right:,} that it takes for another digit
after coding; originals that it misreads are counted out. Each digit is a file of its own.

At the default effort ({DEFAULT_EFFORT}), over qualities:

{over_qualities}

At the default quality ({codec.quality(None)}), over efforts:

{efforts(digits, codec)}

WebP through Pillow, method 6; sizes within {100 * EQUAL:.0f} % count as equal:

{rivals(digits, sizes)}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with mnist.npz")
    parser.add_argument("-m", "--model", default="mnist", help="a name or a .cvae file")
    parser.add_argument("--out", type=Path, help="file to write instead of stdout")
    arguments = parser.parse_args()
    text = report(arguments.data, arguments.model)
    if arguments.out:
        arguments.out.write_text(text)
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
