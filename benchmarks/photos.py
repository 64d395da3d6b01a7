"""A folder of few images as train/, val/ and test/: of each ten by name seven, one and two.

A folder that `cvae train` splits by itself gives each part its share on average; of thirty photos one
may be left to test on.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from cvae import CvaeError
from cvae.data import files
from cvae.data.listing import images as images_of
from cvae.data.places import Local
from cvae.errors import DataError

PARTS = ("train", "train", "test", "train", "val", "train", "train", "test", "train", "train")


def split(folder: Path, output: Path) -> None:
    """Copies the images of a folder; `output` is made, whole or not at all.

    Raises:
        DataError: two images have one name, in subfolders, and would be one file.
        OutputError: `output` exists, or cannot be written.
    """
    found = sorted(folder / image.name for image in images_of(Local(folder).below()))
    _check_names(found)
    with files.atomic_folder(output) as temporary:
        for part in set(PARTS):
            (temporary / part).mkdir()
        for number, path in enumerate(found):
            shutil.copy2(path, temporary / PARTS[number % len(PARTS)] / path.name)


def _check_names(paths: list[Path]) -> None:
    known: dict[str, Path] = {}
    for path in paths:
        # As file systems compare names that take no notice of case.
        other = known.setdefault(path.name.casefold(), path)
        if other is not path:
            raise DataError(f"expected images of different names, found {other}, too", where=path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    try:
        split(options.folder, options.output)
    except CvaeError as error:
        raise SystemExit(f"photos.py: error: {error}") from error


if __name__ == "__main__":
    main()
