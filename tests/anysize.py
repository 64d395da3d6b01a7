"""A kind of model of any size: means of 4x4 pixels, in two stages; and helpers of the tests of commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cvae import kinds
from cvae.bitstream import coders
from cvae.bitstream.tables import Symbols
from cvae.data.images import Pixels, as_image
from cvae.kinds.base import Cleaner, Coding, Floats, Kind
from cvae.models.file import Manifest, Model, member_hashes, write_model
from cvae.models.qualities import QUALITIES, Latents, Qualities

from .conftest import run_here
from .strategies import make_bank

STRIDE, TABLES, RADIUS = 4, 5, 6


class MosaicCoding(Coding):
    """The first stage has the mean of every 4x4 cells; it predicts them, and chooses their tables."""

    elements = 0  # known of a size alone
    stages = 2

    def __init__(self, model: Model, height: int = 0, width: int = 0) -> None:
        self.model, self.bank = model, model.qualities.bank
        self.height, self.width = height, width
        self.fine = -(-height // STRIDE), -(-width // STRIDE), 3
        self.coarse = -(-self.fine[0] // STRIDE), -(-self.fine[1] // STRIDE), 3
        self.upper = int(np.prod(self.coarse))
        self.elements = self.upper + int(np.prod(self.fine))

    def sized(self, height: int, width: int) -> Coding:
        return MosaicCoding(self.model, height, width)

    def analyse(self, x: Floats, threads: int | None = None) -> Latents:
        """Latents (n, rows, columns, 3), not (n, elements)."""
        assert x.shape[1:] == (self.height, self.width, 3)
        return _means(x)

    def choose(
        self, x: Floats, latents: Latents, quality: int, effort: int, threads: int | None = None
    ) -> Symbols:
        levels = np.rint(latents * quality).astype(np.int32)
        upper = np.rint(_means(levels.astype(np.float32))).astype(np.int32)
        lower = levels - self._predicted(upper)
        flat = [part.reshape(len(x), -1) for part in (upper, lower)]
        return np.concatenate(flat, axis=1)

    def dequantize(self, symbols: Symbols, quality: int) -> Latents:
        upper, lower = symbols[:, : self.upper], symbols[:, self.upper :]
        levels = self._predicted(upper.reshape(-1, *self.coarse)) + lower.reshape(-1, *self.fine)
        return levels.astype(np.float32) / quality

    def synthesize(self, latents: Latents, threads: int | None = None) -> Floats:
        return _enlarged(latents)[:, : self.height, : self.width].clip(0, 1)

    def push(self, coder: coders.Encoder, symbols: Symbols, quality: int) -> None:
        upper, lower = symbols[:, : self.upper], symbols[:, self.upper :]
        coder.push(np.zeros(self.upper, int), upper)
        coder.push(self._rows(upper), lower)

    def pull(self, coder: coders.Decoder, images: int, quality: int) -> Symbols:
        upper = coder.pull(np.zeros((images, self.upper), int))
        return np.concatenate([upper, coder.pull(self._rows(upper))], axis=1)

    def _rows(self, upper: Symbols) -> Any:
        return 1 + np.abs(self._predicted(upper.reshape(-1, *self.coarse))).reshape(
            len(upper), -1
        ) % (TABLES - 1)

    def _predicted(self, upper: Symbols) -> Any:
        return _enlarged(upper)[:, : self.fine[0], : self.fine[1]]


def _means(x: Any) -> Any:
    height, width = x.shape[1:3]
    padding = [(0, 0), (0, -height % STRIDE), (0, -width % STRIDE), (0, 0)]
    padded = np.pad(x, padding, "edge")
    rows, columns = padded.shape[1] // STRIDE, padded.shape[2] // STRIDE
    return padded.reshape(len(x), rows, STRIDE, columns, STRIDE, 3).mean((2, 4))


def _enlarged(x: Any) -> Any:
    return x.repeat(STRIDE, axis=1).repeat(STRIDE, axis=2)


class Mosaic(Kind):
    codes = any_size = staged = True

    def check(self, manifest: Manifest) -> None:
        if len(manifest.expected_psnr) != len(QUALITIES):
            raise ValueError("expected 100 values of expected_psnr")

    def describe(self, manifest: Manifest) -> str:
        return "any size RGB"

    def denoises(self, manifest: Manifest) -> bool:
        return False

    def facts(self, manifest: Manifest) -> dict[str, Any]:
        return {"default_quality": manifest.default_quality}

    def figures(self, manifest: Manifest) -> str:
        return ""

    def cleaner(self, model: Model) -> Cleaner:
        return Cleaner(lambda x: x)

    def coding(self, model: Model) -> Coding:
        return MosaicCoding(model)

    def run_once(self, model: Model) -> None:
        assert model.qualities


def install(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, model_id: int = 9) -> Path:
    """Makes the kind known, and a model of it that every command finds; its path."""
    monkeypatch.setitem(kinds.KINDS, "mosaic", Mosaic())
    weights = np.exp(-np.abs(np.arange(-RADIUS, RADIUS + 2)) / np.arange(1, TABLES + 1)[:, None])
    one = np.ones(1, np.float32)
    index, scale = np.zeros((100, 1), np.uint16), np.ones(100, np.float32)
    qualities = Qualities(make_bank(weights), index, scale, one, one, one)
    manifest = Manifest(
        id=model_id, name=name, kind="mosaic", image_shape=(16, 16, 3), latent_shape=(1,),
        default_quality=50, expected_psnr=(1.0,) * 100, hashes=member_hashes({}, qualities),
    )  # fmt: skip
    path = folder / "models" / f"{name}.cvae"
    write_model(path, manifest, {}, qualities, force=True)
    monkeypatch.setenv("CVAE_MODELS", str(path.parent))
    return path


def picture(height: int, width: int, channels: int = 3, seed: int = 0) -> Pixels:
    """Constant 4x4 cells of any colours: what the model codes well. (h, w, c)."""
    rng = np.random.default_rng(seed)
    rows, columns = -(-height // STRIDE), -(-width // STRIDE)
    cells = rng.integers(0, 256, (1, rows, columns, channels), np.uint8)
    pixels: Pixels = _enlarged(cells)[0, :height, :width]
    return pixels


def save(pixels: Pixels, name: str) -> Path:
    path = Path(name)
    path.parent.mkdir(exist_ok=True, parents=True)
    as_image(pixels).save(path)
    return path


def load(name: str | Path) -> Pixels:
    return np.asarray(Image.open(name))


def near(x: Pixels, x_hat: Pixels) -> bool:
    x = x[..., 0] if x.shape[2] == 1 else x
    return x.shape == x_hat.shape and bool(np.abs(x.astype(int) - x_hat).max() <= 3)


class Run:
    """Runs a command in this process; what it said on stderr and stdout."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str | Path, code: int = 0) -> tuple[list[str], str]:
        self._capsys.readouterr()
        run_here(*arguments, code=code)
        said = self._capsys.readouterr()
        assert "Traceback" not in said.err
        return said.err.splitlines(), said.out
