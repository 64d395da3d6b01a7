"""How well a trained network gives images back before anything is rotated or quantized, as Markdown.

    python benchmarks/reconstruction.py RUN DATA

DATA is an .npz file, or the folder that the run was trained on. All test images, pixels in [0, 1]; of a
network that denoises, from images with its noise. Beside it the mean image of the training split, which
knows nothing of the image.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cvae.data import folders, images
from cvae.data.images import Pixels
from cvae.data.reading import Reading
from cvae.data.sources import Which, array_source
from cvae.evaluation import noise
from cvae.training import backend

if TYPE_CHECKING:
    from cvae.training.runs import Run

# Values that go through the networks at once.
_BATCH_VALUES = 1 << 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    arguments = parser.parse_args()
    backend.load_keras()
    from cvae.training import checkpoints, runs

    run = runs.Run.open(arguments.run)
    model = checkpoints.load(run)
    train, test = _read(arguments.data, run)
    given = test
    if run.preset.noise:
        given = np.stack([noise.add_noise(x, run.preset.noise, i) for i, x in enumerate(test)])
    x = images.as_floats(test)
    batch = max(1, _BATCH_VALUES // x[0].size)
    outputs = model.analysis.predict(images.as_floats(given), batch_size=batch, verbose=0)
    latents = outputs[0] if isinstance(outputs, list) else outputs
    x_hat = model.synthesis.predict(latents, batch_size=batch, verbose=0)
    error = np.square(x - x_hat).mean()
    mean = np.square(x - images.as_floats(train).mean(axis=0)).mean()
    print("| network | MSE | of the mean image |\n|---|---|---|")
    print(f"| `{run.preset.name}` | {error:.5f} | {mean:.5f} |")


def _read(data: Path, run: Run) -> tuple[Pixels, Pixels]:
    """Training and test images as the run read them."""
    if not data.is_dir():
        return array_source(data, Which("train")).all(), array_source(data, Which("test")).all()
    parts = folders.read(data, Reading.from_json(run.data["reading"])).images
    return parts[folders.TRAIN][:], parts[folders.TEST][:]


if __name__ == "__main__":
    main()
