"""Encodes and decodes the samples with the command line and measures the files that came of it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from cvae.data import metrics

SAMPLES = Path(__file__).parent


def pixels(path: Path) -> np.ndarray:
    """An image file as (1, h, w, 1) uint8."""
    return np.asarray(Image.open(path).convert("L"))[np.newaxis, ..., np.newaxis]


def cvae(*arguments: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "cvae", *map(str, arguments), "--quiet"], check=True)


def main() -> None:
    print(f"{'image':12} {'PNG':>6} {'cvae':>6} {'ratio':>7} {'PSNR':>9}")
    with tempfile.TemporaryDirectory() as name:
        coded, decoded = Path(name, "coded"), Path(name, "decoded")
        cvae("encode", SAMPLES, "-o", coded)
        cvae("decode", coded, "-o", decoded)
        for path in sorted(SAMPLES.glob("*.png")):
            original = pixels(path)
            size = (coded / f"{path.stem}.bin").stat().st_size
            psnr = metrics.psnr(original, pixels(decoded / f"{path.stem}_reconstructed.png"))[0]
            print(
                f"{path.name:12} {path.stat().st_size:4} B {size:4} B "
                f"{original.nbytes / size:5.1f}:1 {psnr:6.2f} dB"
            )
    print("ratio: raw pixel bytes over the whole file; PSNR: of 8-bit pixels after decoding")


if __name__ == "__main__":
    main()
