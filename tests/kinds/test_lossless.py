"""Lossless models: every pixel comes back, on every machine, and what might not is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cvae
from cvae.bitstream import container, exact, rans
from cvae.codec import Codec
from cvae.data.images import Pixels
from cvae.kinds import causal, lossless
from cvae.models.file import Model
from cvae.models.lossless import LosslessTables
from cvae.options import EncodeOptions

from ..conftest import photo
from ..lossless import codec as codec_of
from ..lossless import dark, tables, write

GOLDEN = Path(__file__).parents[1] / "golden"
FILES = json.loads((GOLDEN / "lossless.json").read_text())
GREY, COLOUR = (9, 11, 1), (10, 8, 3)
CASES = {"grey": (GREY, False), "colour": (COLOUR, False), "any": (COLOUR, True)}


@pytest.fixture(scope="module", params=CASES)
def codec(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Codec:
    shape, any_size = CASES[request.param]
    return codec_of(tmp_path_factory.mktemp(request.param), shape, any_size)


@pytest.fixture(scope="module")
def free(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    return codec_of(tmp_path_factory.mktemp("free"), COLOUR, any_size=True)


def drawn(kind: str, shape: tuple[int, ...], seed: int) -> Pixels:
    """Pictures of many kinds."""
    rng = np.random.default_rng(seed)
    if kind == "flat":
        return np.full(shape, rng.integers(0, 256), np.uint8)
    if kind == "noise":
        return rng.integers(0, 256, shape, np.uint8)
    if kind == "palette":
        return rng.choice(np.array([0, 3, 200, 255], np.uint8), shape)
    return photo(*shape, seed=seed)


# There and back


@pytest.mark.parametrize("kind", ["flat", "noise", "palette", "photo"])
def test_every_pixel_comes_back_from_files_and_blocks(codec: Codec, kind: str) -> None:
    shape = codec.image_shape
    batch = np.stack([drawn(kind, shape, seed) for seed in range(5)])
    coded = codec.encode_batch(batch)
    assert {item.psnr for item in coded} == {99.0}
    back = codec.decode_containers([container.unpack(item.data) for item in coded])
    assert np.array_equal(back, batch)
    assert np.array_equal(codec.decode([item.data for item in coded]), batch.squeeze())
    coding = codec.sized(*shape[:2]).coding
    symbols = batch.reshape(5, -1).astype(np.int32)
    block = coding.encode_block(symbols, 0)
    assert np.array_equal(coding.decode_block(block, 5, 0), symbols)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.integers(1, 70), st.integers(1, 50), st.sampled_from([1, 3]),
    st.sampled_from(["flat", "noise", "palette", "photo"]), st.integers(0, 99),
)  # fmt: skip
def test_pictures_of_any_size_come_back(
    free: Codec, width: int, height: int, channels: int, kind: str, seed: int
) -> None:
    picture = drawn(kind, (height, width, channels), seed)
    back = free.decode(free.encode(picture))
    assert np.array_equal(back, picture.squeeze(2) if channels == 1 else picture)


def test_large_pictures_take_the_coder_of_blocks_and_come_back(free: Codec) -> None:
    for shape in ((1, 1366, 3), (40, 35, 3), (2, 900, 1)):
        picture = photo(*shape)
        data = free.encode(picture)
        assert np.array_equal(free.decode(data), picture.squeeze(2) if shape[2] == 1 else picture)


def test_pictures_of_more_steps_than_other_blocks_may_have_come_back(
    free: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rans, "MAX_STEPS", 1 << 10)
    monkeypatch.setattr(rans, "_LANES_MAX", 8)
    picture = photo(40, 60, 3)
    assert np.array_equal(free.decode(free.encode(picture)), picture)


def test_the_decisions_of_a_large_picture_are_coded_in_parts_to_the_same_bytes(
    free: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = photo(40, 60, 3)
    data = free.encode(picture)
    pushed, push = [], rans.Encoder.push

    def watched(self: Any, rows: Any, symbols: Any) -> None:
        pushed.append(rows.size)
        push(self, rows, symbols)

    monkeypatch.setattr(causal, "_AT_ONCE", 1 << 7)
    monkeypatch.setattr(rans.Encoder, "push", watched)
    assert free.encode(picture) == data
    assert sum(pushed) > picture.size > 2 * max(pushed)


def test_the_information_is_what_files_take(codec: Codec) -> None:
    batch = np.stack([dark(photo(*codec.image_shape, seed=seed)) for seed in range(3)])
    for item in codec.encode_batch(batch):
        assert abs(8 * item.payload_bytes - item.information_bits) < 8
    total = sum(item.information_bits for item in codec.encode_batch(batch))
    assert codec.bits(list(batch)) == pytest.approx(total)


def test_many_images_are_coded_in_parts(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = np.stack([photo(*codec.image_shape, seed=seed) for seed in range(5)])
    expected = codec.encode_batch(batch)
    monkeypatch.setattr(lossless, "_VALUES", 2 * batch[0].size)
    monkeypatch.setattr(lossless, "_TOGETHER", 2)
    assert [item.data for item in codec.encode_batch(batch)] == [item.data for item in expected]
    back = codec.decode_containers([container.unpack(item.data) for item in expected])
    assert np.array_equal(back, batch)


# The same everywhere


@pytest.mark.parametrize("name", FILES)
def test_golden_files_hold_the_same_pixels_for_ever(name: str) -> None:
    codec = cvae.open_model(GOLDEN / f"{name}.cvae")
    for case in FILES[name]["images"]:
        pixels = np.array(case["pixels"], np.uint8)
        assert np.array_equal(codec.decode(bytes.fromhex(case["data"])), pixels)
        assert codec.encode(pixels).hex() == case["data"]


_AGAIN = """
import json, sys, numpy as np, cvae
for name, of in json.load(open(sys.argv[1] + "/lossless.json")).items():
    codec = cvae.open_model(f"{sys.argv[1]}/{name}.cvae")
    for case in of["images"]:
        assert codec.decode(bytes.fromhex(case["data"])).tolist() == case["pixels"]
