"""A folder of packs: what a worker does with one shard, and how shards are handed out and collected.

The request decides what is in a shard: a worker that dies costs the time it had spent, no more.
"""

from __future__ import annotations

import hashlib
import json
import signal
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from cvae import __version__, errors, kinds
from cvae.codec import Codec
from cvae.data import files, places
from cvae.data.places import Location, Place
from cvae.data.sources import Which
from cvae.errors import (
    Changed,
    CvaeError,
    DataError,
    ImageError,
    Notice,
    PassedOver,
    StorageError,
    at,
    first_line,
)
from cvae.models.file import Model
from cvae.options import EncodeOptions
from cvae.packs import encode, executors, manifest, reader, shards
from cvae.packs.executors import Executor
from cvae.packs.manifest import Manifest, Part
from cvae.packs.shards import Shard

_RETRIES = 2  # of a shard whose images or folder cannot be reached
_POLL = 0.2  # seconds; a signal that another thread takes does not wake this one
_FAR_THREADS = 16  # that wait for files from far away
# Packages of storage; their errors have no common base.
_STORAGE = {"aiobotocore", "aiohttp", "botocore", "fsspec", "s3fs"}
_MESSAGES = 100  # of skipped images that the manifest keeps, of each shard


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Who writes a folder of packs, and how it is cut."""

    workers: int | None = None  # processes of this machine
    scheduler: str | None = None  # the address of a Dask cluster, instead of those
    threads: int | None = None  # of each worker; None for one, and 16 that read from URLs
    shard_images: int = shards.SHARD_IMAGES  # images a pack, at most
    resume: bool = False  # go on with an interrupted run of the same request
    force: bool = False  # overwrite the packs of another run
    advice: str = ""  # against images of another shape than the model's


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a worker does with every shard."""

    folder: Place  # where shards go
    options: EncodeOptions
    request: dict[str, Any]  # all that changes what is written
    plan: Plan = Plan()
    readers: int = 1  # threads that read image files
    version: str = __version__


def run(
    codec: Codec,
    inputs: Sequence[str],
    folder: Location,
    options: EncodeOptions,
    plan: Plan,
    *,
    progress: Callable[[Part], None] | None = None,
    failed: Callable[[CvaeError], None] | None = None,
) -> Manifest:
    """Writes a folder of packs, one a shard, and its manifest.

    Args:
        inputs: paths, URLs and glob patterns of images, arrays and archives.
        progress: called with each shard that is done, in any order.
        failed: called with the error of each shard that could not be read, in order, with what of a
            folder cannot be listed, and with notices.

    Raises:
        DataError: an input is not there; or shards failed, so there is no manifest, and the others stay.
        OutputError: the folder is not empty, has a run of another request, or is an input.
        StorageError: an input or the folder cannot be reached.
        ClusterError: a shard kills its workers again and again, or the scheduler does not answer.
        CvaeError: a shard failed for a reason that is not in its images.
    """
    folder = places.locate(folder).absolute()
    found = [shards.resolve(text, failed).absolute() for text in inputs]
    shards.shared(found, folder)
    shards.apart(found, folder)
    job = _job(codec, found, folder, options, plan)
    with errors.translated(errors.ModelError, "cannot be read", codec.model.path):
        file = codec.model.path.read_bytes()
    before = manifest.check(folder, job.request, resume=plan.resume, force=plan.force)
    known = {part.file: part for part in before.shards} if before else {}
    with _tidied(folder, plan), executors.open_executor(plan.workers, plan.scheduler) as executor:
        manifest.begin(folder, job.request, force=plan.force)
        which, folders = Which(options.split, options.key), options.labels == "folder"
        work = shards.cut(found, plan.shard_images, which, failed, folders)
        results = encode_all(executor, job, file, work, known, progress)
    bad = [result for result in results if isinstance(result, CvaeError)]
    for error in bad:
        if failed:
            failed(error)
    if bad:
        raise _unfinished(bad, len(results), folder)
    parts = manifest.numbered([result for result in results if isinstance(result, Part)])
    if not any(part.images for part in parts):
        raise ImageError("expected images, found none that can be coded", where=" ".join(inputs))
    model, asked = codec.model.manifest, job.options
    written = Manifest(
        model.name, model.id, codec.quality(asked.quality), asked.invert, asked.fit, parts, job.request
    )  # fmt: skip
    manifest.finish(folder, written)
    return written


