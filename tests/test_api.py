"""Every failure of the public API is a CvaeError, whatever it is called with.

Functions, classes and methods are found by inspection: a new one is called, too, and a new parameter
needs a value in `valid` that is right.
"""

from __future__ import annotations

import inspect
import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

import cvae
from cvae.bitstream import container
from cvae.models.file import ANALYSIS, Model
from cvae.options import EncodeOptions
from cvae.packs.encode import encode_pack

from .conftest import SAMPLES, blobs, photo

GRID = Path(__file__).parent / "golden" / "grid.cvae"
DIGIT = blobs(1, side=28)[0]
CLASSES = (cvae.Codec, cvae.Pack, cvae.EncodeOptions, Model)
_DUNDERS = ("__iter__", "__len__", "__enter__", "__getitem__", "__getitems__")


class Call(NamedTuple):
    """Something public that can be called, and what it is called on."""

    name: str  # such as Codec.encode
    parameters: tuple[str, ...]


def _parameters(function: Callable[..., Any]) -> tuple[str, ...]:
    found = inspect.signature(function).parameters.values()
    named = (p for p in found if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD))
    return tuple(p.name for p in named if p.name != "self")


def calls() -> Iterator[Call]:
    """All of `cvae.__all__`, and the methods of its classes and of `Model`."""
    for name in cvae.__all__:
        found = getattr(cvae, name)
        is_error = inspect.isclass(found) and issubclass(found, Exception)
        if callable(found) and not is_error:
            yield Call(name, _parameters(found))
    yield Call("Model", _parameters(Model))
    for kind in CLASSES:
        for name, method in inspect.getmembers(kind, inspect.isfunction):
            if not name.startswith("_") or name in _DUNDERS:
                yield Call(f"{kind.__name__}.{name}", _parameters(method))


CALLS = list(calls())


@cache
def _coded(name: str) -> cvae.Codec:
    return cvae.open_model(name)


class World:
    """A model, things that go with it, and right values for every parameter."""

    def __init__(self, model: str | Path) -> None:
        self.codec = _coded(str(model))
        self.picture = photo(33, 20) if self.codec.any_size else DIGIT
        options = EncodeOptions(quality=40, effort=0)
        encode_pack(
            np.stack([self.picture] * 3), "x.bin", self.codec, options, ["a", "b", "c"], True
        )
        self.batch = self.picture[np.newaxis]
        self.sized = self.codec.sized(*self.picture.shape[:2])
        (self.coded,) = self.codec.encode_batch(self.batch, options)
        self.item = container.unpack(self.coded.data)
        self.symbols = self.coded.symbols[np.newaxis]
        self.latents = self.sized.coding.dequantize(self.symbols, 40)

    def owner(self, name: str) -> Any:
        """What a method is called on."""
        owners: dict[str, Callable[[], Any]] = {
            "Codec": lambda: self.codec,
            "Pack": lambda: cvae.open_pack("x.bin", self.codec),
            "Model": lambda: self.codec.model,
            "EncodeOptions": lambda: EncodeOptions(min_psnr=20),
        }
        return owners[name]()

    def function(self, call: Call) -> Callable[..., Any]:
        kind, _, name = call.name.partition(".")
        if name:
            # Symbols and latents are those of the picture's size.
            owner = self.sized if name in ("synthesize", "to_pixels") else self.owner(kind)
            found: Callable[..., Any] = getattr(owner, name)
            return found
        return Model if kind == "Model" else getattr(cvae, kind)

    def valid(self, call: Call) -> dict[str, Any]:
        """A right value for every parameter. Those that begin with a name and a dot are of it alone."""
        known: dict[str, Any] = {
            "image": self.picture, "images": [self.picture], "batch": self.batch, "data": self.coded.data,
            "model": self.codec, "quality": 50, "effort": 0, "path": "new.bin", "names": ["a"],
            "force": True, "place": "x.bin", "damaged": False, "threads": 1, "height": 33, "width": 20,
            "fit": False, "invert": False, "options": EncodeOptions(effort=0), "sizes": [None],
            "symbols": self.symbols, "latents": self.latents, "containers": [self.item],
            "item": self.item, "nearest": self.coded, "model_id": self.codec.model.manifest.id,
            "shape": (28, 28, 1), "numbers": [1, 0], "ranges": [(0, 2)], "refuse": None, "name": "a",
            "max_bytes": None, "min_psnr": None, "max_pixels": None,
            "decode": True, "keys": [1, 0], "pattern": "*", "labels": None, "EncodeOptions.labels": "auto",
            "Pack.__getitem__.key": 0, "Pack.batches.size": 2,
            "size": None, "picture": self.picture, "split": "test", "key": "images",
            "pictures": [self.picture], "alpha": False, "lossless": False,
            "crop": True, "background": "#ffffff", "pages": False,
            "verify": True, "block_images": 4096, "member": ANALYSIS, "scale": 1.0,
            "session_threads": 1, "input_shapes": [self.codec.image_shape],
            "output_shape": self.codec.model.manifest.latent_shape,
            "Codec.model": self.codec.model, "Model.path": self.codec.model.path,
            "Codec.read.image": SAMPLES / "digit_3.png",
            "Pack.reader": cvae.open_pack("x.bin", self.codec).reader, "Pack.codec": self.codec,
            "EncodeOptions.names": True, "Codec.reconstruct.symbols": [self.symbols],
            "Codec.synthesized.symbols": [self.symbols],
            "Codec.decode_symbols.symbols": self.symbols.reshape(
                self.codec.model.manifest.latent_shape if not self.codec.any_size else -1
            ),
            "EncodeOptions.allows.item": self.coded, "EncodeOptions.rank.item": self.coded,
            "encode.quality": None, "Codec.encode.quality": None,
            "n": 2, "seed": 1, "a": self.picture, "b": self.coded.data, "steps": 2,
            "denoise.model": "photo-dae" if self.codec.any_size else "fashion-dae",
            "id": 1, "kind": "codec", "ModelInfo.images": "28x28 grey", "denoises": False,
            "summary": "", "Encoded.symbols": self.coded.symbols, "payload_bytes": 1,
            "information_bits": 8.0, "psnr": 20.0, "expected_psnr": 20.0,
        }  # fmt: skip
        if self.codec.any_size:
            side = (None, None)
            known |= {
                "input_shapes": [(*side, 3)],
                "output_shape": (*side, *self.codec.model.manifest.latent_shape),
            }
        kind = call.name.partition(".")[0]
        values = {}
        for name in call.parameters:
            longest = next(k for k in (f"{call.name}.{name}", f"{kind}.{name}", name) if k in known)
            values[name] = known[longest]
        return values


