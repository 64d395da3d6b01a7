"""Trains the classifier whose feature maps the perceptual loss compares: weights/features-cifar10.npz."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from cvae.data import arrays, images
from cvae.data.sources import Which, array_source
from cvae.training import backend

EPOCHS, BATCH_SIZE, LEARNING_RATE, SEED = 15, 128, 2e-3, 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="cifar10.npz in the layout of keras.datasets")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    arguments = parser.parse_args()
    backend.load_keras()
    import keras
    from keras import layers

    from cvae.training.batches import augmented
    from cvae.training.export.layers import fold_normalization
    from cvae.training.networks import features

    keras.utils.set_random_seed(SEED)
    pixels, test = (array_source(arguments.data, Which(split)).all() for split in ("train", "test"))
    labels, test_labels = (
        array.ravel().astype(np.int64)
        for array in arrays.read_npz(arguments.data, ["y_train", "y_test"], str(arguments.data))
    )
    blocks = tuple(
        tuple(f"{word} norm" if word.startswith("conv") else word for word in block)
        for block in features.BLOCKS
    )
    network = features.build(blocks)
    x = layers.Dropout(0.4)(layers.GlobalAveragePooling2D()(network.output[-1]))
    classifier = keras.Model(network.input, layers.Dense(10)(x))
    steps = EPOCHS * -(-len(pixels) // BATCH_SIZE)
    classifier.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    for epoch in range(EPOCHS):
        rng = np.random.default_rng([SEED, epoch])
        order = rng.permutation(len(pixels))
        x = augmented(images.as_floats(pixels[order]), ("flip", "shift"), rng)
        record = classifier.fit(
            x, labels[order], batch_size=BATCH_SIZE, shuffle=False, verbose=0
        ).history
        print(
            f"epoch {epoch + 1}: accuracy {record['accuracy'][0]:.4f}", file=sys.stderr, flush=True
        )
    _, accuracy = classifier.evaluate(images.as_floats(test), test_labels, verbose=0)
    print(f"accuracy on the test split: {accuracy:.4f}")
    fold_normalization(network)
    convolutions = [layer for layer in network.layers if isinstance(layer, layers.Conv2D)]
    features.save([w for layer in convolutions for w in layer.get_weights()], arguments.out)


if __name__ == "__main__":
    main()