def _unfinished(bad: list[CvaeError], shards: int, folder: Place) -> DataError:
    advice = "when their sources are repaired, resume=True does the rest"
    if any(isinstance(error, errors.ImageShapeError) for error in bad):
        advice = "another model or fit=True is another run; force=True starts it in this folder"
    text = f"{len(bad)} of {shards} packs could not be written, so there is no manifest"
    return DataError(text, where=folder, advice=advice)


def _job(
    codec: Codec, found: list[shards.Input], folder: Place, options: EncodeOptions, plan: Plan
) -> Job:
    codec.check_invert(options.invert)
    fit = (
        codec.reading(options).scales or codec.any_size
    )  # packs of any size have all sizes, whatever is asked for
    options = replace(options, quality=codec.quality(options.quality), fit=fit)
    request = {  # written to files, and hashed in this order: names and order stay
        "sources": [str(places.locate(item.text).absolute()) for item in found],
        "model": hashlib.sha256(repr(codec.model.manifest.identity).encode()).hexdigest(),
        "quality": options.quality,
        "effort": options.effort,
        "inverted": options.invert,
        "fitted": options.fit,
        "names": options.names,
        "verified": options.verify,
        "split": options.split,
        "shard_images": plan.shard_images,
        "block_images": options.block_images,
        **({"crop": options.crop} if options.crop is not None else {}),
        **({"background": options.background} if options.background else {}),
        **({"pages": True} if options.pages else {}),
        **({"key": options.key} if options.key else {}),
        **({"labels": options.labels} if options.labels != "none" else {}),
    }
    if options.max_pixels is not None:  # which without it are as they always were
        request["max_pixels"] = options.max_pixels
    readers = plan.threads or (_FAR_THREADS if any(item.place.far for item in found) else 1)
    return Job(folder=folder, options=options, request=request, plan=plan, readers=readers)