class Strange:
    """An object that says in its own way that it is no array, no flag and no path."""

    def _fail(self, *_: object, **__: object) -> Any:
        raise RuntimeError("strange")

    __array__ = __bool__ = __fspath__ = _fail


def hostile() -> Iterator[object]:
    """Values of wrong types and shapes, closed and missing files, damaged data; new ones each time."""
    closed = Path("text.txt").open("rb")  # noqa: SIM115
    closed.close()
    writing = Path("new.txt").open("wb")  # noqa: SIM115
    released = memoryview(b"bytes")
    released.release()
    gone = Image.open(SAMPLES / "digit_1.png")
    gone.close()
    numbers = (
        None, True, 0, -1, 7, 2**70, -(2**70), 10**5000, 1.5, float("nan"), float("inf"), 3j,
    )  # fmt: skip
    texts = ("", "text", "a\0b", "\ud800", "x" * 5000, "text.txt", "missing/missing.bin", ".")
    paths = (Path("missing.cvae"), Path("a\0b"), Path("damaged.bin"), Path("damaged.cvae"))
    data = (
        b"", b"\xc0\x32", b"\xc1text" * 9, bytearray(b"\xc0"), memoryview(b"\xff" * 30), released,
    )  # fmt: skip
    several = (
        [], (), [None], [[]], [b""], [1, 2], [(1, 2)], [(2, 1)], [("a", "b")], (1, 2, 3), {}, {"a": 1},
        set(), range(3), iter([1]), (i for i in "ab"), [Strange()],
    )  # fmt: skip
    objects = (object(), object, len, Strange(), container.Container(1, 500, b"abc"))
    opened = (
        closed, io.StringIO("text"), io.BytesIO(), io.BytesIO(b"bytes"), writing, gone,
        Image.new("F", (28, 28)), Image.new("CMYK", (28, 28)), Image.new("RGBA", (3, 3)),
    )  # fmt: skip
    yield from (*numbers, *texts, *paths, *data, *several, *objects, *opened)
    kinds = (
        np.uint8, np.int32, np.int64, ">i2", np.float32, np.float64, bool, object, "U3", "M8[s]",
    )  # fmt: skip
    shapes = (
        (), (0,), (3,), (28, 28), (1, 28, 28, 1), (1, 400), (2, 0, 5, 3), (1, 1, 1, 1, 1),
    )  # fmt: skip
    yield from (np.zeros(shape, kind) for kind in kinds for shape in shapes)
    yield from (np.full((1, 400), 1 << 40), np.full((1, 400), np.nan, np.float32), np.uint8(3))


