"""`NAME.cvae`: networks, tables and the manifest in one ZIP file. The layout is docs/format.md."""

from __future__ import annotations

import hashlib
import io
import math
import re
import struct
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from cvae import records
from cvae.data import files, images
from cvae.data.images import CheckedShape
from cvae.errors import ModelError, translated
from cvae.models.networks import Network
from cvae.models.networks import Shape as Sides
from cvae.models.qualities import QUALITIES, Bank

FORMAT = 2
SUFFIX = ".cvae"

MANIFEST, ANALYSIS = "manifest.json", "analysis.onnx"
SYNTHESIS, GRADIENT, TABLES = "synthesis.onnx", "gradient.onnx", "tables.npz"
DENOISER = "denoiser.onnx"  # a denoiser has no other; a codec trained on noise has it as well

# What a model is for.
CODEC = "codec"
KINDS = (CODEC, "denoiser")
_MANIFEST_LIMIT = 1 << 20
_MEMBER_LIMIT = 1 << 28
_MULTIPLE_LIMIT, REACH_LIMIT = 256, 512  # pixels; tiles, and so memory, grow with them


def is_name(text: str) -> bool:
    """Whether a text can name a model: it is no path, and harmless on a terminal."""
    return re.fullmatch(r"\w[\w.+-]*", text) is not None


_Text = Annotated[str, records.PRINTABLE]
_Number = Annotated[float, records.within(-1e9, 1e9)]


@dataclass(frozen=True)
class _Counted:
    """What is counted with of the figures and the preset in a manifest."""

    payload_bytes_mean: _Number = 0
    psnr_mean: _Number = 0
    denoised_psnr: _Number = 0
    noise: _Number = 0


@dataclass(frozen=True)
class Manifest:
    """What a model says of itself. Only the first two blocks are needed to use it."""

    id: Annotated[int, records.within(0, 0xFFFF)]  # what containers name it by
    name: Annotated[str, records.Check("letters, digits and . _ + -", is_name)]
    image_shape: CheckedShape  # h, w, c; a denoiser takes any h and w, and was trained on these
    latent_shape: tuple[int, ...]
    default_quality: int
    # dB, one a quality: 99 % of the validation images reach it
    expected_psnr: tuple[_Number, ...]
    hashes: dict[_Text, _Text]  # sha256 of members, and of each table array

    kind: str = CODEC  # or "denoiser": no latents, tables, qualities and expected PSNR
    # Of a denoiser, in pixels: what sides are multiples of, and how far a cell of so many pixels
    # looks beyond its edges, itself such a multiple.
    multiple: int = 1
    reach: int = 0

    summary: _Text = ""
    preset: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)  # on validation images, at export

    @property
    def elements(self) -> int:
        """How many symbols an image has."""
        return math.prod(self.latent_shape)

    @property
    def denoises(self) -> bool:
        """Whether it is a denoiser, or a codec that was trained on noisy images."""
        return self.kind != CODEC or self.preset.get("noise", 0) > 0

    @property
    def identity(self) -> tuple[object, ...]:
        """Equal for models that decode each other's files: id, weights and tables, not the graphs."""
        names = sorted(name for name in self.hashes if not name.endswith((".onnx", "/curvature")))
        return (self.id, *((name, self.hashes[name]) for name in names))

    def describe_images(self) -> str:
        """`28x28 grey` or `any size RGB`: the images that the model takes."""
        if self.kind == CODEC:
            return images.describe(self.image_shape)
        return f"any size {'grey' if self.image_shape[2] == 1 else 'RGB'}"

    def to_json(self) -> bytes:
        return records.dump({"format": FORMAT, **asdict(self)})

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """Raises ValueError when the JSON is not a manifest of this version."""
        values = records.parse(data)
        records.check_format(values, FORMAT)
        manifest = records.read(cls, values)
        for numbers in (manifest.figures, manifest.preset):
            records.read(_Counted, numbers)
        (_check_codec if manifest.kind == CODEC else _check_denoiser)(manifest)
        return manifest


def _check_codec(manifest: Manifest) -> None:
    shape = manifest.latent_shape
    if not shape or min(shape) < 1 or manifest.elements > 1 << 24:
        raise ValueError(f"latent shape {shape} is out of range")
    if manifest.default_quality not in QUALITIES:
        raise ValueError(f"quality {manifest.default_quality} is out of range")
    if len(manifest.expected_psnr) != len(QUALITIES):
        found = len(manifest.expected_psnr)
        raise ValueError(f"expected {len(QUALITIES)} values of expected_psnr, found {found}")
    if (manifest.multiple, manifest.reach) != (1, 0):
        raise ValueError("expected no multiple and reach of a codec")


def _check_denoiser(manifest: Manifest) -> None:
    multiple, reach = manifest.multiple, manifest.reach
    if manifest.kind not in KINDS:
        raise ValueError(f"expected kind {' or '.join(KINDS)}, found {manifest.kind!r:.80}")
    if manifest.latent_shape or manifest.expected_psnr or manifest.default_quality:
        raise ValueError("expected no latents, expected PSNR and quality of a denoiser")
    if not 1 <= multiple <= _MULTIPLE_LIMIT:
        raise ValueError(f"multiple {multiple} is out of range")
    if not 0 <= reach <= REACH_LIMIT or reach % multiple:
        raise ValueError(
            f"expected a reach of 0 to {REACH_LIMIT}, a multiple of {multiple}, found {reach}"
        )


