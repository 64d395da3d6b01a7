"""Adding a kind of model: a toy of two stages goes through both coders, the container and a pack.

Nothing but this file knows of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cvae
from cvae import kinds
from cvae.bitstream import coders, container, exact, rans
from cvae.bitstream.tables import Symbols
from cvae.data.images import Pixels
from cvae.errors import FormatError
from cvae.kinds.base import Cleaner, Coding, Floats, Kind
from cvae.models.file import Manifest, Model, member_hashes, write_model
from cvae.models.qualities import QUALITIES, Latents, Qualities

from ..strategies import make_bank

SIDE, HALF, TABLES = 4, 8, 5
SHAPE = (SIDE, SIDE, 1)
RADIUS = 6


class ToyCoding(Coding):
    """Levels of a sixteenth; those of the upper half choose the tables of the lower half."""

    elements = 2 * HALF
    stages = 2

    def __init__(self, model: Model) -> None:
        self.bank = model.qualities.bank

    def analyse(self, x: Floats, threads: int | None = None) -> Latents:
        return x.reshape(len(x), self.elements)

    def choose(
        self, x: Floats, latents: Latents, quality: int, effort: int, threads: int | None = None
    ) -> Symbols:
        return np.rint(latents * 16).astype(np.int32) - 8

    def dequantize(self, symbols: Symbols, quality: int) -> Latents:
        return (symbols + 8).astype(np.float32) / 16

    def synthesize(self, latents: Latents, threads: int | None = None) -> Floats:
        return latents.reshape(-1, *SHAPE)

    def push(self, coder: coders.Encoder, symbols: Symbols, quality: int) -> None:
        upper, lower = symbols[:, :HALF], symbols[:, HALF:]
        coder.push(np.zeros(HALF, int), upper)
        coder.push(self._rows(upper), lower)

    def pull(self, coder: coders.Decoder, images: int, quality: int) -> Symbols:
        upper = coder.pull(np.zeros((images, HALF), int))
        return np.concatenate([upper, coder.pull(self._rows(upper))], axis=1)

    def _rows(self, upper: Symbols) -> Any:
        return 1 + np.abs(upper) % (TABLES - 1)


class Toy(Kind):
    codes = staged = True

    def check(self, manifest: Manifest) -> None:
        if manifest.latent_shape != (2 * HALF,):
            raise ValueError(f"expected {2 * HALF} latents, found {manifest.latent_shape}")

    def describe(self, manifest: Manifest) -> str:
        return "toys"

    def denoises(self, manifest: Manifest) -> bool:
        return False

    def facts(self, manifest: Manifest) -> dict[str, Any]:
        return {}

    def figures(self, manifest: Manifest) -> str:
        return ""

    def cleaner(self, model: Model) -> Cleaner:
        return Cleaner(lambda x: x)

    def coding(self, model: Model) -> Coding:
        return ToyCoding(model)

    def run_once(self, model: Model) -> None:
        assert model.qualities


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> cvae.Codec:
    """The codec of a model file of this kind, which every command finds."""
    monkeypatch.setitem(kinds.KINDS, "toy", Toy())
    weights = np.exp(-np.abs(np.arange(-RADIUS, RADIUS + 2)) / np.arange(1, TABLES + 1)[:, None])
    ones = np.ones(2 * HALF, np.float32)
    qualities = Qualities(
        make_bank(weights),
        np.zeros((100, 2 * HALF), np.uint16),
        np.ones(100, np.float32),
        ones,
        ones,
        ones,
    )
    manifest = Manifest(
        id=7, name="toy", kind="toy", image_shape=SHAPE, latent_shape=(2 * HALF,), default_quality=50,
        expected_psnr=(20.0,) * len(QUALITIES), hashes=member_hashes({}, qualities),
    )  # fmt: skip
    path = tmp_path / "models" / "toy.cvae"
    write_model(path, manifest, {}, qualities, force=False)
    monkeypatch.setenv("CVAE_MODELS", str(path))
    return cvae.open_model("toy")


def pictures(count: int) -> Pixels:
    """All levels, so that some symbols of both stages are beyond the radius."""
    levels = np.random.default_rng(0).integers(0, 17, (count, *SHAPE))
    return np.minimum(levels * 16, 255).astype(np.uint8)


def test_single_files_decode_by_the_id_in_them(toy: cvae.Codec) -> None:
    images = pictures(20)
    coded = toy.encode_batch(images)
    for image, item in zip(images, coded, strict=True):
        assert len(container.unpack(item.data).payload) <= np.ceil(
            (item.information_bits + 1e-6) / 8
        )
        again = cvae.decode(item.data)
        assert np.abs(again.astype(int) - image[..., 0]).max() <= 1


def test_its_containers_have_no_size_but_that_of_a_fitted_image(toy: cvae.Codec) -> None:
    image = pictures(1)
    (plain,), (fitted,) = (toy.encode_batch(image, sizes=sizes) for sizes in (None, [(9, 7)]))
    assert len(plain.data) == plain.payload_bytes + 7
    assert plain.data[0] == 0xC2
    assert cvae.decode(plain.data).shape == (SIDE, SIDE)
    assert cvae.decode(fitted.data).shape == (7, 9)
    with pytest.raises(cvae.CvaeError, match="does not invert"):
        toy.encode_batch(image, cvae.EncodeOptions(invert=True))


@pytest.mark.parametrize("count", [1, 7, 3000])
@pytest.mark.parametrize("lanes", [None, 1, 5, 64])
def test_blocks_decode_with_any_number_of_lanes(
    toy: cvae.Codec, count: int, lanes: int | None
) -> None:
    symbols = toy.quantize(pictures(count), 50)
    assert (np.abs(symbols[:, :HALF]) > RADIUS).any() or count == 1
    block = toy.coding.encode_block(symbols, 50, lanes)
    assert np.array_equal(toy.coding.decode_block(block, count, 50), symbols)


def test_a_block_costs_its_information_and_its_escapes(toy: cvae.Codec) -> None:
    symbols = toy.quantize(pictures(5000), 50)
    inner = symbols.clip(-RADIUS, RADIUS)
    bits = toy.coding.information_bits(inner, 50).sum()
    assert len(toy.coding.encode_block(inner, 50)) <= 1.01 * bits / 8


def test_damage_in_either_stage_is_refused(toy: cvae.Codec) -> None:
    symbols = toy.quantize(pictures(50), 50)
    block = toy.coding.encode_block(symbols, 50)
    for cut in range(0, len(block), 7):
        with pytest.raises(FormatError):
            toy.coding.decode_block(block[:cut], 50, 50)
    payload = toy.coding.encode_each(symbols[:1], 50)[0]
    with pytest.raises(FormatError):
        toy.coding.decode_each(payload + b"\0", 50)


def test_a_decoder_that_is_left_before_its_last_stage_says_so(toy: cvae.Codec) -> None:
    symbols = toy.quantize(pictures(50), 50)
    coder = rans.Decoder(toy.coding.encode_block(symbols, 50), toy.coding.bank, symbols.size, 2)
    coder.pull(np.zeros((50, HALF), int))
    with pytest.raises(FormatError):
        coder.finish()
    single = exact.Decoder(toy.coding.encode_each(symbols[:1], 50)[0], toy.coding.bank, 2 * HALF)
    single.pull(np.zeros((1, HALF), int))
    with pytest.raises(FormatError):
        single.finish()


def test_packs_hold_its_images(toy: cvae.Codec, tmp_path: Path) -> None:
    images = pictures(300)
    cvae.encode_pack(images, tmp_path / "toys.bin", tmp_path / "models" / "toy.cvae", effort=0)
    with cvae.open_pack(tmp_path / "toys.bin") as pack:
        found = pack.images(range(300))
    assert np.abs(found.astype(int) - images).max() <= 1


def test_its_own_limits_hold(toy: cvae.Codec, tmp_path: Path) -> None:
    manifest = toy.model.manifest
    wrong = Manifest(**{**vars(manifest), "latent_shape": (HALF,)})
    with pytest.raises(cvae.ModelError, match="16 latents"):
        kinds.of(wrong)