def consumed(value: object) -> None:
    if isinstance(value, Iterator):
        list(islice(value, 100))
    if isinstance(value, cvae.Pack):
        value.close()


@pytest.fixture(autouse=True)
def _files(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVAE_MODELS", str(GRID))
    Path("text.txt").write_text("text")
    Path("damaged.bin").write_bytes(b"\xc1" + bytes(40) + b"\xc1END")
    Path("damaged.cvae").write_bytes(GRID.read_bytes()[:5000])


@pytest.fixture(params=["linear-mnist", GRID], ids=["one size", "any size"])
def world(request: pytest.FixtureRequest, _files: None) -> World:
    return World(request.param)


def refused_anyway(world: World, call: Call) -> bool:
    """Whether a call with right values is refused, because models of any size do not do it."""
    one_size = (
        "Codec.decode_symbols",
        "Codec.as_batch",
        "sample",
        "interpolate",
        "from_latents",
        "Pack.single_bytes",
    )
    return world.codec.any_size and call.name in one_size


def speaks_of_options(text: str) -> bool:
    """Whether a message names an option of a command, outside of a command to type."""
    return re.search(r"(?<![\w-])--?[a-z]", re.sub("`cvae [^`]*`", "", text)) is not None


def test_errors_advise_what_python_has() -> None:
    Path("taken.bin").touch()
    Path("unfinished").mkdir()
    Path("unfinished/unfinished.json").write_text("{}")
    data = cvae.encode(DIGIT, "linear-mnist")
    stranger = container.pack(replace(container.unpack(data), model_id=0))
    calls: list[Callable[[], object]] = [
        lambda: cvae.encode_pack([DIGIT], "taken.bin"), lambda: cvae.encode_pack([DIGIT], "/dev/stdout"),
        lambda: cvae.encode_pack([DIGIT], "/dev/null", force=True), lambda: cvae.decode(stranger),
        lambda: cvae.open_model("nosuch"), lambda: cvae.open_pack("unfinished"),
        lambda: cvae.open_pack("text.txt"), lambda: cvae.decode(Path("taken.bin").read_bytes()),
        lambda: cvae.open_model("photo-dae"),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(cvae.CvaeError) as raised:
            call()
        assert not speaks_of_options(str(raised.value)), raised.value
    assert speaks_of_options("use --force") and speaks_of_options("another (-o) or -m")


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_every_public_call_works_with_right_values(world: World, call: Call) -> None:
    function, values = world.function(call), world.valid(call)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if call.name == "Codec.refuse_npy" or refused_anyway(world, call):
            with pytest.raises(cvae.CvaeError):
                function(**values)
        else:
            consumed(function(**values))


@pytest.mark.parametrize(
    "call", [call for call in CALLS if call.parameters], ids=lambda call: call.name
)
def test_every_public_call_refuses_wrong_values_with_a_cvae_error(world: World, call: Call) -> None:
    failures = []
    for name in call.parameters:
        for value in hostile():
            Path("x.bin").with_name("new.bin").unlink(missing_ok=True)
            function, values = world.function(call), {**world.valid(call), name: value}
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    consumed(function(**values))
            except cvae.CvaeError as error:
                text = str(error)
                assert text
                assert "\n" not in text, (name, text)
                assert not speaks_of_options(text), text
            except Exception as error:  # of any kind: that is what is looked for
                described = (
                    f"{type(value).__name__} {value!r:.40}" if not isinstance(value, int) else "int"
                )
                failures.append(f"{name}={described}: {type(error).__name__}: {error}")
    assert not failures, "\n".join(failures)


def closed_packs(codec: cvae.Codec) -> Iterator[cvae.Pack]:
    pack = cvae.open_pack("x.bin", codec)
    pack.close()
    yield pack
    with Path("x.bin").open("rb") as file:
        pack = cvae.open_pack(file, codec)
    yield pack  # the caller has closed its file


@pytest.mark.parametrize(
    "call", [call for call in CALLS if call.name.startswith("Pack.")], ids=lambda call: call.name
)
def test_a_closed_pack_says_so(world: World, call: Call) -> None:
    name = call.name.partition(".")[2]
    for pack in closed_packs(world.codec):
        function = getattr(pack, name)
        if name in ("close", "__len__", "__enter__"):
            function(**world.valid(call))
        else:
            with pytest.raises(cvae.StorageError, match="closed"):
                consumed(function(**world.valid(call)))


def test_a_closed_folder_of_packs_says_so() -> None:
    from .conftest import run_here

    np.save("x.npy", blobs(5, side=28))
    run_here("pack", "x.npy", "-o", "packs/", "--workers", "1", "-m", "linear-mnist", "--quiet")
    pack = cvae.open_pack("packs")
    pack.close()
    for use in (lambda: pack.images([0]), lambda: list(pack), lambda: pack.find("a"),
                lambda: pack.whole([(0, 5)]), lambda: list(pack.decode([(0, 5)]))):  # fmt: skip
        with pytest.raises(cvae.StorageError, match="the pack is closed"):
            use()


def test_messages_say_what_was_expected_and_what_was_found() -> None:
    codec = cvae.open_model("linear-mnist")
    cases: list[tuple[Callable[[], object], type[cvae.CvaeError], str]] = [
        (
            lambda: codec.encode(DIGIT / 255),
            cvae.ImageError,
            r"found float64 \(28, 28, 1\); np\.rint",
        ),
        (
            lambda: codec.latents(DIGIT / 255),
            cvae.ImageError,
            r"found float64 \(28, 28, 1\); np\.rint",
        ),
        (lambda: cvae.decode([b"a"]), cvae.FormatError, "container 0: expected a container"),
        (lambda: cvae.decode([[b"a"]]), cvae.FormatError, "^container 0: expected the bytes of"),
        (lambda: codec.encode(DIGIT, 50, max_bytes=9), cvae.CvaeError, "either a quality, or max_"),
        (lambda: cvae.sample(0), cvae.CvaeError, "expected 1 to 1,000,000 images, found 0"),
        (lambda: cvae.interpolate(DIGIT, "b.png"), cvae.ImageError, "b: expected uint8 arrays"),
        (lambda: cvae.denoise([DIGIT], "mnist"), cvae.ModelKindError, "not trained on noisy"),
        (lambda: cvae.from_latents([1.0]), cvae.CvaeError, r"shape \(16,\).*found float64 \(1,\)"),
        (lambda: cvae.open_model(7), cvae.ModelNotFoundError, "expected a path, found 7"),
        (lambda: cvae.open_pack(7), cvae.StorageError, "a path, a URL or an open file, found 7"),
        (lambda: codec.expected_psnr(0), cvae.CvaeError, "quality of 1 to 100, found 0"),
        (lambda: codec.encode(DIGIT, effort="5"), cvae.CvaeError, "effort of 0 to 9, found '5'"),
        (lambda: cvae.Codec("mnist"), cvae.ModelError, "expected a model, .*found 'mnist'"),
        (
            lambda: cvae.EncodeOptions(max_bytes="9"),
            cvae.TargetError,
            "expected numbers.*found '9'",
        ),
    ]
    for use, kind, text in cases:
        with pytest.raises(kind, match=text):
            use()


def _mutated(data: bytes, seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    changed = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        changed[rng.integers(len(changed))] = rng.integers(256)
    return bytes(changed[: len(changed) if seed % 3 else rng.integers(len(changed))])


def test_damaged_files_are_a_cvae_error_or_pictures(world: World) -> None:
    """Containers with a check that holds again, packs, and models."""
    pack, model = Path("x.bin").read_bytes(), world.codec.model.path.read_bytes()
    for seed in range(60):
        body = _mutated(world.coded.data[:-2], seed)
        Path("pack.bin").write_bytes(_mutated(pack, seed))
        Path("model.cvae").write_bytes(_mutated(model[:100_000], seed) + model[100_000:])
        uses: list[Callable[[], object]] = [
            lambda body=body: world.codec.decode(body + container._check(body, 9)),  # type: ignore[misc]
            lambda body=body: cvae.decode(body),  # type: ignore[misc]
            lambda: cvae.open_pack("pack.bin", world.codec).images([0, 2]),
            lambda: cvae.open_pack("pack.bin", world.codec, damaged=True).whole([(0, 1)], str),
            lambda: cvae.open_model("model.cvae").encode(world.picture, effort=0),
        ]
        for use in uses:
            with suppress(cvae.CvaeError), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                use()
