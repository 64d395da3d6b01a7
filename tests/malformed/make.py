"""Makes the seeds of `make fuzz`: `python -m tests.malformed.make FOLDER`.

Whole files and crafted ones, in a folder for each target of `tests/fuzz/targets.py`. They are made anew
each time, so they follow the formats, and only this script is kept.
"""

from __future__ import annotations

import gzip
import io
import struct
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

import cvae
from cvae.bitstream import container
from cvae.codec import Codec
from cvae.options import EncodeOptions
from cvae.packs import reader
from cvae.packs.encode import encode_pack
from cvae.packs.layout import Block, Header, Writer

ROOT = Path(__file__).parents[2]
MODEL, GRID = ROOT / "weights" / "linear-mnist.cvae", ROOT / "tests" / "golden" / "grid.cvae"

Seeds = Iterator[tuple[str, bytes]]


def containers() -> Seeds:
    pixels = _picture(28, 28)[..., 0]
    codec, grid = cvae.open_model(MODEL), cvae.open_model(GRID)
    whole = container.unpack(codec.encode(pixels))
    yield "whole", container.pack(whole)
    yield "any_size", grid.encode(_picture(40, 70))
    yield "grey", grid.encode(_picture(20, 20)[..., 0])
    for name, changes in {
        "fitted": {"original_size": (40, 30)}, "inverted": {"inverted": True},
        "claims_much": {"original_size": (8000, 8000)}, "no_payload": {"payload": b""},
        "long_payload": {"payload": bytes(300)}, "unknown_model": {"model_id": 0},
    }.items():  # fmt: skip
        yield name, container.pack(replace(whole, **changes))
    large = replace(container.unpack(grid.encode(_picture(40, 70))), original_size=(8000, 8000))
    yield "any_size_claims_much", container.pack(large)


def packs() -> Seeds:
    codec, grid = cvae.open_model(MODEL), cvae.open_model(GRID)
    yield "whole", _pack(codec, [_picture(28, 28, seed)[..., 0] for seed in range(6)])
    whole = _pack(grid, [_picture(20, 30), _picture(20, 30), _picture(40, 17)])
    yield "any_size", whole
    yield "no_index", whole[:-80]
    model_id = codec.model.manifest.id
    for name, lanes in (("one_lane", 1), ("most_lanes", 1024)):
        payload = struct.pack("<H", lanes) + struct.pack("<I", 1 << 31) * lanes + bytes(64)
        yield name, _sealed(Header(model_id, 50), Block(4096, payload))
    sizes = Header(model_id, 50, sizes=True)
    yield "claims_much", _sealed(sizes, Block(2, b"", sizes=[(8000, 8000)] * 2))


def models() -> Seeds:
    for path in (MODEL, GRID):
        yield path.stem, path.read_bytes()
    with zipfile.ZipFile(MODEL) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for name in members:
        yield f"without_{name}", _zip({key: data for key, data in members.items() if key != name})
        yield f"empty_{name}", _zip({**members, name: b""})


def pictures() -> Seeds:
    for mode in ("1", "L", "P", "RGB", "RGBA", "LA", "I;16", "CMYK"):
        image = Image.fromarray(_picture(28, 28)).convert("L" if mode == "I;16" else mode)
        image = image.convert("I").convert(mode) if mode == "I;16" else image
        for kind in ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM"):
            buffer = io.BytesIO()
            try:
                image.save(buffer, kind)
            except (OSError, ValueError, KeyError):
                continue  # no such picture in this format
            yield f"{mode.replace(';', '_')}.{kind.lower()}", buffer.getvalue()


def archives() -> Seeds:
    picture = next(data for name, data in pictures() if name == "L.png")
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for name in ("a.png", "../b.png", "deep/c.png"):
            info = tarfile.TarInfo(name)
            info.size = len(picture)
            archive.addfile(info, io.BytesIO(picture))
    yield "whole.tar", tar.getvalue()
    yield "whole.tar.gz", gzip.compress(tar.getvalue(), mtime=0)
    for name, array in (
        ("c", np.zeros((3, 28, 28), np.uint8)), ("empty", np.zeros((9, 0, 28), np.uint8)),
        ("floats", np.zeros((3, 28, 28))), ("fortran", np.zeros((3, 28, 28), np.uint8, "F")),
    ):  # fmt: skip
        buffer = io.BytesIO()
        np.save(buffer, array)
        yield f"{name}.npy", buffer.getvalue()
        yield f"{name}.npz", _zip({"images.npy": buffer.getvalue()})


MAKERS = {make.__name__: make for make in (containers, packs, models, pictures, archives)}


def _picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    cells = Image.fromarray(rng.integers(0, 256, (3, 3, 3), np.uint8))
    return np.asarray(cells.resize((width, height), Image.Resampling.BICUBIC))


def _pack(codec: Codec, pictures: list[np.ndarray]) -> bytes:
    import tempfile

    names = [f"{number}.png" for number in range(len(pictures))]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.bin")
        encode_pack(pictures, path, codec, EncodeOptions(effort=0, block_images=3), names)
        return path.read_bytes()


def _sealed(header: Header, block: Block) -> bytes:
    buffer = io.BytesIO()
    writer = Writer(buffer, header)
    writer.write(block)
    writer.close()
    assert not reader.open_file(io.BytesIO(buffer.getvalue())).damage
    return buffer.getvalue()


def _zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return buffer.getvalue()


def main(folder: Path) -> None:
    for target, make in MAKERS.items():
        (folder / target).mkdir(parents=True, exist_ok=True)
        for name, data in make():
            (folder / target / name).write_bytes(data)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
