"""A trained grid -> a model file: graphs that agree with it, counted tables, measured floors."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cvae.codec import Codec
from cvae.data import metrics
from cvae.data.images import Pixels, as_floats
from cvae.data.photos import Photos, middle
from cvae.errors import TrainingError
from cvae.kinds.grid import CELL, HYPER_CELL, GridCoding
from cvae.kinds.grid import Grid as Kind
from cvae.models.file import (
    ANALYSIS,
    HYPER,
    SYNTHESIS,
    Manifest,
    Model,
    member_hashes,
    write_model,
)
from cvae.models.grids import GridTables
from cvae.models.networks import Network
from cvae.models.qualities import QUALITIES
from cvae.options import DEFAULT_EFFORT, EncodeOptions
from cvae.training.export import calibration, gridgraphs, gridtables
from cvae.training.export.graph import Floats
from cvae.training.export.made import Made, Say, previous
from cvae.training.networks import grid
from cvae.training.runs import Run

# Pictures whose middles are counted, and their sides; and of which curvatures are found.
_COUNTED, _SIDE = 16, 256
_BENT, _BENT_SIDE = 3, 128
# Validation pictures that are measured, at these qualities; floors are interpolated between them.
_MEASURED, _MEASURED_SIDE = 24, 512
_QUALITIES = [1, 20, 40, 50, 60, 80, 100]
_FREE = (None, None)


def make(run: Run, train: Photos, validation: Photos, model: Any, say: Say) -> Made:
    """The graphs and tables of a trained `networks.grid.GridAutoencoder`, whose weights are rounded.

    The tables are those of an earlier export of the same weights where there is one. Raises
    TrainingError where the graphs differ from the networks.
    """
    say("writing the networks as graphs, and checking these")
    weights_hash = gridgraphs.prepare(model)
    graphs = gridgraphs.graphs(model)
    opened = opened_graphs(graphs, model)
    check(model, opened, as_floats(_middles(train, _BENT, _BENT_SIDE)))
    fields = {
        "kind": "grid",
        "latent_shape": (model.latents,),
        "default_quality": calibration.DEFAULT_QUALITY,
        "expected_psnr": (0.0,) * len(QUALITIES),
    }
    earlier = previous(run, weights_hash)
    if earlier:
        say(f"keeping the tables of {earlier.path}, which has the same weights")
        tables = earlier.grids
    else:
        say("counting the symbols of training pictures for the tables of all qualities")
        tables = _tables(run, model, graphs, opened, fields, train, say)
    return Made(
        graphs=graphs,
        qualities=tables,
        weights_hash=weights_hash,
        previous=earlier,
        fields=fields,
        measure=lambda written: _measure(Codec(written), validation),
    )


def check(model: Any, opened: dict[str, Network], x: Floats) -> None:
    """Raises TrainingError where the graphs differ from the prepared model."""
    y = np.asarray(model.analysis(x))
    if _differ(opened[ANALYSIS](x), y):
        raise TrainingError("the exported analysis differs from the trained one")
    step = np.asarray(model.steps(np.full(len(x), 0.5, np.float32)))
    level = np.full_like(y[..., :1], 0.5)
    seen = np.concatenate([y / step, level], axis=3)
    companded = np.arcsinh(seen[..., : model.sizes.hyper_sees] / np.float32(2))
    z = np.asarray(model.hyper_analysis(np.concatenate([companded, level], axis=3)))
    if _differ(opened[HYPER](seen), z):
        raise TrainingError("the exported hyper analysis differs from the trained one")
    latents = np.concatenate([np.rint(y / step) * step, level], axis=3)
    expected = np.clip(np.asarray(model.synthesis(latents)), 0, 1)
    if float(np.abs(opened[SYNTHESIS](latents) - expected).max()) > 1 / 255:
        raise TrainingError("the exported synthesis differs from the trained one")


def _differ(found: Floats, expected: Floats) -> bool:
    return not np.allclose(found, expected, atol=1e-3 * float(np.abs(expected).max()))


def opened_graphs(graphs: dict[str, bytes], model: Any) -> dict[str, Network]:
    """The graphs that `check` compares. Raises ModelError where one of them is none."""
    channels, z = model.latents, (*_FREE, model.sizes.hyper)
    image, y, latents = ((*_FREE, c) for c in (grid.CHANNELS, channels, channels + 1))
    return {
        ANALYSIS: Network(graphs[ANALYSIS], ANALYSIS, [image], y, 1 / CELL),
        HYPER: Network(graphs[HYPER], HYPER, [latents], z, 1 / HYPER_CELL),
        SYNTHESIS: Network(graphs[SYNTHESIS], SYNTHESIS, [latents], image, CELL),
    }


def _tables(
    run: Run, model: Any, graphs: dict[str, bytes], opened: dict[str, Network],
    fields: dict[str, Any], train: Photos, say: Say,
) -> GridTables:  # fmt: skip
    y = opened[ANALYSIS](as_floats(_middles(train, _BENT, _BENT_SIDE)))
    step = np.asarray(model.steps(np.full(1, 0.5, np.float32)))[0, 0, 0]
    level = np.full_like(y[..., :1], 0.5)
    latents = np.concatenate([np.rint(y / step) * step, level], axis=3)
    curvature = gridtables.curvature(opened[SYNTHESIS], latents, step)
    reach = [gridgraphs.find_reach(network) for network in (model.analysis, model.synthesis)]
    first = gridtables.first(model, curvature, reach)
    pictures = list(_middles(train, _COUNTED, _SIDE))
    with tempfile.TemporaryDirectory() as folder:

        def coding_of(tables: GridTables) -> GridCoding:
            path = Path(folder) / "draft.cvae"
            hashes = member_hashes(graphs, tables)
            shape = run.preset.image_shape
            manifest = Manifest(id=0, name="draft", image_shape=shape, hashes=hashes, **fields)
            write_model(path, manifest, graphs, tables, True)
            coding = Kind().coding(Model(path))
            coding.sized(16, 16).load()
            return coding

        return gridtables.counted(first, pictures, coding_of, say)


def _middles(photos: Photos, count: int, side: int) -> Pixels:
    """The middles of so many pictures, evenly spaced: uint8 (n, side, side, 3)."""
    numbers = range(0, len(photos), max(1, len(photos) // count))
    return np.stack([middle(photos.whole(i), side, side) for i in numbers][:count])


def _measure(codec: Codec, validation: Photos) -> Manifest:
    """The manifest with what validation pictures reach at each quality."""
    manifest = codec.model.manifest
    pictures = [_at_most(validation.whole(i)) for i in range(min(len(validation), _MEASURED))]

    def floor(quality: int, effort: int) -> float:
        return float(np.percentile([_psnr(codec, x, quality, effort) for x in pictures], 1.0))

    floors = [min(floor(q, effort) for effort in (0, DEFAULT_EFFORT)) for q in _QUALITIES]
    expected = np.interp(QUALITIES, _QUALITIES, floors).round(3)
    coded = [codec.encode_batch(x[np.newaxis], EncodeOptions())[0] for x in pictures]
    pixels = [x.shape[0] * x.shape[1] for x in pictures]
    bpp = [8 * len(item.data) / n for item, n in zip(coded, pixels, strict=True)]
    figures: dict[str, Any] = {
        "split": "validation",
        "images": len(pictures),
        "quality": manifest.default_quality,
        "payload_bytes_mean": round(float(np.mean([item.payload_bytes for item in coded])), 4),
        "bpp": round(float(np.mean(bpp)), 4),
        "psnr_mean": round(float(np.mean([item.psnr for item in coded])), 4),
    }
    return replace(manifest, expected_psnr=tuple(expected.tolist()), figures=figures)


def _psnr(codec: Codec, picture: Pixels, quality: int, effort: int) -> float:
    sized, x = codec.sized(*picture.shape[:2]), picture[np.newaxis]
    symbols = sized.quantize(x, quality, effort)
    return float(metrics.psnr(x, sized.synthesize(symbols, quality))[0])


def _at_most(picture: Pixels) -> Pixels:
    """The middle of a picture, of at most `_MEASURED_SIDE` pixels a side."""
    height, width = (min(side, _MEASURED_SIDE) for side in picture.shape[:2])
    return middle(picture, height, width)