class Model:
    """An open model file. Members are read, checked and loaded when they are first used."""

    def __init__(self, path: Path) -> None:
        """Reads the manifest. Raises ModelError when the file is missing, damaged or of a later version."""
        self.path = path
        self.manifest = read_manifest(path)

    @cached_property
    def bank(self) -> Bank:
        bank = Bank.from_npz(io.BytesIO(_read_member(self.path, TABLES)), f"{self.path}: {TABLES}")
        for name, digest in bank.hashes().items():
            self._check_hash(f"{TABLES}/{name}", digest)
        if bank.elements != self.manifest.elements:
            text = f"expected tables of {self.manifest.elements} elements, found {bank.elements}"
            raise ModelError(text, where=self.path)
        return bank

    @cached_property
    def analysis(self) -> Network:
        """float32 (n, h, w, c) in [0, 1] -> latents (n, *latent_shape)."""
        return self._network(ANALYSIS, [self.manifest.image_shape], self.manifest.latent_shape)

    @cached_property
    def synthesis(self) -> Network:
        """Latents (n, *latent_shape) -> float32 (n, h, w, c) in [0, 1]."""
        return self._network(SYNTHESIS, [self.manifest.latent_shape], self.manifest.image_shape)

    @cached_property
    def gradient(self) -> Network | None:
        """How the squared error of a synthesis changes with its latents; None where the model has none.

        Latents (n, *latent_shape) and images (n, h, w, c) -> (n, elements + 1): half the negative
        gradient of the squared error, then that error.
        """
        if GRADIENT not in self.manifest.hashes:
            return None
        shapes = (self.manifest.latent_shape, self.manifest.image_shape)
        return self._network(GRADIENT, shapes, (self.manifest.elements + 1,))

    @cached_property
    def denoiser(self) -> Network | None:
        """float32 (n, h, w, c) in [0, 1] -> the same shape, less noisy.

        That of a codec takes images of the model's shape; None where it was not trained on noise. That
        of a denoiser takes sides that are multiples of `multiple`.
        """
        shape: Sides = self.manifest.image_shape
        if self.manifest.kind != CODEC:
            shape = (None, None, shape[2])
        elif DENOISER not in self.manifest.hashes:
            return None
        return self._network(DENOISER, [shape], shape)

    def check(self) -> None:
        """Reads every member, and runs every network once. Raises ModelError when one is damaged."""
        manifest = self.manifest
        codes = manifest.kind == CODEC
        height, width = manifest.image_shape[:2] if codes else (manifest.multiple,) * 2
        x = np.zeros((1, height, width, manifest.image_shape[2]), np.float32)
        if self.denoiser is not None:
            self.denoiser(x)
        if not codes:
            return
        latents = (
            self.bank.quantizer(manifest.default_quality)
            .dequantize(np.zeros((1, manifest.elements), np.int32))
            .reshape(1, *manifest.latent_shape)
        )
        self.analysis(x)
        self.synthesis(latents)
        if self.gradient is not None:
            self.gradient(latents, x)

    def _network(self, member: str, input_shapes: Sequence[Sides], output_shape: Sides) -> Network:
        graph = _read_member(self.path, member)
        self._check_hash(member, hashlib.sha256(graph).hexdigest())
        return Network(graph, f"{self.path}: {member}", input_shapes, output_shape)

    def _check_hash(self, member: str, found: str) -> None:
        expected = self.manifest.hashes.get(member)
        if expected != found:
            text = f"{member} is damaged: expected sha256 {expected}, found {found}"
            raise ModelError(text, where=self.path)


def read_manifest(path: Path) -> Manifest:
    """Raises ModelError when the file is missing, damaged or of a later version."""
    data = _read_member(path, MANIFEST, _MANIFEST_LIMIT)
    with translated(ModelError, f"expected a manifest of format {FORMAT}", path, ValueError):
        return Manifest.from_json(data)


def write_model(
    path: Path, manifest: Manifest, graphs: dict[str, bytes], bank: Bank | None, force: bool
) -> None:
    """Writes a model file in one step; the manifest must hold `member_hashes` of the other arguments.

    Args:
        path: the file.
        manifest: the member that says what the others are.
        graphs: ANALYSIS, SYNTHESIS, perhaps GRADIENT and DENOISER, or DENOISER alone.
        bank: the tables; None for a denoiser.
        force: overwrite a file that exists.

    Raises:
        OutputError: the file exists and `force` is off, or cannot be written.
    """
    members = {MANIFEST: manifest.to_json(), **graphs}
    if bank is not None:
        members[TABLES] = bank.to_npz()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)  # dated 1980: equal models, equal files
    files.write_bytes(path, buffer.getvalue(), force)


def member_hashes(graphs: dict[str, bytes], bank: Bank | None) -> dict[str, str]:
    """What a manifest says of the other members."""
    tables = {} if bank is None else bank.hashes()
    return {
        **{name: hashlib.sha256(graph).hexdigest() for name, graph in graphs.items()},
        **{f"{TABLES}/{name}": digest for name, digest in tables.items()},
    }


def _read_member(path: Path, member: str, limit: int = _MEMBER_LIMIT) -> bytes:
    damaged = (NotImplementedError, RuntimeError, EOFError, ValueError, struct.error)
    with (
        translated(ModelError, "cannot be read", path),
        translated(ModelError, f"{member} is damaged", path, damaged),
        translated(ModelError, "expected a cvae model", path, (zipfile.BadZipFile, KeyError)),
        zipfile.ZipFile(path) as archive,
    ):
        info = archive.getinfo(member)
        # Stored means that the file itself is as large as the member says it is.
        if info.compress_type != zipfile.ZIP_STORED or info.file_size > limit:
            raise ModelError(
                f"expected {member} stored in at most {limit:,} bytes, "
                f"found {info.file_size:,} bytes of compression type {info.compress_type}",
                where=path,
            )
        return archive.read(info)
