"""Packs of images of any size."""

from __future__ import annotations

import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cvae
from cvae.bitstream import rans
from cvae.data.batches import Batch
from cvae.data.images import Pixels
from cvae.kinds import runs
from cvae.options import EncodeOptions, Tally
from cvae.packs import encode as packing
from cvae.packs import layout, run
from cvae.packs import reader as readers
from cvae.packs.decode import Pack
from cvae.packs.layout import Block, Header

from ..anysize import install, picture

SIZES = [(9, 9), (9, 9), (200, 3), (9, 9), (1, 1), (1, 1), (1, 1), (37, 41)]  # height, width


@pytest.fixture
def codec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> cvae.Codec:
    install(monkeypatch, tmp_path, "mosaic")
    return cvae.open_model("mosaic")


def pictures() -> list[Pixels]:
    return [picture(*size, seed=seed) for seed, size in enumerate(SIZES)]


def packed(codec: cvae.Codec, images: list[Pixels], **changes: Any) -> tuple[bytes, Tally]:
    buffer = io.BytesIO()
    asked = EncodeOptions(**{"quality": 100, "names": False, **changes})
    tally = packing.encode(codec, (Batch(image[None]) for image in images), buffer, asked)
    return buffer.getvalue(), tally


def opened(codec: cvae.Codec, data: bytes) -> Pack:
    return Pack(readers.open_file(io.BytesIO(data)), codec)


def near(x: Pixels, x_hat: Pixels) -> bool:
    return x.shape == x_hat.shape and bool(np.abs(x.astype(int) - x_hat).max() <= 3)


def sizes_of(images: list[Pixels]) -> list[tuple[int, int]]:
    return [(image.shape[1], image.shape[0]) for image in images]


@pytest.mark.parametrize("lanes", [None, 1, 7])
@pytest.mark.parametrize("spread", [2, 500])
def test_runs_of_several_sizes_are_one_block(
    codec: cvae.Codec, lanes: int | None, spread: int
) -> None:
    rng, sizes = np.random.default_rng(0), [(w, h) for h, w in SIZES]
    parts = []
    for width, height in sizes:  # one by one, though some make a run
        elements = codec.sized(height, width).coding.elements
        parts.append(rng.integers(-spread, spread, (1, elements)).astype(np.int32))
    payload = runs.encode(codec.coding, sizes, parts, 50, lanes)
    found = runs.runs_of(codec.coding, sizes)
    assert [item.images for item in found] == [2, 1, 1, 3, 1]
    again = runs.decode(found, payload, 50)
    symbols = [row for part in again for row in part]
    assert all(np.array_equal(a[0], b) for a, b in zip(parts, symbols, strict=True))
    for cut in range(0, len(payload), 9):
        with pytest.raises(cvae.FormatError):
            runs.decode(found, payload[:cut], 50)


def test_one_run_is_the_block_of_its_coding(codec: cvae.Codec) -> None:
    batch = np.stack([picture(9, 14, seed=seed) for seed in range(5)])
    symbols = codec.quantize(batch, 50)
    block = codec.sized(9, 14).coding.encode_block(symbols, 50)
    assert runs.encode(codec.coding, [(14, 9)] * 5, [symbols[:2], symbols[2:]], 50) == block


def test_the_layout_is_runs_then_stages_then_images(codec: cvae.Codec) -> None:
    images = pictures()
    data, _ = packed(codec, images)
    with opened(codec, data) as pack:
        (place,) = pack.reader.blocks()
        block = pack.reader.read(place)
    assert block.sizes == sizes_of(images)
    coder = rans.Encoder(codec.coding.bank, 2 * 5)
    for _, group in itertools.groupby(images, key=lambda image: image.shape):
        batch = np.stack(list(group))
        coding = codec.sized(*batch.shape[1:3]).coding
        coding.push(coder, codec.quantize(batch, 100), 100)
    assert block.payload == coder.finish()


def test_a_pack_gives_every_image_at_its_size(codec: cvae.Codec) -> None:
    images = pictures()
    data, tally = packed(codec, images)
    assert (tally.images, tally.poor) == (len(images), 0)
    assert tally.psnr_mean
    assert tally.psnr_mean > 40
    with opened(codec, data) as pack:
        assert all(near(a, b) for a, b in zip(images, pack, strict=True))
        wanted = [7, 2, 2, 0, 5]
        found = pack.images(wanted)
        assert all(near(images[number], b) for number, b in zip(wanted, found, strict=True))
        assert pack.images([]) == []


