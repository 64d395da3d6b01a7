"""A trained lossless network -> arrays of whole numbers, measured on validation pictures."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvae.bitstream.container import LOSSLESS
from cvae.bitstream.tables import TOTAL
from cvae.codec import Codec
from cvae.data.images import Images
from cvae.errors import TrainingError
from cvae.kinds.causal import Causal
from cvae.kinds.sight import Canvas
from cvae.kinds.trees import ROW_SHIFT
from cvae.models.file import Manifest
from cvae.models.lossless import LosslessTables
from cvae.training.datasets import Dataset
from cvae.training.export.made import Made, Say, previous
from cvae.training.networks import exact, lossless
from cvae.training.networks.exact import ONE
from cvae.training.pixels import companding
from cvae.training.runs import Run

_MEASURED, _SIDE = 256, 256  # validation pictures, and pixels a side of what is measured of them
_SELDOM = 400.0  # decisions that a row of the bank counts for before any are seen
_CHECKED = 64  # rows of inputs for which network and arrays are compared


def make(run: Run, dataset: Dataset, model: Any, say: Say) -> Made:
    """The tables of a trained `networks.lossless.Lossless`.

    Raises TrainingError where sums might not be exact, or the arrays compute something else.
    """
    say("writing the network in whole numbers, and checking it")
    tables = made_tables(model, run)
    say("counting decisions of validation pictures")
    tables = replace(tables, bank=counted(tables, dataset.validation))
    weights = b"".join(np.ascontiguousarray(w).tobytes() for w in model.get_weights())
    weights_hash = hashlib.sha256(weights).hexdigest()
    channels, any_size = run.preset.image_shape[2], run.preset.architecture == "lossless-any"
    fields = {
        "kind": "lossless-any" if any_size else "lossless",
        "latent_shape": (channels,) if any_size else run.preset.image_shape,
        "default_quality": LOSSLESS,
        "expected_psnr": (),
    }
    return Made(
        graphs={},
        qualities=tables,
        weights_hash=weights_hash,
        previous=previous(run, weights_hash),
        fields=fields,
        measure=lambda written: _measure(Codec(written), dataset.validation),
    )


def made_tables(model: Any, run: Run) -> LosslessTables:
    sizes = run.preset.lossless
    layers = lossless.layers(model)
    first = layers[0]
    width, bits = first.filters, first.bits
    positions = np.zeros((0, width), np.int32)
    if model.places:
        scale = 2.0 ** (bits + ONE)
        positions = np.rint(np.asarray(model.positions) * scale).astype(np.int32)
    arrays: dict[str, Any] = {
        "bank": bank(),
        "window": np.array([sizes.up, sizes.side, sizes.predicts], np.uint8),
        "companding": companding(),
        "trees": model.splits(),
        "positions": positions,
        **exact.arrays(layers, lambda *_: None),
    }
    try:
        untested = LosslessTables(**arrays, check=np.zeros(0, np.int64))
        causal = Causal(untested)
    except ValueError as error:
        text = f"the trained network is not exact: {error}"
        raise TrainingError(text, where=run.folder) from error
    _compare(model, causal)
    return LosslessTables(**arrays, check=causal.check())


def bank() -> NDArray[np.uint16]:
    """A table for each logit: frequencies of -1, 0, 1 and the escape; the outer two of no use."""
    logits = np.arange(-lossless.ROWS // 2, lossless.ROWS // 2) / lossless.FINENESS
    return _tables(TOTAL / (1 + np.exp(-logits)))


def _tables(frequencies: NDArray[np.float64]) -> NDArray[np.uint16]:
    """Tables of decisions that are 1 so often, of `TOTAL`."""
    ones = np.clip(np.rint(frequencies), 2, TOTAL - 4).astype(np.int64)
    rows = np.stack([np.ones_like(ones), TOTAL - 2 - ones, ones, np.ones_like(ones)], axis=1)
    return rows.astype(np.uint16)


def counted(tables: LosslessTables, pictures: Images) -> NDArray[np.uint16]:
    """The bank with the frequencies of decisions as pictures have them, which training had not seen.

    A network is surer of the pictures that it learned from than it may be of others. Rows that
    occur seldom stay near to what their logits say.
    """
    causal, rows = Causal(tables), len(tables.bank)
    found = np.zeros((2, rows))

    def take(row: NDArray[Any], decisions: NDArray[Any], _: Any) -> None:
        for bit in (0, 1):
            found[bit] += np.bincount(row[decisions == bit], minlength=rows)

    for number in range(min(_MEASURED, len(pictures))):
        pixels = pictures[number : number + 1][:, :_SIDE, :_SIDE]
        n, height, width = pixels.shape[:3]
        canvas = Canvas(causal.window, n, height, width, causal.channels)
        canvas.pixels[:] = pixels
        causal.tell(canvas, (n, height, width), take)
    zeros, ones = found + _SELDOM * tables.bank[:, 1:3].T / TOTAL
    return _tables(TOTAL * ones / (zeros + ones))


def _compare(model: Any, causal: Causal) -> None:
    """Raises TrainingError where the arrays give other rows of the bank than the trained network."""
    rng, channels = np.random.default_rng(0), len(causal.order)
    seen = rng.integers(0, 256, (_CHECKED, model.inputs)).astype(np.int16)
    sides = rng.integers(-255, 256, (_CHECKED, channels - 1)).astype(np.int16)
    places = rng.integers(0, max(1, model.places), _CHECKED)
    x = np.concatenate([seen, sides, places[:, np.newaxis]], axis=1).astype(np.float32)
    expected = np.asarray(lossless.logits(model(x))) * lossless.FINENESS
    shared = causal.at(seen, places if model.places else None)
    for turn in range(channels):
        sums = causal.sums(turn, shared, sides[:, :turn])
        rows = np.rint(sums * 2.0**-ROW_SHIFT)
        rows = np.clip(rows, -lossless.ROWS // 2, lossless.ROWS // 2 - 1)
        if not np.array_equal(rows, np.rint(expected[:, turn])):
            raise TrainingError("the exported network differs from the trained one")


def _measure(codec: Codec, validation: Images) -> Manifest:
    """The manifest with the mean size of single files of validation pictures."""
    pixels = validation[:_MEASURED]
    pixels = pixels[:, :_SIDE, :_SIDE]
    coded = codec.encode_batch(pixels)
    size = sum(len(item.data) for item in coded)
    figures = {
        "split": "validation",
        "images": len(pixels),
        "payload_bytes_mean": round(float(np.mean([item.payload_bytes for item in coded])), 4),
        "psnr_mean": round(float(np.mean([item.psnr for item in coded])), 4),
        "bits_per_dimension": round(8 * size / pixels.size, 4),
    }
    return replace(codec.model.manifest, figures=figures)
