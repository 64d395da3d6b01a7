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

from cvae.data import files
from cvae.data.images import MAX_PIXELS, Shape
from cvae.errors import ModelError
from cvae.models.networks import Network
from cvae.models.networks import Shape as Sides
from cvae.models.qualities import Qualities

FORMAT = 2
SUFFIX = ".cvae"

MANIFEST, ANALYSIS = "manifest.json", "analysis.onnx"
SYNTHESIS, GRADIENT, TABLES = "synthesis.onnx", "gradient.onnx", "tables.npz"
DENOISER = "denoiser.onnx"  # the only one of a denoiser; one more of a codec trained on noise

_MANIFEST_LIMIT = 1 << 20
_MEMBER_LIMIT = 1 << 28
REACH_LIMIT = 512  # pixels; tiles, and so memory, grow with it
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

    kind: str = "codec"  # a key of `kinds.KINDS`
    # Denoisers, in pixels: what sides are multiples of, and how far a cell of so many pixels looks
    # beyond its edges, itself such a multiple.
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
    def identity(self) -> tuple[object, ...]:
        """Equal for models that decode each other's files: id, weights and tables, not the graphs."""
        names = sorted(name for name in self.hashes if not name.endswith((".onnx", "/curvature")))
        return (self.id, *((name, self.hashes[name]) for name in names))

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
        if min(self.latent_shape, default=1) < 1 or self.elements > 1 << 24:
            raise ValueError(f"latent shape {self.latent_shape} is out of range")
        if not all(map(_is_number, self.expected_psnr)):
            raise ValueError("expected numbers as expected_psnr")
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
    """An open model file. Members are read and checked when they are first used."""

    def __init__(self, path: Path) -> None:
        """Reads the manifest. Raises ModelError when the file is missing, damaged or of a later version."""
        self.path = path
        self.manifest = read_manifest(path)
        self._networks: dict[str, Network] = {}

    @cached_property
    def qualities(self) -> Qualities:
        """The steps and tables. Raises ModelError when they are damaged."""
        data = io.BytesIO(_read_member(self.path, TABLES))
        qualities = Qualities.from_npz(data, f"{self.path}: {TABLES}")
        for name, digest in qualities.hashes().items():
            self._check_hash(f"{TABLES}/{name}", digest)
        if qualities.elements != self.manifest.elements:
            raise ModelError(
                f"expected tables of {self.manifest.elements} elements, found {qualities.elements}",
                where=self.path,
            )
        return qualities

    def has(self, member: str) -> bool:
        """Whether the model has a network."""
        return member in self.manifest.hashes

    def network(self, member: str, input_shapes: Sequence[Sides], output_shape: Sides) -> Network:
        """A network of these shapes, without the batch axis; opened once.

        Raises ModelError when it is damaged.
        """
        if member not in self._networks:
            graph = _read_member(self.path, member)
            self._check_hash(member, hashlib.sha256(graph).hexdigest())
            name = f"{self.path}: {member}"
            self._networks[member] = Network(graph, name, input_shapes, output_shape)
        return self._networks[member]

    def _check_hash(self, member: str, found: str) -> None:
        expected = self.manifest.hashes.get(member)
        if expected != found:
            raise ModelError(
                f"{member} is damaged: expected sha256 {expected}, found {found}", where=self.path
            )


def read_manifest(path: Path) -> Manifest:
    """Raises ModelError when the file is missing, damaged or of a later version."""
    data = _read_member(path, MANIFEST, _MANIFEST_LIMIT)
    try:
        return Manifest.from_json(data)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"expected a manifest of format {FORMAT}: {error}", where=path) from error


def write_model(
    path: Path,
    manifest: Manifest,
    graphs: dict[str, bytes],
    qualities: Qualities | None,
    force: bool,
) -> None:
    """Writes a model file in one step; the manifest must hold `member_hashes` of the other arguments.

    Args:
        path: the file.
        manifest: the member that says what the others are.
        graphs: ANALYSIS, SYNTHESIS, perhaps GRADIENT and DENOISER, or DENOISER alone.
        qualities: the steps and tables; None for a denoiser.
        force: overwrite a file that exists.

    Raises:
        OutputError: the file exists and `force` is off, or cannot be written.
    """
    members = {MANIFEST: manifest.to_json(), **graphs}
    if qualities is not None:
        members[TABLES] = qualities.to_npz()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)  # dated 1980: equal models, equal files
    files.write_bytes(path, buffer.getvalue(), force)


def member_hashes(graphs: dict[str, bytes], qualities: Qualities | None) -> dict[str, str]:
    """What a manifest says of the other members."""
    tables = {} if qualities is None else qualities.hashes()
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