"""


@pytest.mark.parametrize("threads", ["1", "2"])
def test_threads_of_matrix_products_change_no_pixel(threads: str) -> None:
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": threads}
    command = [sys.executable, "-c", _AGAIN, GOLDEN]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# What is refused


def test_every_flipped_bit_and_every_truncation_is_refused(codec: Codec) -> None:
    data = codec.encode(photo(*codec.image_shape))
    damaged = [data[:length] for length in range(len(data))]
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        damaged.append(bytes(flipped))
    for other in damaged:
        with pytest.raises(cvae.CvaeError):
            codec.decode(other)


@pytest.mark.parametrize("shape", [(12, 14, 3), (40, 60, 3)])
def test_damage_behind_a_good_check_is_refused_or_gives_some_picture(
    free: Codec, shape: tuple[int, int, int]
) -> None:
    item = container.unpack(free.encode(dark(photo(*shape))))
    rng, refused = np.random.default_rng(0), 0
    for _ in range(20):
        payload = bytearray(item.payload)
        payload[rng.integers(len(payload))] ^= 1 << rng.integers(8)
        for damaged in (bytes(payload), item.payload[: rng.integers(len(payload))]):
            try:
                symbols = free.decode_payload(replace(item, payload=damaged))
            except cvae.FormatError:
                refused += 1
            else:
                assert 0 <= symbols.min() <= symbols.max() <= 255
    assert refused > 2


@pytest.mark.parametrize("symbol", [-32768, -5, -1, 2, 5, 32768])
def test_a_decision_that_is_none_is_refused_also_as_an_escape(codec: Codec, symbol: int) -> None:
    coding = codec.sized(*codec.image_shape[:2]).coding
    coder, symbols = exact.Encoder(coding.bank), [symbol]

    def ask(rows: Any, owners: Any) -> Any:
        likely = (rows >= len(coding.bank) // 2).astype(np.int32)[np.newaxis]
        if symbols:
            likely[0, -1] = symbols.pop()
        coder.push(rows[np.newaxis], likely)
        return likely[0].clip(0, 1)

    coding._walked(1, ask)
    item = container.unpack(codec.encode(photo(*codec.image_shape)))
    with pytest.raises(cvae.FormatError, match="neither 0 nor 1"):
        codec.decode(container.pack(replace(item, payload=coder.finish()[0])))


def test_lossless_models_have_no_qualities_targets_or_inversion(codec: Codec) -> None:
    picture = photo(*codec.image_shape)
    for wrong in (
        {"quality": 50}, {"quality": np.zeros(2)}, {"max_bytes": 1000}, {"min_psnr": 30.0}
    ):  # fmt: skip
        with pytest.raises(cvae.CvaeError, match="lossless"):
            codec.encode(picture, **wrong)
    with pytest.raises(cvae.CvaeError, match="invert"):
        codec.encode_batch(picture[np.newaxis], EncodeOptions(invert=True))
    for options in (EncodeOptions(fit=True), EncodeOptions(crop=True)):
        if not codec.any_size:
            with pytest.raises(cvae.CvaeError, match="does not fit images"):
                codec.reading(options)


def test_a_quality_in_a_lossless_container_and_none_in_another_are_refused(codec: Codec) -> None:
    item = container.unpack(codec.encode(photo(*codec.image_shape)))
    with pytest.raises(cvae.CvaeError, match="has no qualities"):
        codec.decode(container.pack(replace(item, quality=50)))
    with pytest.raises(ValueError, match="quality"):
        container.pack(replace(item, staged=False, original_size=None, grey=False))
    photos = cvae.open_model(GOLDEN / "grid.cvae")
    other = replace(item, model_id=photos.model.manifest.id, original_size=(9, 9))
    with pytest.raises(cvae.CvaeError, match="expected a quality of 1 to 100, found 0"):
        photos.decode(container.pack(other))


def heavy(made: LosslessTables) -> dict[str, Any]:
    biases = made.biases.copy()
    biases[0] = 1 << 24
    return {"biases": biases}


def far(made: LosslessTables) -> dict[str, Any]:
    return {"positions": made.positions + (1 << 24)}


def fewer(made: LosslessTables) -> dict[str, Any]:
    return {"positions": made.positions[:-1]}


def deep(made: LosslessTables) -> dict[str, Any]:
    return {"trees": np.arange(1, 256, dtype=np.uint8)[np.newaxis]}


def blind(made: LosslessTables) -> dict[str, Any]:
    return {"window": np.array([1, 0, 0], np.uint8)}


def wide(made: LosslessTables) -> dict[str, Any]:
    return {"window": np.array([3, 3, 0], np.uint8)}


def off(made: LosslessTables) -> dict[str, Any]:
    return {"check": made.check + 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (heavy, "sums below 2^24"),
        (far, "sums below 2^24"),
        (fewer, "another shape"),
        (deep, "at most 64 decisions"),
        (blind, "a window"),
        (wide, "damaged"),
        (off, "the test vector of its exact networks comes out otherwise on this machine"),
    ],
)
def test_a_model_that_might_compute_otherwise_is_refused_in_one_line(
    change: Any, message: str, tmp_path: Path
) -> None:
    right = tables(GREY, any_size=False)
    made = object.__new__(LosslessTables)  # as a hostile file has them, unchecked
    vars(made).update({**vars(right), **change(right)})
    path = write(tmp_path / "other.cvae", GREY, made=made)
    with pytest.raises(cvae.ModelError) as caught:
        cvae.open_model(path).encode(photo(*GREY))
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"default_quality": 50},
        {"expected_psnr": (30.0,) * 100},
        {"latent_shape": (4,)},
        {"multiple": 2},
        {"kind": "lossless-any"},
        {"image_shape": (9, 12, 1), "latent_shape": (9, 12, 1)},
    ],
)
def test_a_manifest_of_something_else_is_refused(fields: dict[str, Any], tmp_path: Path) -> None:
    path = write(tmp_path / "other.cvae", GREY, **fields)
    with pytest.raises(cvae.ModelError):
        cvae.open_model(path).encode(photo(9, 12, 1))


def test_a_model_loads_nothing_but_numpy(tmp_path: Path) -> None:
    path = write(tmp_path / "some.cvae", GREY)
    code = (
        "import sys, numpy as np, cvae; codec = cvae.open_model(sys.argv[1]);"
        "codec.decode(codec.encode(np.zeros((9, 11), np.uint8)));"
        "assert 'onnxruntime' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, path], check=True)
    assert Model(path).causal.trees.shape == (1, 255)


def test_python_keeps_the_shortest_file_of_all_models_that_take_an_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cvae.models.registry.shipped_folder", lambda: tmp_path)
    names = ("one", "any")
    for number, (name, any_size) in enumerate(zip(names, (False, True), strict=True)):
        write(tmp_path / f"{name}.cvae", COLOUR, any_size, id=900 + number)
    picture = photo(*COLOUR)
    best = min((cvae.encode(picture, name) for name in names), key=len)
    data = cvae.encode(picture, lossless=True)
    assert len(data) <= len(best)
    assert np.array_equal(cvae.decode(data), picture)
    assert np.array_equal(
        cvae.decode(cvae.encode(photo(3, 4, 1), lossless=True)), photo(3, 4, 1)[..., 0]
    )
    grey = photo(3, 4, 1)
    several = [data, cvae.encode(grey, lossless=True)]
    assert cvae.encode([picture, grey], lossless=True) == several
    assert cvae.encode(picture[None], lossless=True) == several[:1]
    assert cvae.encode(picture, "any", lossless=True) == cvae.encode(picture, "any")
    for more in ({"quality": 3}, {"max_bytes": 9}, {"quality": np.zeros(2)}):
        with pytest.raises(cvae.CvaeError, match="keeps every pixel: expected no quality"):
            cvae.encode(picture, lossless=True, **more)


@pytest.mark.parametrize("name", ["mnist", "".join(["mn", "ist"]), "photo"])
def test_a_model_that_is_not_lossless_keeps_no_pixels(name: str) -> None:
    with pytest.raises(cvae.CvaeError, match=f"model {name} is not lossless; without a model"):
        cvae.encode(photo(28, 28, 1), name, lossless=True)


def test_pictures_with_alpha_are_coded_as_twice_as_high_ones(free: Codec) -> None:
    pixels = np.concatenate([photo(6, 8, 3), photo(6, 8, 1, seed=4)], axis=2)
    item = container.unpack(free.encode(pixels))
    assert item.alpha
    assert item.original_size == (8, 6)
    assert np.array_equal(free.decode(free.encode(pixels)), pixels)
    assert free.bits([pixels]) == pytest.approx(
        free.information_bits(item, free.decode_payload(item))
    )
    grid = cvae.open_model(GOLDEN / "grid.cvae")
    with pytest.raises(cvae.CvaeError, match="drops the alpha"):
        grid.encode(pixels)
    wrong = replace(item, model_id=grid.model.manifest.id, quality=50)
    with pytest.raises(cvae.FormatError, match="has alpha, unlike"):
        grid.decode(container.pack(wrong))


def test_a_size_that_lies_is_refused_before_memory_is_taken(free: Codec) -> None:
    item = container.unpack(free.encode(photo(4, 4, 3)))
    for size in ((65535, 65535), (4097, 4096), (4096, 2049)):
        alpha = size == (4096, 2049)  # twice as high
        with pytest.raises(
            cvae.CvaeError, match=r"at most (64,000,000|16,777,216|8,388,608) pixels"
        ):
            free.decode(container.pack(replace(item, original_size=size, alpha=alpha)))
    with pytest.raises(cvae.CvaeError, match="at most 16,777,216 pixels"):
        free.encode(np.zeros((4097, 4096), np.uint8))


def test_no_pictures_are_no_files(tmp_path: Path) -> None:
    codec = cvae.open_model(write(tmp_path / "a.cvae", (9, 11, 1)))
    assert codec.encode_batch(np.zeros((0, 9, 11, 1), np.uint8)) == []
