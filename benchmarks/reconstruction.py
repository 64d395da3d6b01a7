"""How well a trained network gives images back before anything is rotated or quantized, as Markdown.

    python benchmarks/reconstruction.py RUN DATA.npz

All test images, pixels in [0, 1]; of a network that denoises, from images with its noise. Beside it the
mean image of the training split, which knows nothing of the image.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from cvae import images, noise
from cvae.training import backend

_BATCH = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    arguments = parser.parse_args()
    backend.load_keras()
    from cvae.training import runs, trainer

    run = runs.Run.open(arguments.run)
    model = trainer.load(run)
    train, test = (images.read_npz(arguments.data, split) for split in ("train", "test"))
    given = test
    if run.preset.noise:
        given = np.stack([noise.add_noise(x, run.preset.noise, i) for i, x in enumerate(test)])
    x = images.as_floats(test)
    outputs = model.analysis.predict(images.as_floats(given), batch_size=_BATCH, verbose=0)
    latents = outputs[0] if isinstance(outputs, list) else outputs
    x_hat = model.synthesis.predict(latents, batch_size=_BATCH, verbose=0)
    error = np.square(x - x_hat).mean()
    mean = np.square(x - images.as_floats(train).mean(axis=0)).mean()
    print("| network | MSE | of the mean image |\n|---|---|---|")
    print(f"| `{run.preset.name}` | {error:.5f} | {mean:.5f} |")


if __name__ == "__main__":
    main()
