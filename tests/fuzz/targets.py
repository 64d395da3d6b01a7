"""What is fuzzed: for each target a function that takes any bytes, and raises CvaeError or nothing."""

from __future__ import annotations

import io
import tempfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from pathlib import Path

import cvae
from cvae import kinds
from cvae.bitstream import container
from cvae.data import arrays, tars
from cvae.data.reading import Reading
from cvae.errors import CvaeError
from cvae.models import registry
from cvae.packs import reader
from cvae.packs.decode import Pack
from cvae.packs.layout import Block, Header, Writer

from ..malformed.make import GRID, MODEL

LOSSLESS = [GRID.with_name(f"lossless-{name}.cvae") for name in ("one", "any")]
CODECS = [cvae.open_model(path) for path in (MODEL, GRID, *LOSSLESS)]
_FEW = 8  # images of a pack
_LARGE = 1 << 20  # pixels; larger pictures take longer than a fuzzer waits
_READINGS = [Reading((28, 28, 1), fit) for fit in ("exact", "stretch")] + [
    Reading((0, 0, 3), "any")
]


def containers(data: bytes) -> None:
    """As they are, and with a check that holds."""
    size = 2 if len(data) < 264 else 4
    body = data[:-size]
    for item in (data, body + container._check(body, 0 if size == 2 else 256)):
        for codec in CODECS:
            with suppress(CvaeError):
                found = container.unpack(item)
                width, height = found.original_size or (1, 1)
                symbols = codec.decode_payload(found)
                if width * height < _LARGE:
                    list(codec.reconstruct([found], [symbols]))


def packs(data: bytes) -> None:
    """As they are, and as the payload of a block whose checks hold."""
    _unpack(data)
    for codec in CODECS:
        sizes = [(20, 30), (20, 30), (17, 9)] if codec.any_size else None
        buffer = io.BytesIO()
        writer = Writer(
            buffer, Header(codec.model.manifest.id, codec.quality(None), sizes=codec.any_size)
        )
        writer.write(Block(3, data, sizes=sizes))
        writer.close()
        _unpack(buffer.getvalue())
    _unpack(_labelled(data))


def _labelled(column: bytes) -> bytes:
    """A pack whose labels are these bytes, packed as a writer packs its own."""
    buffer, model_id = io.BytesIO(), CODECS[0].model.manifest.id
    writer = Writer(buffer, Header(model_id, 50, labels=True))
    writer.write_packed(3, b"", [b"", b"", zlib.compress(column)])
    writer.close()
    return buffer.getvalue()


def _unpack(data: bytes) -> None:
    for codec in CODECS:
        with suppress(CvaeError):
            pack = Pack(reader.open_file(io.BytesIO(data)), codec)
            first = [(0, min(_FEW, len(pack)))]
            whole = pack.whole(first, refuse=lambda error: None)
            for part in pack.decode(whole, threads=1):
                sizes = [part.size(row) for row in range(len(part.numbers))]
                _ = [part.original(row) for row, (w, h) in enumerate(sizes) if w * h < _LARGE]
            pack.reader.facts()


def models(data: bytes) -> None:
    with tempfile.TemporaryDirectory(prefix="cvae-") as folder, suppress(CvaeError):
        path = Path(folder, "x.cvae")
        path.write_bytes(data)
        kinds.verify(registry.open_model(path))


def pictures(data: bytes) -> None:
    for reading in _READINGS:
        with suppress(CvaeError):
            reading.read(data, "x")


def archives(data: bytes) -> None:
    with suppress(CvaeError):
        list(islice(tars.members(io.BytesIO(data), "x", lambda name: True, 1 << 20), 100))
    with tempfile.TemporaryDirectory(prefix="cvae-") as folder:
        path = Path(folder, "x.npy")
        path.write_bytes(data)
        with suppress(CvaeError):
            arrays.read_npy(path)
        for name in (None, "images"):
            with suppress(CvaeError), arrays.open_rows(path, name) as rows:
                rows.read(100)


TARGETS: dict[str, Callable[[bytes], None]] = {
    work.__name__: work for work in (containers, packs, models, pictures, archives)
}