@pytest.mark.parametrize("limits", [{"images": 3}, {"symbols": 60}, {"images": 2, "symbols": 1}])
def test_blocks_keep_to_both_limits(
    codec: cvae.Codec, limits: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    most = limits.get("symbols", layout.MAX_BLOCK_SYMBOLS)
    monkeypatch.setattr(packing, "MAX_BLOCK_SYMBOLS", most)
    images = pictures()
    data, _ = packed(codec, images, block_images=limits.get("images", 4096))
    with opened(codec, data) as pack:
        places = list(pack.reader.blocks())
        assert len(places) > 1
        for place in places:
            block = pack.reader.read(place)
            symbols = sum(item.symbols for item in runs.runs_of(codec.coding, block.sizes or []))
            assert block.images == 1 or symbols <= most
            assert block.images <= limits.get("images", 4096)
        found = pack.images(range(len(images)))
    assert all(near(a, b) for a, b in zip(images, found, strict=True))


def test_grey_images_come_back_as_rgb(codec: cvae.Codec, tmp_path: Path) -> None:
    images = [picture(9, 9, 1)[..., 0], picture(9, 9), picture(5, 3, 1)]
    cvae.encode_pack(images, tmp_path / "x.bin", tmp_path / "models" / "mosaic.cvae", quality=100)
    with cvae.open_pack(tmp_path / "x.bin") as pack:
        found = pack.images(range(3))
    for image, again in zip(images, found, strict=True):
        pixels = image.reshape(*image.shape[:2], -1)
        assert near(np.broadcast_to(pixels, again.shape), again)


def test_python_packs_what_it_is_given(codec: cvae.Codec, tmp_path: Path) -> None:
    path, model = tmp_path / "x.bin", tmp_path / "models" / "mosaic.cvae"
    images, names = pictures(), [f"{number}.png" for number in range(len(SIZES))]
    cvae.encode_pack(iter(images), path, model, names=names)
    with cvae.open_pack(path) as pack:
        assert pack.find("2.png") == [2]
    cvae.encode_pack(np.zeros((3, 4, 5), np.uint8), path, model, force=True)
    with cvae.open_pack(path) as pack:
        assert [image.shape for image in pack.images(range(3))] == [(4, 5, 3)] * 3
    with pytest.raises(cvae.ImageError, match="image 1: expected uint8"):
        cvae.encode_pack([images[0], np.zeros((2, 2))], path, model, force=True)


def test_flags_of_other_packs_are_damage(codec: cvae.Codec) -> None:
    for header in (Header(9, 50), Header(9, 50, inverted=True, sizes=True)):
        buffer = io.BytesIO()
        layout.Writer(buffer, header).close()
        with pytest.raises(cvae.FormatError, match="has flags that no pack of model"):
            opened(codec, buffer.getvalue())
    with pytest.raises(cvae.CvaeError, match="does not invert"):
        packed(codec, pictures(), invert=True)


def test_sizes_are_checked_before_anything_is_decoded(
    codec: cvae.Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(rans, "Decoder", never)
    for sizes, text in (
        ([(8001, 8000)], "at most 64,000,000 pixels"),
        ([(5000, 5000)] * 2, "at most 4,194,304 symbols"),
    ):
        buffer = io.BytesIO()
        writer = layout.Writer(buffer, Header(9, 50, sizes=True))
        writer.write(Block(len(sizes), b"x", None, sizes))
        writer.close()
        with (
            opened(codec, buffer.getvalue()) as pack,
            pytest.raises(cvae.FormatError, match=text),
        ):
            pack.images([0])


def test_a_size_that_is_not_the_one_of_the_payload_is_damage(codec: cvae.Codec) -> None:
    data, _ = packed(codec, [picture(9, 9)])
    with opened(codec, data) as pack:
        (place,) = pack.reader.blocks()
        block = pack.reader.read(place)
    buffer = io.BytesIO()
    writer = layout.Writer(buffer, Header(9, 100, sizes=True))
    writer.write(Block(1, block.payload, None, [(90, 90)]))
    writer.close()
    with opened(codec, buffer.getvalue()) as pack, pytest.raises(cvae.FormatError):
        pack.images([0])


def test_workers_keep_the_sizes(codec: cvae.Codec, tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "in").mkdir()
    images = pictures()
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "in" / f"{number}.png")
    found = [run.shards.resolve(str(tmp_path / "in"))]
    out = run.places.locate(str(tmp_path / "out")).absolute()
    (tmp_path / "out").mkdir()
    job = run._job(codec, found, out, EncodeOptions(quality=100), run.Plan(shard_images=3))
    assert job.options.fit
    data = codec.model.path.read_bytes()
    parts = [run.encode_shard(job, shard, data) for shard in run.shards.cut(found, 3)]
    assert [part.images for part in parts] == [3, 3, 2]
    with cvae.open_pack(tmp_path / "out" / "part-00000.bin") as pack:
        assert all(near(a, b) for a, b in zip(images[:3], pack.images(range(3)), strict=True))
