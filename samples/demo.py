"""Codes the samples and photographs with the command line and measures the files that came of it."""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, features

from cvae import kinds
from cvae.data import metrics

SAMPLES = Path(__file__).parent
# What Pillow saves for comparison, at each of these qualities.
OTHERS = {"JPEG": {"optimize": True, "progressive": True}, "WebP": {"method": 6}}
QUALITIES = range(1, 100, 2)


def pixels(path: Path | io.BytesIO, mode: str = "L") -> np.ndarray:
    """An image file as (1, h, w, c) uint8."""
    image = np.asarray(Image.open(path).convert(mode))
    return image.reshape(1, *image.shape[:2], -1)


def cvae(*arguments: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "cvae", *map(str, arguments), "--quiet"], check=True)


def digits(folder: Path) -> None:
    """One line a sample digit."""
    coded, decoded = folder / "coded", folder / "decoded"
    cvae("encode", *sorted(SAMPLES.glob("digit_*.png")), "-o", coded)
    cvae("decode", coded, "-o", decoded)
    print(f"{'image':12} {'PNG':>6} {'cvae':>6} {'ratio':>7} {'PSNR':>9}")
    for path in sorted(SAMPLES.glob("digit_*.png")):
        original = pixels(path)
        size = (coded / f"{path.stem}.bin").stat().st_size
        psnr = metrics.psnr(original, pixels(decoded / f"{path.stem}_reconstructed.png"))[0]
        print(
            f"{path.name:12} {path.stat().st_size:4} B {size:4} B "
            f"{original.nbytes / size:5.1f}:1 {psnr:6.2f} dB"
        )
    print("ratio: raw pixel bytes over the whole file; PSNR: of 8-bit pixels after decoding")


def nearest(image: np.ndarray, form: str, psnr: float) -> tuple[int, float]:
    """Bytes and PSNR of the file whose PSNR is the nearest, of a format's qualities."""
    found = []
    for quality in QUALITIES:
        buffer = io.BytesIO()
        Image.fromarray(image[0]).save(buffer, form, quality=quality, **OTHERS[form])
        found.append((buffer.tell(), float(metrics.psnr(image, pixels(buffer, "RGB"))[0])))
    return min(found, key=lambda point: abs(point[1] - psnr))


def photographs(folder: Path) -> None:
    """One line a photograph, at the default quality, and other formats at the nearest PSNR."""
    paths = sorted(SAMPLES.glob("photo_*.png"))
    known = {manifest.name: kinds.KINDS[manifest.kind] for _, manifest in kinds.known_models()[0]}
    if not paths or "photo" not in known or not known["photo"].any_size:
        print("photographs: left out, as they or a model photo are not there")
        return
    coded, decoded = folder / "photographs", folder / "decoded-photographs"
    cvae("encode", *paths, "-o", coded)
    cvae("decode", coded, "-o", decoded)
    forms = [form for form in OTHERS if form == "JPEG" or features.check("webp")]
    heads = "".join(f" {f'{form} at the nearest PSNR':>26}" for form in forms)
    print(f"{'image':12} {'PNG':>9} {'cvae':>8} {'PSNR':>9}{heads}")
    for path in paths:
        original = pixels(path, "RGB")
        size = (coded / f"{path.stem}.bin").stat().st_size
        back = pixels(decoded / f"{path.stem}_reconstructed.png", "RGB")
        psnr = float(metrics.psnr(original, back)[0])
        line = f"{path.name:12} {path.stat().st_size:7} B {size:6} B {psnr:6.2f} dB"
        for form in forms:
            other, reached = nearest(original, form, psnr)
            line += f" {f'{other} B at {reached:.2f} dB':>26}"
        print(line)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        digits(Path(name))
        print()
        photographs(Path(name))


if __name__ == "__main__":
    main()
