"""`NAME.cvae`: networks, tables and the manifest in one ZIP file. The layout is docs/format.md."""

from __future__ import annotations

import hashlib
import io
import math
import re
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from cvae import records
from cvae.checks import expect, threads_of
from cvae.data import files
from cvae.data.images import Shape, check_shape
from cvae.errors import ModelError, translated
from cvae.models import archive
from cvae.models.graph import FreeSides, with_constants
from cvae.models.grids import GridTables
from cvae.models.lossless import LosslessTables
from cvae.models.networks import Network
from cvae.models.qualities import ARRAY_LIMIT, Qualities

FORMAT, OLDEST = 3, 2  # in 2 no network borrowed constants of another
SUFFIX = ".cvae"

MANIFEST, ANALYSIS = "manifest.json", "analysis.onnx"
SYNTHESIS, GRADIENT, TABLES = "synthesis.onnx", "gradient.onnx", "tables.npz"
HYPER = "hyper.onnx"  # of grids
DENOISER = "denoiser.onnx"  # a denoiser has no other; a codec trained on noise has it as well

_MANIFEST_LIMIT = 1 << 20  # bytes
MOST_ELEMENTS = 1 << 14  # of an image; the exact coder takes the square of their number
REACH_LIMIT = 512  # pixels; tiles, and so memory, grow with it

_NAME = r"^\w[\w.+-]{0,99}\Z"
Name = Annotated[str, Meta(pattern=_NAME)]
_Tables = TypeVar("_Tables", Qualities, GridTables, LosslessTables)
AnyTables = Qualities | GridTables | LosslessTables
_Number = Annotated[float, Meta(ge=-1e9, le=1e9)]


def is_name(text: str) -> bool:
    """Whether a text can name a model: it is no path, and harmless on a terminal."""
    return re.match(_NAME, text) is not None


@dataclass(frozen=True)
class _Numbers:
    """The figures and values of the preset that are used as numbers."""

    payload_bytes_mean: _Number = 0
    psnr_mean: _Number = 0
    denoised_psnr: _Number = 0
    noise: _Number = 0


@dataclass(frozen=True)
class Manifest:
    """What a model says of itself; coding needs the first two blocks."""

    id: Annotated[int, Meta(ge=0, le=0xFFFF)]  # what containers name it by
    name: Name
    image_shape: Shape  # h, w, c; a denoiser takes any h and w, and was trained on these
    latent_shape: tuple[Annotated[int, Meta(ge=1)], ...]
    default_quality: int
    expected_psnr: tuple[_Number, ...]  # dB, one a quality: 99 % of the validation images reach it
    hashes: dict[str, str]  # sha256 of members, and of each table array

    kind: str = "codec"  # a key of `kinds.KINDS`
    multiple: int = 1  # denoisers: sides are multiples of so many pixels
    reach: int = 0  # denoisers: pixels beyond its edges that a tile depends on, a multiple as well

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
        others = (
            ".onnx",
            "/curvature",
            f"{TABLES}/weight",
            "/reach",
        )  # of the search, and of tiles
        names = sorted(name for name in self.hashes if not name.endswith(others))
        return (self.id, *((name, self.hashes[name]) for name in names))

    def to_json(self) -> bytes:
        return records.dump({"format": FORMAT, **asdict(self)})

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """Raises ValueError when the JSON is not a manifest of this version."""
        values = records.parse(data)
        records.check_format(values, FORMAT, OLDEST)
        manifest = msgspec.convert(values, cls)
        for numbers in (manifest.figures, manifest.preset):
            msgspec.convert(numbers, _Numbers)
        check_shape(manifest.image_shape)
        if manifest.elements > MOST_ELEMENTS:
            raise ValueError(f"latent shape {manifest.latent_shape} is out of range")
        texts = (manifest.summary, *manifest.hashes, *manifest.hashes.values())
        if not all(map(str.isprintable, texts)):
            raise ValueError("expected printable text in summary and hashes")
        return manifest


