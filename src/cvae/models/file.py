"""`NAME.cvae`: networks, tables and the manifest in one ZIP file. The layout is docs/format.md."""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
import struct
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cvae.data import files, images
from cvae.data.images import MAX_PIXELS, Shape
from cvae.errors import ModelError
from cvae.models.networks import Network
from cvae.models.networks import Shape as Sides
from cvae.models.qualities import QUALITIES, Bank

FORMAT = 2
SUFFIX = ".cvae"

MANIFEST, ANALYSIS = "manifest.json", "analysis.onnx"
SYNTHESIS, GRADIENT, TABLES = "synthesis.onnx", "gradient.onnx", "tables.npz"
DENOISER = (
    "denoiser.onnx"  # of a denoiser the only one; of a codec trained on noise beside the others
)

# What a model is for.
CODEC = "codec"
KINDS = (CODEC, "denoiser")
_MANIFEST_LIMIT = 1 << 20
_MEMBER_LIMIT = 1 << 28
_MULTIPLE_LIMIT, REACH_LIMIT = 256, 512  # pixels; tiles, and so memory, grow with them
_DEPTH = 32  # of lists in lists; far below what Python can walk through
_NUMBER_LIMIT = 1e9  # JSON's integers have no limit, and its 1e999 is infinite


@dataclass(frozen=True)
class Manifest:
    """What a model says of itself. Only the first two blocks are needed to use it."""

    id: int  # 0 .. 65535, what containers name it by
    name: str
    image_shape: Shape  # h, w, c; a denoiser takes any h and w, and was trained on these
    latent_shape: tuple[int, ...]
    default_quality: int
    expected_psnr: tuple[float, ...]  # dB, one a quality: 99 % of the validation images reach it
    hashes: dict[str, str]  # sha256 of members, and of each table array

    kind: str = CODEC  # or "denoiser": no latents, tables, qualities and expected PSNR
    # Of a denoiser, in pixels: what sides are multiples of, and how far a cell of so many pixels
    # looks beyond its edges, itself such a multiple.
    multiple: int = 1
    reach: int = 0

    summary: str = ""
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
        return (json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """Raises ValueError, KeyError or TypeError when the JSON is not a manifest of this version."""
        values = json.loads(data, parse_constant=_refuse_constant)
        if values["format"] != FORMAT:
            age = "an earlier" if values["format"] < FORMAT else "a later"
            raise ValueError(f"expected format {FORMAT}, found {values['format']}: {age} cvae's")
        _check_depth(values, _DEPTH)
        known = {f.name: values[f.name] for f in fields(cls) if f.name in values}
        for name in ("image_shape", "latent_shape", "expected_psnr"):
            known[name] = tuple(known[name])
        manifest = cls(**known)
        manifest._check()
        return manifest

    def _check(self) -> None:
        sides = (*self.image_shape, *self.latent_shape, self.multiple, self.reach)
        if not all(type(side) is int for side in (*sides, self.id, self.default_quality)):
            raise ValueError("expected integers as id, quality, shapes, multiple and reach")
        if len(self.image_shape) != 3 or self.image_shape[2] not in (1, 3):
            raise ValueError(f"expected an image shape (h, w, 1 or 3), found {self.image_shape}")
        if min(self.image_shape) < 1 or math.prod(self.image_shape) > 3 * MAX_PIXELS:
            raise ValueError(f"image shape {self.image_shape} is out of range")
        if not 0 <= self.id < 1 << 16:
            raise ValueError(f"id {self.id} is out of range")
        if self.kind == CODEC:
            self._check_codec()
        else:
            self._check_denoiser()
        if not isinstance(self.name, str) or not is_name(self.name):
            raise ValueError(f"expected a name of letters, digits and . _ + -, found {self.name!r}")
        texts = [self.summary, *self.hashes.keys(), *self.hashes.values()]
        if not all(isinstance(text, str) and text.isprintable() for text in texts):
            raise ValueError("expected printable text as summary and hashes")
        for name in ("preset", "data", "versions", "figures"):
            if not isinstance(getattr(self, name), dict):
                raise ValueError(f"expected an object as {name}")
        for name in ("payload_bytes_mean", "psnr_mean", "denoised_psnr"):
            if not _is_number(self.figures.get(name, 0)):
                raise ValueError(f"expected a number as {name}")
        if not _is_number(self.preset.get("noise", 0)):
            raise ValueError("expected a number as noise of the preset")

    def _check_codec(self) -> None:
        if not self.latent_shape or min(self.latent_shape) < 1 or self.elements > 1 << 24:
            raise ValueError(f"latent shape {self.latent_shape} is out of range")
        if self.default_quality not in QUALITIES:
            raise ValueError(f"quality {self.default_quality} is out of range")
        if len(self.expected_psnr) != len(QUALITIES):
            raise ValueError(
                f"expected 100 values of expected_psnr, found {len(self.expected_psnr)}"
            )
        if not all(map(_is_number, self.expected_psnr)):
            raise ValueError("expected numbers as expected_psnr")
        if (self.multiple, self.reach) != (1, 0):
            raise ValueError("expected no multiple and reach of a codec")

    def _check_denoiser(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"expected kind {' or '.join(KINDS)}, found {self.kind!r}")
        if self.latent_shape or self.expected_psnr or self.default_quality:
            raise ValueError("expected no latents, expected PSNR and quality of a denoiser")
        if not 1 <= self.multiple <= _MULTIPLE_LIMIT:
            raise ValueError(f"multiple {self.multiple} is out of range")
        if not 0 <= self.reach <= REACH_LIMIT or self.reach % self.multiple:
            raise ValueError(
                f"expected a reach of 0 to {REACH_LIMIT}, a multiple of {self.multiple}, "
                f"found {self.reach}"
            )


def is_name(text: str) -> bool:
    """Whether a text can name a model: it is no path, and harmless on a terminal."""
    return re.fullmatch(r"\w[\w.+-]*", text) is not None


def _is_number(value: object) -> bool:
    """Whether a value is a number that can be counted with: no truth, and not beyond a float."""
    return type(value) in (int, float) and abs(value) < _NUMBER_LIMIT  # type: ignore[arg-type]


def _check_depth(value: object, left: int) -> None:
    if not left:
        raise ValueError(f"expected at most {_DEPTH} levels of lists and objects")
    if isinstance(value, dict):
        value = [*value.values()]
    if isinstance(value, list):
        for item in value:
            _check_depth(item, left - 1)


def _refuse_constant(text: str) -> None:
    raise ValueError(f"expected numbers, found {text}")


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
            raise ModelError(
                f"expected tables of {self.manifest.elements} elements, found {bank.elements}",
                where=self.path,
            )
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
            raise ModelError(
                f"{member} is damaged: expected sha256 {expected}, found {found}",
                where=self.path,
            )


def read_manifest(path: Path) -> Manifest:
    """Raises ModelError when the file is missing, damaged or of a later version."""
    data = _read_member(path, MANIFEST, _MANIFEST_LIMIT)
    try:
        return Manifest.from_json(data)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"expected a manifest of format {FORMAT}: {error}", where=path) from error


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
    try:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo(member)
            # Stored means that the file itself is as large as the member says it is.
            if info.compress_type != zipfile.ZIP_STORED or info.file_size > limit:
                raise ModelError(
                    f"expected {member} stored in at most {limit:,} bytes, "
                    f"found {info.file_size:,} bytes of compression type {info.compress_type}",
                    where=path,
                )
            return archive.read(info)
    except FileNotFoundError as error:
        raise ModelError("there is no such model file", where=path) from error
    except KeyError as error:
        raise ModelError(
            f"expected a cvae model, found a ZIP without {member}",
            where=path,
        ) from error
    except zipfile.BadZipFile as error:
        raise ModelError(
            f"expected a cvae model: damaged, or not one ({error})",
            where=path,
        ) from error
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror or error}", where=path) from error
    except (NotImplementedError, RuntimeError, EOFError, ValueError, struct.error) as error:
        raise ModelError(f"{member} is damaged: {error}", where=path) from error
