"""Pictures of any size through a model of thin networks: what holds on every machine, and what is refused."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cvae
from cvae.bitstream import container
from cvae.bitstream.container import Container
from cvae.bitstream.tables import Symbols
from cvae.codec import Codec
from cvae.data import images
from cvae.data.images import Pixels
from cvae.kinds import context, grid
from cvae.kinds.grid import EXACT_SYMBOLS, GridCoding
from cvae.models import file
from cvae.models.file import Manifest, Model, member_hashes, write_model
from cvae.models.grids import GridTables
from cvae.options import Encoded, EncodeOptions
from cvae.packs import reader
from cvae.packs.decode import Pack

from ..conftest import photo

GOLDEN = Path(__file__).parents[1] / "golden"
MODEL = GOLDEN / "grid.cvae"
FILES = json.loads((GOLDEN / "grid.json").read_text())


@pytest.fixture(scope="module")
def codec() -> Codec:
    return cvae.open_model(MODEL)


def encoded(codec: Codec, pixels: Pixels, **options: Any) -> Encoded:
    return codec.encode_batch(pixels[np.newaxis], EncodeOptions(**options))[0]


def coding_of(codec: Codec, height: int, width: int) -> GridCoding:
    coding = codec.coding.sized(height, width)
    assert isinstance(coding, GridCoding)
    return coding


def digest(symbols: Symbols) -> str:
    return hashlib.sha256(np.ascontiguousarray(symbols, "<i4").tobytes()).hexdigest()


# What was written once


@pytest.mark.parametrize("number", range(len(FILES["images"])))
def test_golden_files_decode_to_the_same_symbols_for_ever(codec: Codec, number: int) -> None:
    golden = FILES["images"][number]
    data = bytes.fromhex(golden["data"])
    item = container.unpack(data)
    symbols = codec.decode_payload(item)
    assert digest(symbols) == golden["symbols"]
    assert item.original_size is not None
    coding = coding_of(codec, *item.original_size[::-1])
    assert coding.encode_each(symbols, item.quality) == [item.payload]
    # Pixels may differ by one level between processors.
    pixels = codec.decode(data)
    assert pixels.shape[:2] == item.original_size[::-1]
    apart = pixels[::16, ::16].astype(int) - np.array(golden["pixels"], int)
    assert np.abs(apart).max() <= 1


def test_a_golden_pack_decodes_to_the_pictures_of_the_golden_files(codec: Codec) -> None:
    pack = Pack(reader.open_file(io.BytesIO(bytes.fromhex(FILES["pack"]))), codec)
    found = pack.images(range(len(pack)))
    assert [picture.shape for picture in found] == [(61, 97, 3)] * 2 + [(40, 40, 3), (1, 1, 3)]
    # At the same quality as these files, hence of the same symbols.
    for number in (0, 2, 3):
        single = codec.decode(bytes.fromhex(FILES["images"][number]["data"]))
        packed = found[number] if single.ndim == 3 else images.as_grey(found[number])[..., 0]
        assert np.abs(single.astype(int) - packed).max() <= 1


# There and back


@pytest.mark.parametrize("effort", [0, 5])
@pytest.mark.parametrize(
    "shape",
    [(1, 1, 3), (1, 40, 3), (17, 16, 3), (16, 17, 1), (63, 65, 3), (61, 97, 1), (5, 700, 3)],
)
def test_a_file_gives_the_symbols_that_were_chosen(
    codec: Codec, shape: tuple[int, int, int], effort: int
) -> None:
    pixels = photo(*shape, seed=7)
    for quality in (1, 50, 100):
        item = encoded(codec, pixels, quality=quality, effort=effort)
        back = container.unpack(item.data)
        assert np.array_equal(codec.decode_payload(back)[0], item.symbols)
        assert codec.information_bits(back, item.symbols[np.newaxis]) == item.information_bits
        assert 8 * len(back.payload) <= item.information_bits + 8
        (picture,) = codec.decode_containers([back])
        assert picture.shape == shape
        error = np.square(picture.astype(float) - pixels).mean()
        assert item.psnr == pytest.approx(10 * np.log10(255**2 / max(error, 1e-9)), abs=0.01)


def test_a_long_strip_there_and_back(codec: Codec) -> None:
    pixels = photo(20000, 30, seed=1)
    item = encoded(codec, pixels, quality=40, effort=1)
    assert len(item.symbols) > EXACT_SYMBOLS
    assert np.array_equal(codec.decode_payload(container.unpack(item.data))[0], item.symbols)
    assert codec.decode(item.data).shape == pixels.shape
    assert item.psnr > 15


def test_both_coders_code_all_symbols_and_each_its_own_sizes(
    codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [(16, 16 * columns) for columns in (455, 456)]  # 4,096 symbols, and a few more
    codings = [coding_of(codec, *size) for size in sizes]
    assert [coding.elements for coding in codings] == [EXACT_SYMBOLS, EXACT_SYMBOLS + 8]
    payloads = []
    for coding in codings:
        rng = np.random.default_rng(0)
        symbols = (rng.integers(-9, 10, (1, coding.elements)) ** 5).astype(np.int32)
        symbols = nearest(coding, symbols // 4)
        payloads += coding.encode_each(symbols, 50)
        assert np.array_equal(coding.decode_each(payloads[-1], 50), symbols)
    # What one coder writes is nothing to the other.
    for coding, payload, limit in zip(codings, payloads, (0, 1 << 30), strict=True):
        monkeypatch.setattr(grid, "EXACT_SYMBOLS", limit)
        with pytest.raises(cvae.FormatError):
            coding.decode_each(payload, 50)


def nearest(coding: GridCoding, symbols: Symbols, quality: int = 50) -> Symbols:
    """Symbols that can be coded: hyper latents as they are, latents at whole steps from their means."""
    z, values = coding.parts(symbols)
    passing = coding.passing(z, quality)
    for stage in range(coding.entropy.stages):
        mean, classes = passing.parameters(stage)
        k = passing.at(stage, values) // 16
        k[classes == 0] = 0
        passing.put(stage, mean + 16 * k)
    return coding.joined(z, passing.values())


# The same everywhere


def settings_of(monkeypatch: pytest.MonkeyPatch, name: str) -> Codec:
    """A codec opened where something of the machine is otherwise."""
    if name == "tiles":
        monkeypatch.setattr(grid, "TILE", 8)
    if name == "strips":
        monkeypatch.setattr(context, "_STRIP", 1)
    if name == "plain graphs":
        import onnxruntime

        level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        whole = onnxruntime.SessionOptions

        def options() -> Any:
            made = whole()
            made.graph_optimization_level = level
            return made

        monkeypatch.setattr(onnxruntime, "SessionOptions", options)
    if name == "shared":
        monkeypatch.setattr(grid, "_LARGE", 1)
    return cvae.open_model(MODEL)


@pytest.mark.parametrize("name", ["tiles", "strips", "plain graphs", "shared"])
@pytest.mark.parametrize("threads", [1, 2])
def test_threads_tiles_and_optimizations_change_no_bytes(
    codec: Codec, name: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = 120, 1000
    pixels = photo(*side, seed=3)
    expected, searched = (encoded(codec, pixels, effort=effort) for effort in (0, 3))
    item = container.unpack(expected.data)
    other = settings_of(monkeypatch, name).sized(*side)
    reach = coding_of(other, *side).entropy.tables.reach.tolist()
    tiles = [len(coding_of(other, *side)._tiles(r)) for r in (*reach, 2 * reach[1])]
    assert (min(tiles) > 1) == (name == "tiles")
    assert np.array_equal(other.decode_payload(item)[0], expected.symbols)
    assert other.coding.encode_each(expected.symbols[np.newaxis], 50) == [item.payload]
    found = other.quantize(pixels[np.newaxis], 50, 0, threads)
    assert np.array_equal(found[0], expected.symbols)
    apart = other.synthesize(found, 50, threads).astype(int) - codec.decode(expected.data)
    assert np.abs(apart).max() <= 1
    # Float networks differ in the last digits, so the search may end elsewhere; never far.
    found = other.quantize(pixels[np.newaxis], 50, 3, threads)
    assert np.mean(found[0] != searched.symbols) < 0.01


_AGAIN = """
import json, sys, hashlib, numpy as np, cvae
from cvae.bitstream import container
codec = cvae.open_model(sys.argv[1])
for case in json.load(open(sys.argv[2]))["images"]:
    item = container.unpack(bytes.fromhex(case["data"]))
    symbols = codec.decode_payload(item)
    assert hashlib.sha256(symbols.astype("<i4").tobytes()).hexdigest() == case["symbols"]
    coding = codec.sized(*item.original_size[::-1]).coding
    assert coding.encode_each(symbols, item.quality) == [item.payload]