class Model:
    """An open model file. Members are read and checked when they are first used."""

    def __init__(self, path: Path) -> None:
        """Reads the manifest. Raises ModelError when the file is missing, damaged or of a later version."""
        self.path = files.as_path(path, ModelError)
        self.manifest = read_manifest(self.path)
        self._networks: dict[tuple[str, int], Network] = {}

    def __repr__(self) -> str:
        return f"<Model {self.manifest.name}, id {self.manifest.id:#06x}, {self.path}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled by path and id: the file is opened again."""
        return _again, (self.path.absolute(), self.manifest.id)

    @cached_property
    def qualities(self) -> Qualities:
        """The steps and tables. Raises ModelError when they are damaged."""
        qualities = self._tables(Qualities)
        expected, found = self.manifest.elements, qualities.elements
        if expected == found:
            return qualities
        raise ModelError(f"expected tables of {expected} elements, found {found}", where=self.path)

    @cached_property
    def grids(self) -> GridTables:
        """The tables of a grid model. Raises ModelError when they are damaged."""
        return self._tables(GridTables)

    @cached_property
    def causal(self) -> LosslessTables:
        """The tables of a lossless model. Raises ModelError when they are damaged."""
        return self._tables(LosslessTables)

    def has(self, member: str) -> bool:
        """Whether the model has a network."""
        expect(member, str, "the name of a network", ModelError)
        return member in self.manifest.hashes

    def network(
        self,
        member: str,
        input_shapes: Sequence[FreeSides],
        output_shape: FreeSides,
        scale: float = 1,
        session_threads: int = 1,
    ) -> Network:
        """A network of these shapes; see `Network`. Raises ModelError when it is damaged."""
        expect(member, str, "the name of a network", ModelError)
        expect(input_shapes, (list, tuple), "a shape for each input", ModelError)
        expect(output_shape, tuple, "a shape of the output", ModelError)
        expect(scale, (int, float), "the scale of the output", ModelError)
        session_threads = threads_of(session_threads) or 1
        key = member, session_threads
        if key not in self._networks:
            name, shapes = f"{self.path}: {member}", (input_shapes, output_shape)
            self._networks[key] = Network(self.graph(member), name, *shapes, scale, session_threads)
        return self._networks[key]

    def graph(self, member: str) -> bytes:
        """The bytes of a network. Raises ModelError when they are damaged."""
        expect(member, str, "the name of a network", ModelError)
        found = archive.read_member(self.path, member)
        self._check_hash(member, hashlib.sha256(found).hexdigest())
        if member != GRADIENT:
            return found
        synthesis = self.graph(SYNTHESIS)
        with translated(ModelError, f"{member} is damaged", self.path, ValueError):
            return with_constants(found, synthesis)

    def _tables(self, kind: type[_Tables]) -> _Tables:
        label, data = f"{self.path}: {TABLES}", io.BytesIO(archive.read_member(self.path, TABLES))
        archive.check_arrays(data, ARRAY_LIMIT, label)
        tables = kind.from_npz(data, label)
        for name, digest in tables.hashes().items():
            self._check_hash(f"{TABLES}/{name}", digest)
        return tables

    def _check_hash(self, member: str, found: str) -> None:
        expected = self.manifest.hashes.get(member)
        if expected != found:
            text = f"{member} is damaged: expected sha256 {expected}, found {found}"
            raise ModelError(text, where=self.path)


def _again(path: Path, model_id: int) -> Model:
    """A model that was pickled. Raises ModelError when its file is no longer there, or another is."""
    model = Model(path)
    if (found := model.manifest.id) != model_id:
        text = f"expected the model of id {model_id:#06x} that was pickled, found id {found:#06x}"
        raise ModelError(text, where=path)
    return model


def read_manifest(path: Path) -> Manifest:
    """Raises ModelError when the file is missing, damaged or of a later version."""
    with translated(ModelError, f"expected a manifest of format {FORMAT}", path, ValueError):
        return Manifest.from_json(archive.read_member(path, MANIFEST, _MANIFEST_LIMIT))


def write_model(
    path: Path,
    manifest: Manifest,
    graphs: dict[str, bytes],
    qualities: AnyTables | None,
    force: bool,
) -> None:
    """Writes a model file atomically; a denoiser has the network DENOISER and no qualities.

    The manifest has the `member_hashes` of the others. Raises OutputError when the file exists and
    `force` is off, or it cannot be written.
    """
    members = {MANIFEST: manifest.to_json(), **graphs}
    if qualities is not None:
        members[TABLES] = qualities.to_npz()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as file:
        for name, data in members.items():
            file.writestr(zipfile.ZipInfo(name), data)  # dated 1980: equal models, equal files
    files.write_bytes(path, buffer.getvalue(), force)


def member_hashes(graphs: dict[str, bytes], qualities: AnyTables | None) -> dict[str, str]:
    """The sha256 of the networks and of each table array, by name."""
    tables = qualities.hashes() if qualities else {}
    hashes = {name: hashlib.sha256(graph).hexdigest() for name, graph in graphs.items()}
    return hashes | {f"{TABLES}/{name}": digest for name, digest in tables.items()}
