"""Payloads of lossless models that hold the values themselves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import cvae
from cvae.bitstream import container
from cvae.codec import Codec
from cvae.data.images import Pixels

from ..conftest import photo
from ..lossless import codec as codec_of
from ..lossless import dark

SHAPE = (10, 8, 3)
CASES = {"grey": ((9, 11, 1), False), "colour": (SHAPE, False), "any": (SHAPE, True)}


@pytest.fixture(scope="module", params=CASES)
def codec(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Codec:
    shape, any_size = CASES[request.param]
    return codec_of(tmp_path_factory.mktemp(request.param), shape, any_size)


def noise(shape: tuple[int, ...], seed: int) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def test_noise_takes_no_more_than_its_values(codec: Codec) -> None:
    shape = codec.image_shape
    shapes = [shape, (40, 60, 3)] if codec.any_size else [shape]
    for picture in (noise(each, 3) for each in shapes):
        data = codec.encode(picture)
        assert container.unpack(data).payload == picture.tobytes()
        assert np.array_equal(codec.decode(data).reshape(picture.shape), picture)
    several = np.stack([noise(shape, seed) for seed in range(3)])
    coding = codec.sized(*shape[:2]).coding
    payload = coding.encode_block(several.reshape(3, -1).astype(np.int32), 0)
    assert payload == several.tobytes()
    assert np.array_equal(coding.decode_block(payload, 3, 0), several.reshape(3, -1))


def test_of_several_pictures_each_is_the_shorter_form(codec: Codec) -> None:
    shape = codec.image_shape
    pictures = [dark(photo(*shape)), noise(shape, 0), dark(photo(*shape, seed=1))]
    data = [codec.encode(picture) for picture in pictures]
    raw = [len(container.unpack(item).payload) == pictures[0].size for item in data]
    assert raw == [False, True, False]
    for picture, back in zip(pictures, codec.decode(data), strict=True):
        assert np.array_equal(back.reshape(shape), picture)


def test_a_payload_longer_than_the_values_is_refused(codec: Codec) -> None:
    item = container.unpack(codec.encode(photo(*codec.image_shape)))
    long = replace(item, payload=bytes(np.prod(codec.image_shape) + 1))
    with pytest.raises(cvae.FormatError, match="damaged: expected at most"):
        codec.decode(container.pack(long))


def test_a_pack_of_noise_takes_no_more_than_its_values(workdir: Path) -> None:
    free = codec_of(workdir, SHAPE, any_size=True)
    pictures = [noise((9, 5 + n // 2, 3), n) for n in range(4)]
    cvae.encode_pack(pictures, "a.bin", free)
    with cvae.open_pack("a.bin", free) as pack:
        (place,) = pack.reader.blocks()
        assert pack.reader.read(place).payload == b"".join(p.tobytes() for p in pictures)
        assert all(np.array_equal(a, b) for a, b in zip(pack, pictures, strict=True))