"""


@pytest.mark.parametrize("threads", ["1", "2"])
def test_threads_of_matrix_products_change_no_symbols(threads: str) -> None:
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": threads}
    command = [sys.executable, "-c", _AGAIN, MODEL, GOLDEN / "grid.json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# Hostile files


def test_every_flipped_bit_and_every_truncation_is_refused(codec: Codec) -> None:
    data = encoded(codec, photo(5, 8, seed=2)).data
    assert len(codec.decode(data)) == 5
    damaged = [data[:length] for length in range(len(data))]
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        damaged.append(bytes(flipped))
    for other in damaged:
        with pytest.raises(cvae.FormatError):
            codec.decode(other)


@pytest.mark.parametrize("size", [(8, 5), (450, 400)])
def test_damage_behind_a_good_check_is_refused_or_decodes_to_some_picture(
    codec: Codec, size: tuple[int, int]
) -> None:
    item = container.unpack(encoded(codec, photo(*size[::-1], seed=2), quality=20, effort=0).data)
    rng, refused = np.random.default_rng(0), 0
    for _ in range(30):
        payload = bytearray(item.payload)
        payload[rng.integers(len(payload))] ^= 1 << rng.integers(8)
        for damaged in (bytes(payload), item.payload[: rng.integers(len(payload))]):
            try:
                symbols = codec.decode_payload(replace(item, payload=damaged))
            except cvae.FormatError:
                refused += 1
            else:
                coding = coding_of(codec, *size[::-1])
                assert symbols.shape == (1, coding.elements)
    assert refused > 5


@pytest.mark.parametrize(
    ("size", "message"), [((65535, 65535), "at most 64,000,000 pixels"), ((2, 30), "damaged")]
)
def test_a_size_that_lies_is_refused_before_memory_is_taken(
    codec: Codec, size: tuple[int, int], message: str
) -> None:
    whole = Container(codec.model.manifest.id, 50, bytes(range(84)), size, staged=True)
    data = container.pack(whole)
    codec.decode(bytes.fromhex(FILES["images"][0]["data"]))
    tracemalloc.start()
    try:
        with pytest.raises(cvae.FormatError, match=message):
            codec.decode(data)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


# Models


def changed(path: Path, **arrays: Any) -> Path:
    """The golden model with other tables, and hashes that fit these."""
    model = Model(MODEL)
    tables = dataclasses.replace(model.grids, **arrays)
    return written(path, tables)


def written(path: Path, tables: GridTables, **fields: Any) -> Path:
    import zipfile

    with zipfile.ZipFile(MODEL) as archive:
        graphs = {n: archive.read(n) for n in archive.namelist() if n.endswith(".onnx")}
        manifest = Manifest.from_json(archive.read(file.MANIFEST))
    manifest = replace(manifest, hashes=member_hashes(graphs, tables), **fields)
    write_model(path, manifest, graphs, tables, True)
    return path


def heavy(tables: GridTables) -> dict[str, Any]:
    """A bias that lets sums go beyond what float32 holds exactly."""
    biases = tables.biases.copy()
    biases[0] = 1 << 24
    return {"biases": biases}


def longer(tables: GridTables) -> dict[str, Any]:
    return {"weights": np.append(tables.weights, np.int8(1))}


def narrow(tables: GridTables) -> dict[str, Any]:
    """As many numbers, in a first layer that takes an input more and gives... other shapes."""
    layers = tables.layers.copy()
    layers[1, 2:4] = layers[1, 3], layers[1, 2]
    return {"layers": layers}


def regrouped(tables: GridTables) -> dict[str, Any]:
    return {"groups": np.array([3, 5], np.uint16)}


def square(tables: GridTables) -> dict[str, Any]:
    return {"groups": tables.groups[np.newaxis]}


def off(tables: GridTables) -> dict[str, Any]:
    return {"check": tables.check + np.eye(*tables.check.shape, dtype=np.int64)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (heavy, "sums below 2^24"),
        (longer, "as many weights and biases"),
        (narrow, "damaged"),
        (regrouped, "expected 6 sums of stage 0"),
        (square, "groups as a row"),
        (off, "the test vector of its exact networks comes out otherwise on this machine"),
    ],
)
def test_a_model_that_might_compute_otherwise_is_refused_in_one_line(
    change: Any, message: str, tmp_path: Path
) -> None:
    tables = Model(MODEL).grids
    arrays = {**vars(tables), **change(tables)}
    made = object.__new__(GridTables)  # as a hostile file has them, unchecked
    vars(made).update(arrays)
    path = written(tmp_path / "other.cvae", made)
    with pytest.raises(cvae.ModelError) as caught:
        cvae.open_model(path).decode(bytes.fromhex(FILES["images"][0]["data"]))
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tables_of_other_channels_than_the_manifest_says_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "other.cvae", Model(MODEL).grids, latent_shape=(9,))
    with pytest.raises(cvae.ModelError, match="expected tables of 9 channels, found 8"):
        cvae.open_model(path).encode(np.zeros((9, 9, 3), np.uint8))
