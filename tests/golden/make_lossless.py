"""Makes the golden lossless models and what they wrote: `python -m tests.golden.make_lossless`.

It changes what must never change: run it when the layout of a file changes, together with its version
number.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cvae

from ..conftest import photo
from ..lossless import dark, write

GOLDEN = Path(__file__).parent
MODELS = {"lossless-one": ((9, 11, 1), False), "lossless-any": ((8, 8, 3), True)}
SIZES = [(1, 1, 3), (9, 14, 3), (13, 5, 1), (40, 60, 3)]


def case(codec: cvae.Codec, shape: tuple[int, int, int], seed: int) -> dict[str, Any]:
    data = codec.encode(dark(photo(*shape, seed=seed)))
    return {"data": data.hex(), "pixels": codec.decode(data).tolist()}


def main() -> None:
    found = {}
    for name, (shape, any_size) in MODELS.items():
        codec = cvae.open_model(write(GOLDEN / f"{name}.cvae", shape, any_size))
        shapes = SIZES if any_size else [shape] * 3
        found[name] = {"images": [case(codec, one, seed) for seed, one in enumerate(shapes)]}
    (GOLDEN / "lossless.json").write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
