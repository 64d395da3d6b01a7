"""Single images of packs: the first of a block, and all of them shuffled where PyTorch is installed."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import cvae
from cvae.data.images import Pixels
from cvae.options import EncodeOptions
from cvae.packs.encode import encode_pack

BLOCKS, DEFAULT = (64, 256, 1024), EncodeOptions().block_images
EPOCHS, BATCH, WORKERS = 4, 128, 2


def report(pixels: Pixels) -> str:
    """Both tables, of uint8 images (n, h, w, c) of the default model's shape."""
    with tempfile.TemporaryDirectory() as folder:
        packs = dict(_written(pixels, Path(folder)))
        rows = [
            "| images a block | bytes an image | first image of a block, ms | again, ms |",
            "|---|---|---|---|",
            *(f"| {block:,} | {_cold(path)} |" for block, path in packs.items()),
        ]
        return "\n".join([*rows, "", _shuffled(packs)])


def _written(pixels: Pixels, folder: Path) -> Iterator[tuple[int, Path]]:
    codec = cvae.open_model()
    for block in (*BLOCKS, DEFAULT):
        options = EncodeOptions(effort=0, verify=False, block_images=block)
        encode_pack(pixels, path := folder / f"{block}.bin", codec, options)
        yield block, path


def _cold(path: Path) -> str:
    """Medians over the blocks of a pack whose networks are loaded."""
    with cvae.open_pack(path) as pack:
        pack[0]
        numbers = [place.first + place.images // 2 for place in pack.reader.blocks()][1:]
        first, again = ([1000 * _seconds(lambda n=n: pack[n]) for n in numbers] for _ in range(2))
        each = path.stat().st_size / len(pack)
        return f"{each:.2f} | {np.median(first):.2f} | {np.median(again):.3f}"


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _shuffled(packs: dict[int, Path]) -> str:
    try:
        from torch.utils.data import DataLoader
    except ImportError:
        return "PyTorch is not installed here: no figures of its `DataLoader`."
    rows = [
        f"| `DataLoader`, shuffled, {WORKERS} persistent workers, batches of {BATCH}: images a second "
        f"| {' | '.join(f'epoch {number}' for number in range(1, EPOCHS + 1))} |",
        "|---" * (EPOCHS + 1) + "|",
    ]
    for block, path in packs.items():
        with cvae.open_pack(path) as pack:
            loader = DataLoader(
                pack, BATCH, shuffle=True, num_workers=WORKERS, persistent_workers=True
            )  # type: ignore[arg-type]
            rates = [len(pack) / _seconds(lambda all=loader: list(all)) for _ in range(EPOCHS)]
        rows.append(f"| blocks of {block:,} | {' | '.join(f'{rate:,.0f}' for rate in rates)} |")
    return "\n".join(rows)


def main() -> None:
    pixels = np.load(sys.argv[1])
    print(report(pixels))


if __name__ == "__main__":
    main()
