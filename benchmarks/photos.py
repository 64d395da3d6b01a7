"""A folder of few images as train/, val/ and test/: of each ten by name seven, one and two.

A folder that `cvae train` splits by itself gives each part its share on average; of thirty photos one
may be left to test on.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from cvae.images import find_images

PARTS = ("train", "train", "test", "train", "val", "train", "train", "test", "train", "train")


def split(folder: Path, output: Path) -> None:
    """Copies the images of a folder; `output` is made."""
    for part in set(PARTS):
        (output / part).mkdir(parents=True)
    for number, path in enumerate(sorted(find_images(folder))):
        shutil.copy2(path, output / PARTS[number % len(PARTS)] / path.name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    split(options.folder, options.output)


if __name__ == "__main__":
    main()
