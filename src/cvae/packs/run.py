"""Shards on many machines: what a worker does with one, and how Dask hands them out.

A shard is a function of what was asked for, so doing it twice writes the same bytes: a worker that dies
costs the time it had spent, and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from cvae import __version__, errors
from cvae.codec import Codec
from cvae.data import places as storage
from cvae.data.places import Location
from cvae.data.sources import Reading
from cvae.errors import (
    ClusterError,
    CvaeError,
    ImageShapeError,
    MissingExtraError,
    ModelError,
    StorageError,
    first_line,
)
from cvae.models.file import Model
from cvae.packs import encode as bulk
from cvae.packs import executors as scheduler
from cvae.packs import manifest as shards
from cvae.packs.encode import Options
from cvae.packs.manifest import Part
from cvae.packs.shards import Shard

_RETRIES = 2  # of errors that nobody expected
_AHEAD = 3  # shards that are handed out, a thread of a worker
_STORAGE = {
    "aiobotocore",
    "aiohttp",
    "botocore",
    "fsspec",
    "s3fs",
}  # whose errors have no common base
_MESSAGES = 100  # of images that are left out, of each shard


@dataclass(frozen=True)
class Job:
    """What is done with every shard."""

    folder: Location  # where shards go
    model: Path  # its file
    model_sha256: str
    options: Options
    fit: bool
    jobs: int  # threads that read image files
    request: dict[str, Any]  # what all of this comes from
    resume: bool = False
    version: str = __version__
    advice: str = ""  # what helps where an image is of another shape than the model's


@dataclass(frozen=True)
class Failure:
    """Why a shard was not written; as text, because not every error can travel."""

    shard: str
    kind: str  # name of a class in `errors`
    text: str

    def error(self) -> CvaeError:
        """The error as it was raised on the worker."""
        found: type[CvaeError] = getattr(errors, self.kind, CvaeError)
        if found is MissingExtraError:  # takes other arguments
            found = CvaeError
        return found(self.text)


def encode_shard(
    job: Job, shard: Shard, known: Part | None = None, model: bytes | None = None
) -> Part | Failure:
    """Writes one shard, unless it is there already; runs on a worker.

    Args:
        job: what to do.
        shard: with what.
        known: what a manifest says of the shard.
        model: the model's file, where the path is of no use.

    Raises:
        StorageError: images or the folder cannot be reached.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")  # as the command line does
    try:
        if job.version != __version__:
            raise ClusterError(f"expected cvae {job.version} on all workers, found {__version__}")
        request = _request(job, shard)
        if job.resume and (part := _written(job, shard, request, known)):
            return part
        part = _encode(job, shard, request, _codec(job, model))
        storage.write(job.folder / shards.note_name(shard.name), part.to_json(), force=True)
        return part
    except StorageError:
        raise  # and tried again: it may have been the network
    except CvaeError as error:
        return Failure(shard.name, type(error).__name__, str(error))


def _request(job: Job, shard: Shard) -> str:
    asked = {key: value for key, value in job.request.items() if key != "sources"}
    return hashlib.sha256(json.dumps([asked, shard.stamp]).encode()).hexdigest()


def _written(job: Job, shard: Shard, request: str, known: Part | None) -> Part | None:
    """What is known of a shard that a run before this one has written, if it is whole."""
    part = shards.read_note(job.folder, shard.name) or known
    if part is None or (part.file, part.request) != (shard.name, request):
        return None
    return part if shards.digest_of(job.folder, shard.name) == part.sha256 else None


def _encode(job: Job, shard: Shard, request: str, codec: Codec) -> Part:
    left_out: list[str] = []
    total = 0

    def refuse(error: CvaeError) -> None:
        nonlocal total
        total += 1
        if len(left_out) < _MESSAGES:
            advised = isinstance(error, ImageShapeError) and job.advice
            left_out.append(f"{error}; {job.advice}" if advised else str(error))

    reading = Reading(codec.image_shape, job.fit, job.jobs, refuse)
    named = job.options.names and shard.source.named
    options = replace(job.options, names=named, threads=1)
    with storage.writing(job.folder / shard.name, force=True) as temporary:
        with temporary.open("wb") as file:
            report = bulk.encode(codec, shard.source.batches(reading), file, options)
        digest = shards.digest_of(temporary.parent, temporary.name) or ""
    return Part(
        shard.name, request, report.images, report.size, digest, total, tuple(left_out),
        verified=report.verified, psnr_sum=report.psnr_sum, poor=report.poor,
        poor_sampled=report.poor_sampled, poor_inverted=report.poor_inverted,
    )  # fmt: skip


