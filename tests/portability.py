"""Decodes the golden files and prints hashes: equal lines mean equal symbols and payloads everywhere.

    PYTHONPATH=src python tests/portability.py

It needs what cvae itself needs and nothing else, so it runs under other interpreters, versions of numpy
and ONNX Runtime, and machines. `pixels` may differ by rounding between these; the others never.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime

import cvae
from cvae.bitstream import container
from cvae.packs import reader
from cvae.packs.decode import Pack

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"


def golden() -> Iterator[tuple[str, cvae.Codec, list[bytes]]]:
    """Names, models and containers."""
    for path in sorted(GOLDEN.glob("*.json")):
        cases, model = json.loads(path.read_text()), ROOT / "weights" / f"{path.stem}.cvae"
        if isinstance(cases, list) and "data" in cases[0]:
            yield path.stem, cvae.open_model(model), [bytes.fromhex(c["data"]) for c in cases]
    cases = json.loads((GOLDEN / "grid.json").read_text())["images"]
    yield "grid", cvae.open_model(GOLDEN / "grid.cvae"), [bytes.fromhex(c["data"]) for c in cases]
    for name, of in json.loads((GOLDEN / "lossless.json").read_text()).items():
        codec = cvae.open_model(GOLDEN / f"{name}.cvae")
        yield name, codec, [bytes.fromhex(c["data"]) for c in of["images"]]


def digest(array: np.ndarray, dtype: str) -> str:
    return hashlib.sha256(np.ascontiguousarray(array, dtype).tobytes()).hexdigest()[:16]


def main() -> None:
    versions = f"numpy {np.__version__}, ONNX Runtime {onnxruntime.__version__}"
    print(f"# Python {platform.python_version()}, {versions}, {platform.machine()}")
    for name, codec, files in golden():
        for number, data in enumerate(files):
            item = container.unpack(data)
            symbols = codec.decode_payload(item)
            width, height = item.original_size or (1, 1)
            (again,) = codec.sized(height, width).coding.encode_each(symbols, item.quality)
            coded = "as it was" if again == item.payload else "OTHERWISE"
            pixels = digest(codec.decode(data), "u1")
            print(
                f"{name} {number}: symbols {digest(symbols, '<i4')}, coded {coded}, pixels {pixels}"
            )
    found = json.loads((GOLDEN / "grid.json").read_text())
    codec = cvae.open_model(GOLDEN / "grid.cvae")
    pack = Pack(reader.open_file(io.BytesIO(bytes.fromhex(found["pack"]))), codec)
    for number, pixels in enumerate(pack.images(range(len(pack)))):
        print(f"grid pack {number}: pixels {digest(pixels, 'u1')}")


if __name__ == "__main__":
    main()
