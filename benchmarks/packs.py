"""Packs and images by themselves over the bare networks, Keras and Pillow, turn by turn in one process."""

from __future__ import annotations

import io
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import networks
import numpy as np
from PIL import Image
from timing import seconds

import cvae
from cvae.bitstream import container
from cvae.codec import Codec
from cvae.data import images, sinks
from cvae.data.images import Pixels
from cvae.data.pipeline import frequent_switches, processors
from cvae.data.reading import Reading
from cvae.data.sources import Which, array_source
from cvae.models.file import ANALYSIS, SYNTHESIS
from cvae.options import EncodeOptions, Tally
from cvae.packs.decode import Pack
from cvae.packs.encode import encode as encode_pack
from cvae.packs.reader import open_file

Work = Callable[[], object]

BATCHES = {1: 200, 64: 2048, 1024: 10_240}
_FILES = 1000  # images through Pillow, one by one


def report(pixels: Pixels) -> str:
    """Both tables, of uint8 images (n, h, w, c) of the default model's shape."""
    codec = cvae.open_model()
    with frequent_switches():  # as the commands have them
        return f"{_packs(codec, pixels)}\n\n{_batches(codec, pixels)}"


def _packs(codec: Codec, pixels: Pixels) -> str:
    x = images.as_floats(pixels)
    y = codec.coding.analyse(x)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(folder / "in.npz", images=pixels[..., 0])
        encode, decode = _coding(codec, folder)
        size, over = _size(codec, pixels, encode())
        bare = {
            member: _best_bare(codec.model.path, member, items)
            for member, items in ((ANALYSIS, x), (SYNTHESIS, y))
        }
        times = seconds(
            {
                ANALYSIS: bare[ANALYSIS][1],
                SYNTHESIS: bare[SYNTHESIS][1],
                "plain": encode,
                "verified": lambda: encode(verify=True),
                "back": decode,
            }
        )
    rate = {name: len(pixels) / time for name, time in times.items()}
    analysis, synthesis = rate[ANALYSIS], rate[SYNTHESIS]
    both = 1 / (1 / analysis + 1 / synthesis)
    return "\n".join(
        [
            f"{len(pixels):,} images from an `.npz` file to a pack and back, effort 0: {size:,} bytes, "
            f"{over:.4f} times the information content.",
            "",
            "| | images a second | over the bare network |",
            "|---|---|---|",
            f"| analysis by ONNX Runtime and nothing else, {bare[ANALYSIS][0]} | {analysis:,.0f} | |",
            f"| synthesis, {bare[SYNTHESIS][0]} | {synthesis:,.0f} | |",
            f"| `cvae pack --no-verify` | {rate['plain']:,.0f} | {rate['plain'] / analysis:.2f} |",
            f"| `cvae pack`, over both networks | {rate['verified']:,.0f} "
            f"| {rate['verified'] / both:.2f} |",
            f"| `cvae unpack` | {rate['back']:,.0f} | {rate['back'] / synthesis:.2f} |",
        ]
    )


def _coding(codec: Codec, folder: Path) -> tuple[Callable[..., Tally], Work]:
    """What `cvae pack` and `cvae unpack` do once they have started."""
    packed, back = folder / "x.bin", folder / "back.npz"
    source, reading = array_source(folder / "in.npz"), Reading(codec.image_shape, "exact")

    def encode(verify: bool = False) -> Tally:
        options = EncodeOptions(effort=0, verify=verify)
        with packed.open("wb") as file:
            return encode_pack(codec, source.batches(reading), file, options)

    def decode() -> None:
        with packed.open("rb") as file:
            opened = Pack(open_file(file), codec)
            ranges = [(0, len(opened))]
            with sinks.open_sink(back, codec.image_shape, ranges, force=True) as sink:
                for decoded in opened.decode(ranges):
                    sink(decoded)

    return encode, decode


def _size(codec: Codec, pixels: Pixels, written: Tally) -> tuple[int, float]:
    """Bytes of the pack, and times the information content."""
    quality = codec.quality(None)
    symbols = codec.quantize(pixels, quality, 0)
    bits = codec.coding.information_bits(symbols, quality).sum()
    return written.file_bytes, 8 * written.file_bytes / float(bits)


