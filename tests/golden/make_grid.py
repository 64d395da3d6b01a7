"""Makes the golden model of a grid and what it wrote: `python -m tests.golden.make_grid [--train]`.

With `--train` a model is trained anew, on drawn pictures, and replaces `grid.cvae`; without it the files
in `grid.json` alone are written, with the model that is there. Both change what must never change: run
it when the layout of a file changes, together with its version number.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import cvae
from cvae.bitstream import container
from cvae.data.batches import Batch
from cvae.data.images import Pixels, as_image
from cvae.options import EncodeOptions
from cvae.packs import encode

from ..conftest import photo, run_cvae

GOLDEN = Path(__file__).parent
MODEL, FILES = GOLDEN / "grid.cvae", GOLDEN / "grid.json"
# Height, width, channels, quality: the last one is large enough for the coder of blocks.
CASES = [(61, 97, 3, 50), (61, 97, 3, 95), (40, 40, 1, 50), (1, 1, 3, 50), (400, 450, 3, 10)]
STRIDE = 16  # of the pixels that are kept


def train() -> None:
    with tempfile.TemporaryDirectory() as name:
        pictures, run = Path(name) / "pictures", Path(name) / "run"
        pictures.mkdir()
        for number in range(12):
            size = [(150, 200), (90, 70), (50, 80), (100, 280)][number % 4]
            as_image(photo(*size, seed=number)).save(pictures / f"{number}.png")
        run_cvae("train", "tiny-grid", "--data", pictures, "-o", run, "--epochs", "40")
        MODEL.write_bytes((run / "tiny-grid.cvae").read_bytes())


def case(codec: cvae.Codec, pixels: Pixels, quality: int) -> dict[str, Any]:
    data = codec.encode(pixels, quality)
    symbols = codec.decode_payload(container.unpack(data))
    return {
        "data": data.hex(),
        "symbols": digest(symbols),
        "pixels": codec.decode(data)[::STRIDE, ::STRIDE].tolist(),
    }


def digest(symbols: Any) -> str:
    """The sha256 of symbols as little-endian int32."""
    return hashlib.sha256(np.ascontiguousarray(symbols, "<i4").tobytes()).hexdigest()


def pack(codec: cvae.Codec) -> bytes:
    images = [photo(*shape[:3], seed=seed) for seed, shape in enumerate(CASES[:4])]
    buffer = io.BytesIO()
    encode.encode(codec, (Batch(image[None]) for image in images), buffer, EncodeOptions())
    return buffer.getvalue()


def main() -> None:
    if "--train" in sys.argv:
        train()
    codec = cvae.open_model(MODEL)
    cases = [
        case(codec, photo(*shape, seed=seed), quality)
        for seed, (*shape, quality) in enumerate(CASES)
    ]
    FILES.write_text(json.dumps({"images": cases, "pack": pack(codec).hex()}) + "\n")


if __name__ == "__main__":
    main()