@contextmanager
def _tidied(folder: Place, plan: Plan) -> Iterator[None]:
    """After an error, deletes what workers of this machine had begun; by then they are gone.

    Ctrl-C ends the run once: further ones would disturb what closes and deletes behind it.
    """

    def interrupt(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as long as this process lives
        raise KeyboardInterrupt

    # Another handler has been chosen on purpose.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        with suppress(ValueError):  # not in the main thread
            signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except BaseException:
        if plan.scheduler is None:
            with suppress(CvaeError):  # what went wrong first is what is told
                manifest.tidy(folder)
        raise
    finally:
        if signal.getsignal(signal.SIGINT) is interrupt:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def encode_all(
    executor: Executor,
    job: Job,
    model: bytes,
    work: Iterator[Shard],
    known: Mapping[str, Part],
    progress: Callable[[Part], None] | None = None,
) -> list[Part | CvaeError]:
    """Writes every shard through an executor: each in order, or the error of its images.

    Few more shards are handed out than there are workers, so a scheduler never sees a long list.
    `model` is its file; `known` has the shards of a finished run that is resumed, by name. Raises as
    `run` does.
    """
    sent = executor.sent(model)
    done: dict[int, Part | CvaeError] = {}
    calls: dict[Future[Part], Shard] = {}
    failures: Counter[tuple[str, type[Exception]]] = Counter()

    def submit(shard: Shard) -> None:
        calls[executor.submit(encode_shard, job, shard, sent, known.get(shard.name))] = shard

    def take(shard: Shard, call: Future[Part]) -> None:
        try:
            part = call.result()
            if progress:
                progress(part)
            done[shard.ordinal] = replace(part, errors=())  # of all shards they may be many
        except (DataError, ImageError) as error:
            error.where = error.where or shard.name
            done[shard.ordinal] = error
        except (BrokenProcessPool, StorageError) as error:
            failures[key := (shard.name, type(error))] += 1
            if isinstance(error, StorageError) and failures[key] > _RETRIES:
                raise
            if failures[key] >= executors.DEATHS:
                raise executors.died(failures[key]) from error
            submit(shard)
        except CvaeError:
            raise
        except Exception as error:
            raise executor.explained(error) from error

    while True:
        for shard in islice(work, max(0, executor.slots() - len(calls))):
            submit(shard)
        if not calls:
            return [done[ordinal] for ordinal in sorted(done)]
        finished: set[Future[Part]] = set()
        while not finished:
            finished, _ = wait(calls, _POLL, FIRST_COMPLETED)
        for call in finished:
            shard = calls.pop(call)
            with at(shard.name):
                take(shard, call)


def encode_shard(job: Job, shard: Shard, model: bytes, known: Part | None = None) -> Part:
    """Writes one shard, unless it is there already; runs on a worker.

    `model` is its file, `known` what a manifest says of the shard.

    Raises:
        StorageError: images or the folder cannot be reached; the next try may succeed.
        CvaeError: whatever else is wrong.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")  # as the command line does
    if job.version != __version__:
        raise errors.ClusterError(
            f"expected cvae {job.version} on all workers, found {__version__}"
        )
    try:
        asked = {key: value for key, value in job.request.items() if key != "sources"}
        request = hashlib.sha256(json.dumps([asked, shard.stamp]).encode()).hexdigest()
        if job.plan.resume and (part := _written(job, shard, request, known)):
            return part
        part = _encode(job, shard, request, _opened(model).restoring(job.options.max_pixels))
        places.write(job.folder / manifest.note_name(shard.name), part.to_json(), force=True)
        return part
    except Exception as error:
        if type(error).__module__.split(".")[0] not in _STORAGE:
            raise
        raise StorageError(first_line(error)) from None  # not all of theirs can travel


def _written(job: Job, shard: Shard, request: str, known: Part | None) -> Part | None:
    """What is known of a shard that a run before this one has written, if it is whole."""
    part = manifest.read_note(job.folder, shard.name) or known
    if part is None or (part.file, part.request) != (shard.name, request):
        return None
    if manifest.digest_of(job.folder, shard.name) != part.sha256:
        return None
    # What is known may be damaged itself, and still be JSON.
    with reader.open_file((job.folder / shard.name).open("rb")) as pack:
        return part if (pack.images, pack.size) == (part.images, part.file_bytes) else None


def _encode(job: Job, shard: Shard, request: str, codec: Codec) -> Part:
    messages: list[str] = []
    notices: list[str] = []
    failed: list[CvaeError] = []
    skipped = 0

    def refuse(error: CvaeError) -> None:
        nonlocal skipped
        if isinstance(error, PassedOver):
            failed.append(error)
            return
        if isinstance(error, Changed):
            changes[error.text] += error.images
            return
        if isinstance(error, Notice):
            notices.append(str(error))
            return
        skipped += 1
        if isinstance(error, errors.ImageShapeError):
            error.advice = error.advice or job.plan.advice
        failed.append(error)
        if len(messages) < _MESSAGES:
            messages.append(str(error))

    reading, changes = codec.reading(job.options), Counter[str]()

    options = replace(job.options, names=job.options.names and shard.source.named)
    batches = shard.source.batches(reading, job.readers, refuse, options.pages)
    with (job.folder / shard.name).writing(force=True) as temporary:
        with temporary.open("wb") as file:
            threads = job.plan.threads or 1
            tally = encode.encode(codec, batches, file, options, threads=threads, refuse=refuse)
        digest = manifest.digest_of(places.locate(temporary.parent), temporary.name) or ""
    known = {**vars(tally), "left_out": skipped}
    more = [f"{len(notices) - _MESSAGES:,} more like these"] if len(notices) > _MESSAGES else []
    return Part(
        file=shard.name,
        request=request,
        sha256=digest,
        messages=tuple(messages),
        first=0,
        changes=dict(changes),
        notices=(*notices[:_MESSAGES], *more),
        errors=tuple(failed),
        **known,
    )


@lru_cache(maxsize=2)
def _opened(data: bytes) -> Codec:
    """The codec of a model's file; opened once a process."""
    with tempfile.TemporaryDirectory(prefix="cvae-") as folder:
        path = Path(folder, "model.cvae")
        files.write_bytes(path, data)
        model = Model(path)
        kinds.verify(model)  # reads all of the file, which does not stay
        return Codec(model)