@lru_cache(maxsize=2)
def _opened(path: Path, sha256: str) -> Codec:
    """The codec of a model's file, opened once a process."""
    if file_digest(path) != sha256:
        raise ModelError("is another model on this worker", where=path)
    return _loaded(Codec(Model(path)))


@lru_cache(maxsize=2)
def _received(data: bytes) -> Codec:
    """The same of a model that was sent."""
    with tempfile.TemporaryDirectory(prefix="cvae-") as folder:
        path = Path(folder) / "model.cvae"
        path.write_bytes(data)
        # The file does not stay.
        return _loaded(Codec(Model(path)))


def _loaded(codec: Codec) -> Codec:
    """Reads every member that coding needs."""
    model = codec.model
    _ = (model.bank, model.analysis, model.synthesis, model.gradient)
    return codec


def _codec(job: Job, model: bytes | None) -> Codec:
    return _opened(job.model, job.model_sha256) if model is None else _received(model)


def file_digest(path: Path) -> str:
    """The sha256 of a model's file. Raises ModelError when it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror or error}", where=path) from error


def encode(
    client: Any,
    job: Job,
    work: Iterator[Shard],
    progress: Callable[[Part], None] | None = None,
    known: Mapping[str, Part] | None = None,
    send_model: bool = False,
) -> list[Part | Failure]:
    """Has every shard written; what became of each, in order.

    Few more shards are handed out than there are workers, so a scheduler never sees a long list.

    Args:
        client: made by `connect`.
        job: what to do.
        work: with what; taken as workers get free.
        progress: called with each shard that is done.
        known: shards of a finished run that is resumed, by name.
        send_model: workers need not see the model's file.

    Raises:
        ClusterError: a shard has killed its workers again and again, or the scheduler is gone.
        CvaeError: a shard failed for a reason that is not in its images.
    """
    from distributed import as_completed

    token = os.urandom(8).hex()
    model = None
    if send_model:
        # A task, and no scattered data: what a dead worker held of those would be gone.
        data = job.model.read_bytes()
        model = client.submit(bytes, data, key=f"cvae-model-{token}", pure=False)

    def submit(shard: Shard) -> Any:
        key = f"cvae-{token}-{shard.name}"
        found = (known or {}).get(shard.name)
        return client.submit(
            encode_shard, job, shard, found, model, key=key, pure=False, retries=_RETRIES
        )

    done: dict[int, Part | Failure] = {}
    ordinals: dict[str, int] = {}
    waiting = as_completed(loop=client.loop)
    work = iter(work)

    def hand_out(count: int) -> None:
        for shard in islice(work, count):
            future = submit(shard)
            ordinals[future.key] = shard.ordinal
            waiting.add(future)

    hand_out(_AHEAD * _slots(client))
    for future in waiting:
        result = _result(future)
        done[ordinals.pop(future.key)] = result
        if isinstance(result, Part):
            if progress:
                progress(result)
        elif result.kind not in ("DataError", "ImageError", "ImageShapeError"):
            raise result.error()  # the others would fail of it, too
        hand_out(max(1, _AHEAD * _slots(client) - len(ordinals)))
    return [done[ordinal] for ordinal in sorted(done)]


def _slots(client: Any) -> int:
    """How many shards are worked on at once; one where workers are still to come."""
    try:
        threads: dict[str, int] = client.nthreads()
        return max(1, sum(threads.values()))
    except (OSError, TimeoutError) as error:
        raise ClusterError(
            f"the scheduler does not answer any more: {first_line(error)}"
        ) from error


def _result(future: Any) -> Part | Failure:
    from distributed import CancelledError, KilledWorker

    try:
        return future.result()  # type: ignore[no-any-return]
    except StorageError:
        raise
    except KilledWorker as error:
        part = future.key.split("-", 2)[2]
        raise ClusterError(
            f"{scheduler.ALLOWED_FAILURES} workers died while they worked on it; was it memory?",
            where=part,
        ) from error
    except (CancelledError, OSError, TimeoutError) as error:
        raise ClusterError(
            f"the scheduler does not answer any more: {first_line(error)}"
        ) from error
    except ImportError as error:
        raise ClusterError(f"a worker lacks a package: {first_line(error)}") from error
    except Exception as error:
        if type(error).__module__.split(".")[0] not in _STORAGE:
            raise
        raise StorageError(first_line(error), where=future.key) from error
