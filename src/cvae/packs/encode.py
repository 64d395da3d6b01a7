"""Any number of images -> one pack: reading, networks, entropy coding and writing overlap.

A few batches and blocks are held at once, however many images there are.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cvae.bitstream.tables import Symbols
from cvae.checks import expect, shown, truth
from cvae.codec import Codec
from cvae.data import files, metrics, pipeline
from cvae.data.batches import Batch
from cvae.data.given import as_picture, as_stack
from cvae.data.images import Pixels
from cvae.data.labels import FOLDER, Label, array_field, fields_of, from_value, said
from cvae.errors import (
    Changed,
    CvaeError,
    ImageError,
    ImageShapeError,
    Refuse,
    at,
    first_line,
    told,
)
from cvae.kinds import runs
from cvae.options import EncodeOptions, Size, Tally
from cvae.packs import merge
from cvae.packs.layout import MAX_BLOCK_SYMBOLS, MOST_BLOCKS, Block, Header, Writer
from cvae.packs.reader import Reader

_BATCH, _BATCH_BYTES = 1024, 1 << 24  # images and pixels that go on together
_ENCODED = 256  # images that one thread takes at once
_SAMPLE = 4  # poor images that are tried inverted, of each part
# Of pictures of any size, those of a lossless model take some seconds for each million.
_SLOW_SYMBOLS = 1 << 20


class _Coded(NamedTuple):
    """Some images of one block as symbols."""

    block: int
    symbols: Symbols  # (n, elements)
    names: list[str]
    sizes: list[Size]
    labels: list[Label] | None
    psnr: NDArray[np.float64] | None  # (n,) in dB, where they were decoded again
    tally: Tally


def encode(
    codec: Codec,
    batches: Iterable[Batch],
    file: BinaryIO,
    options: EncodeOptions,
    *,
    threads: int | None = None,
    progress: Callable[[int], None] | None = None,
    poor: Callable[[str, float], None] | None = None,
    refuse: Refuse = None,
    before: Reader | None = None,
) -> Tally:
    """Writes images of the model's shape as a pack to an open binary file, which need not be seekable.

    Args:
        batches: of a model of any size, images of one size in each; grey ones are coded as RGB.
        options: `names` keeps the names of the batches, `fit` their original sizes; those of a model
            of any size are always kept.
        threads: for the networks; None for one a processor.
        progress: called, from another thread, with the numbers of images that were coded.
        poor: called in order, from another thread, with name (or number) and PSNR in dB of every
            image below the model's expected PSNR.
        refuse: called with a notice of labels that are left out: the header of a pack says whether it has
            some, and no image of its first block has one.
        before: a pack of the same options, whose blocks come first; its header and the fields of its
            labels hold for all.

    Returns:
        What is known of these images, but for `left_out`, which only their reader knows, and the bytes
        of the whole file.

    Raises:
        CvaeError: a batch has another shape, quality or effort is out of range, the model cannot
            invert, or images have other labels than those before.
    """
    codec.check_invert(options.invert)
    quality, tally = codec.quality(options.quality), Tally()
    model_id = codec.model.manifest.id
    options = replace(options, fit=before.header.sizes) if before else options
    sizes = options.fit or codec.any_size
    header = Header(model_id, quality, options.invert, options.names, sizes)

    def counted(parts: Iterable[_Coded]) -> Iterator[_Coded]:
        nonlocal tally
        for part in parts:
            if poor is not None and part.psnr is not None:
                for row in np.flatnonzero(part.psnr < codec.expected_psnr(quality)):
                    name = part.names[row] if part.names else f"image {tally.images + row}"
                    poor(name, float(part.psnr[row]))
            tally += part.tally
            if progress:
                progress(part.tally.images)
            yield part

    jobs = threads or pipeline.processors()

    def blocks() -> Iterator[Block]:
        work = partial(_coded, codec, options)
        parts = _parts(codec, pipeline.ahead(batches), options.block_images)
        coded = pipeline.ahead(counted(pipeline.ordered_map(work, parts, jobs)))
        groups = (list(group) for _, group in groupby(coded, key=lambda part: part.block))
        several = min(jobs, MOST_BLOCKS) if codec.by_block else 1
        return pipeline.ordered_map(partial(_block, codec, quality), groups, several)

    with pipeline.frequent_switches():
        written = pipeline.ahead(blocks())
        first = next(written, None)
        header = replace(header, labels=first is not None and first.labels is not None)
        writer = Writer(file, before.header if before else header)
        known = chain([first], written) if first else iter(())
        if before:
            fields = merge.copy("", before, writer)
            known = _labelled_so(known, set().union(*fields.values())) if first else known
        labelled = sum(_write(writer, block, refuse) for block in known)
    writer.close()
    return replace(tally, file_bytes=writer.size, labelled=labelled)


def _labelled_so(blocks: Iterable[Block], fields: set[str]) -> Iterator[Block]:
    """Blocks to be added to a pack whose labels have these fields. Raises CvaeError where theirs differ."""
    found = set[str]()

    def check(fits: bool) -> None:
        if not fits:
            advice = "--labels folder takes them" if fields == {FOLDER} else ""
            advice = advice if fields else "--labels none leaves them out"
            text = f"expected {said(fields)} of all images, found {said(found)}"
            raise CvaeError(text, advice=advice)

    for block in blocks:
        found.update(fields_of(block.labels or ()))
        check(
            found <= fields and bool(found) == bool(fields)
        )  # as the first block says of a new pack
        yield block
    check(found == fields)


def _write(writer: Writer, block: Block, refuse: Refuse) -> int:
    """Writes a block; how many of its images have labels that the pack keeps."""
    labelled = sum(map(bool, block.labels or []))
    if labelled and not writer.header.labels:
        text = "left out labels: none of the first images has one"
        told(refuse)(Changed(text, where=f"block {writer.blocks}", images=labelled))
    writer.write(block if block.labels else replace(block, labels=[{}] * block.images))
    return labelled if writer.header.labels else 0


def _block(codec: Codec, quality: int, held: list[_Coded]) -> Block:
    """The images of one block, entropy-coded."""
    symbols = [part.symbols for part in held]
    names = [name for part in held for name in part.names]
    sizes = [size for part in held for size in part.sizes]
    if codec.any_size:
        payload = runs.encode(codec.coding, sizes, symbols, quality)
    else:
        payload = codec.coding.encode_block(np.concatenate(symbols), quality)
    images = sum(map(len, symbols))
    labels = None
    if any(any(part.labels or ()) for part in held):
        labels = [label for part in held for label in part.labels or [{}] * len(part.symbols)]
    return Block(images, payload, names or None, sizes or None, labels)


def _parts(
    codec: Codec, batches: Iterable[Batch], block_images: int
) -> Iterator[tuple[int, Batch]]:
    """Batches in as many images as one thread takes at once, each with the number of its one block."""
    block = images = symbols = 0  # in the block so far
    most = block_symbols(codec)
    for batch in batches:
        shape, names, sizes, stop = batch.pixels.shape, batch.names, batch.sizes, 0
        each = codec.sized(*shape[1:3]).coding.elements
        at_once = min(_ENCODED, codec.batch(shape[1:])) if codec.any_size else _ENCODED
        while (start := stop) < shape[0]:
            room = min(block_images - images, (most - symbols) // each)
            if images and room < 1:
                block, images, symbols = block + 1, 0, 0
                continue
            stop = min(shape[0], start + max(1, min(at_once, room)))
            part = slice(start, stop)
            labels = batch.labels and batch.labels[part]
            cut = Batch(batch.pixels[part], names and names[part], sizes and sizes[part], labels)
            yield block, cut
            images, symbols = images + stop - start, symbols + (stop - start) * each


def block_symbols(codec: Codec) -> int:
    """How many symbols the images of a block may have together, unless it is but one."""
    return _SLOW_SYMBOLS if codec.lossless and codec.any_size else MAX_BLOCK_SYMBOLS


def _coded(codec: Codec, options: EncodeOptions, part: tuple[int, Batch]) -> _Coded:
    block, batch = part
    pixels, count = batch.pixels, len(batch.pixels)
    codec = codec.sized(*pixels.shape[1:3])
    if codec.any_size and pixels.shape[3] == 1:
        pixels = np.repeat(pixels, codec.image_shape[2], axis=3)
    if pixels.dtype != np.uint8 or pixels.shape[1:] != codec.image_shape:
        found = f"{pixels.dtype} {pixels.shape[1:]}"
        raise ImageShapeError(f"expected uint8 images of shape {codec.image_shape}, found {found}")
    if options.invert:
        pixels = 255 - pixels
    quality = codec.quality(options.quality)
    symbols = codec.quantize(pixels, quality, options.effort, threads=1)
    height, width = pixels.shape[1:3]
    names = (batch.names or [""] * count) if options.names else []
    own = [(width, height)] * count
    sizes = own if codec.any_size else (batch.sizes or own) if options.fit else []
    labels = None if options.labels == "none" else batch.labels
    if not options.verify:
        return _Coded(block, symbols, names, sizes, labels, None, Tally(images=count))
    expected = codec.expected_psnr(quality)
    psnr = metrics.psnr(pixels, codec.synthesize(symbols, quality, threads=1))
    poor = np.flatnonzero(psnr < expected)
    tried = 255 - pixels[poor[: 0 if codec.staged else _SAMPLE]]
    fine = 0
    if len(tried):
        again = codec.quantize(tried, quality, 0, threads=1)
        inverted = metrics.psnr(tried, codec.synthesize(again, quality, threads=1))
        fine = int((inverted >= expected).sum())
    tally = Tally(
        images=count, verified=count, psnr_sum=float(psnr.sum()),
        poor=len(poor), poor_sampled=len(tried), poor_inverted=fine,
    )  # fmt: skip
    return _Coded(block, symbols, names, sizes, labels, psnr, tally)


def encode_pack(
    images: NDArray[np.uint8] | Iterable[NDArray[np.uint8]],
    path: str | Path,
    codec: Codec,
    options: EncodeOptions,
    names: Iterable[str] | None = None,
    force: bool = False,
    labels: Any = None,
    poor: Callable[[str, float], None] | None = None,
) -> Tally:
    """Writes images (n, h, w) or (n, h, w, c), or any iterable of single ones, to a pack.

    Those of a model of any size may differ in size, and be grey or RGB. `labels` are those of
    `cvae.encode_pack`, `poor` is that of `encode`.

    Raises ImageError when one is of another dtype or shape than the model's, and OutputError.
    """
    kept = "none" if labels is None else "auto"
    options, place = replace(options, names=names is not None, labels=kept), files.as_path(path)
    with files.atomic_path(place, truth(force, "force")) as temporary, temporary.open("wb") as file:
        return encode(codec, _batches(codec, images, names, labels), file, options, poor=poor)


def _batches(
    codec: Codec, images: Any, names: Iterable[str] | None, labels: Any
) -> Iterator[Batch]:
    for what, given in (("name", names), ("label", labels)):
        if given is not None and not _is_several(given):
            raise CvaeError(f"expected a {what} for every image, found {shown(given)}")
    called, labelled = iter(() if names is None else names), _labels(labels)
    if not _is_several(images):
        raise ImageError(
            f"expected an array of images, or an iterable of single ones, found {shown(images)}; "
            "files are read by numpy, Pillow or `cvae encode`"
        )
    parts = _pictures(codec, images) if codec.any_size else _stacks(codec, images)
    for pixels in parts:
        own, beside = list(islice(called, len(pixels))), list(islice(labelled, len(pixels)))
        for what, given, found in (("name", names, own), ("label", labels, beside)):
            if given is not None and len(found) != len(pixels):
                raise CvaeError(f"expected a {what} for every image, found fewer")
        for name in own:
            expect(name, str, "names of images as texts")
        yield Batch(pixels, own or None, labels=beside or None)
    for what, left in (("name", called), ("label", labelled)):
        if any(True for _ in left):
            raise CvaeError(f"expected a {what} for every image, found more")


def _labels(labels: Any) -> Iterator[Label]:
    """What a caller gives as labels, one by one. Raises CvaeError when it is none."""
    if isinstance(labels, np.ndarray) and (
        field := array_field("y", labels.dtype, labels.shape[1:])
    ):
        yield from ({field: row.tolist()} for row in labels)
        return
    for number, label in enumerate([] if labels is None else labels):
        try:
            yield from_value(label)
        except (TypeError, ValueError, RecursionError) as error:
            text = f"expected a label that JSON can hold: {first_line(error)}"
            raise CvaeError(text, where=f"image {number}") from error


def _is_several(given: Any) -> bool:
    """Whether it can be iterated over, and is no text, path or file."""
    if isinstance(given, (str, bytes, bytearray, memoryview, os.PathLike, io.IOBase)):
        return False
    try:
        iter(given)
    except TypeError:  # also of an array without axes
        return False
    return True


def _pictures(codec: Codec, images: Iterable[Any]) -> Iterator[Pixels]:
    """Images of any sizes, in batches of one shape. Raises ImageError, which names what is none."""

    def checked() -> Iterator[Pixels]:
        for number, image in enumerate(images):
            with at(f"image {number}"):
                yield as_picture(image)

    for shape, group in groupby(checked(), key=lambda picture: picture.shape):
        while held := list(islice(group, codec.batch(shape))):
            yield np.stack(held)


def _stacks(codec: Codec, images: Any) -> Iterator[Pixels]:
    """Images of the model's shape in batches."""
    batch = max(1, min(_BATCH, _BATCH_BYTES // math.prod(codec.image_shape)))
    if isinstance(images, np.ndarray):
        images = codec.as_batch(images)
        yield from (images[start : start + batch] for start in range(0, len(images), batch))
        return
    items, first = iter(images), 0
    while part := list(islice(items, batch)):
        yield as_stack(part, codec.image_shape, first)[0]
        first += len(part)