def _best_bare(model: Path, member: str, items: np.ndarray) -> tuple[str, Work]:
    """The fastest of several batch sizes and both ways to use threads."""
    works = {
        f"batch {batch}, {'threads within' if inner else 'batches side by side'}": _bare(
            model, member, items, batch, inner
        )
        for batch in (32, 128, 512, 2048)
        for inner in (False, True)
    }
    times = seconds(works, repeats=3)
    name = min(times, key=times.__getitem__)
    return name, works[name]


def _bare(model: Path, member: str, items: np.ndarray, batch: int, inner: bool) -> Work:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = processors() if inner else 1
    with zipfile.ZipFile(model) as archive:
        session = onnxruntime.InferenceSession(archive.read(member), options)
    name = session.get_inputs()[0].name
    parts = [items[start : start + batch] for start in range(0, len(items), batch)]
    pool = ThreadPoolExecutor(1 if inner else processors())
    return lambda: list(pool.map(lambda part: session.run(None, {name: part}), parts))


def _batches(codec: Codec, pixels: Pixels) -> str:
    """Images each in a container of its own, so many in a call."""
    analysis, synthesis = networks.keras_networks()
    with zipfile.ZipFile(codec.model.path) as archive:
        bare = {name: networks.session(archive.read(name)) for name in (ANALYSIS, SYNTHESIS)}
    files = _pillow(pixels[:_FILES, ..., 0])
    options = EncodeOptions(effort=0)
    rows = [
        "| images by themselves, effort 0 | batch | images a second | over Keras `predict` "
        "| over bare ONNX Runtime | over Pillow's WebP | over its PNG |",
        "|---|---|---|---|---|---|---|",
    ]
    for batch, count in BATCHES.items():
        part = np.resize(pixels, (count, *pixels.shape[1:]))
        x = images.as_floats(part)
        y = codec.coding.analyse(x)
        coded = [item.data for item in codec.encode_batch(part, options)]
        works: dict[str, Work] = {
            "encode": _in_batches(lambda p: codec.encode_batch(p, options), part, batch),
            "decode": _in_batches(lambda p: _decode(codec, p), coded, batch),
            "encode keras": lambda x=x, b=batch: analysis.predict(x, b, verbose=0),
            "decode keras": lambda y=y, b=batch: synthesis.predict(y, b, verbose=0),
            "encode bare": _in_batches(bare[ANALYSIS], x, batch),
            "decode bare": _in_batches(bare[SYNTHESIS], y, batch),
        }
        times = seconds(works | files)
        for way in ("encode", "decode"):
            own = count / times[way]
            others = [count / times[f"{way} keras"], count / times[f"{way} bare"],
                      _FILES / times[f"{way} WEBP"], _FILES / times[f"{way} PNG"]]  # fmt: skip
            ratios = " | ".join(f"{own / other:.2f}" for other in others)
            rows.append(f"| {way} | {batch:,} | {own:,.0f} | {ratios} |")
    note = (
        "Encoding runs analysis and, to know the PSNR, synthesis, too; Keras and ONNX Runtime beside "
        "it run analysis alone."
    )
    rows += ["", note]
    return "\n".join(rows)


def _decode(codec: Codec, items: Any) -> list[Pixels]:
    return codec.decode_containers([container.unpack(item) for item in items])


def _in_batches(run: Callable[[Any], object], items: Any, batch: int) -> Work:
    return lambda: [run(items[start : start + batch]) for start in range(0, len(items), batch)]


def _pillow(pixels: np.ndarray) -> dict[str, Work]:
    """Grey images (n, h, w) through general codecs at Pillow's own settings, in memory."""
    pictures = [Image.fromarray(item) for item in pixels]

    def encode(kind: str) -> list[bytes]:
        found = []
        for picture in pictures:
            buffer = io.BytesIO()
            picture.save(buffer, kind)
            found.append(buffer.getvalue())
        return found

    works: dict[str, Work] = {}
    for kind in ("WEBP", "PNG"):
        coded = encode(kind)
        works[f"encode {kind}"] = lambda kind=kind: encode(kind)
        works[f"decode {kind}"] = lambda coded=coded: [
            np.asarray(Image.open(io.BytesIO(data))) for data in coded
        ]
    return works


def main() -> None:
    started = time.monotonic()
    path = Path(sys.argv[1])
    print(report(array_source(path, Which("test")).all()))
    print(f"{time.monotonic() - started:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
