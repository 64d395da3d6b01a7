"""Analysis, synthesis and denoisers through ONNX Runtime: float32 in, float32 out, in batches.

Each batch runs on one thread, several at once. That beats several threads a batch by far: half of
the operators of such networks use one thread only, and small batches stay in the cache.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cvae.data import pipeline
from cvae.errors import ModelError, translated
from cvae.models import graph as graphs
from cvae.models import runtime
from cvae.models.graph import FreeSides, Sides
from cvae.models.plan import Cost, Plan

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

_ANALYSIS_BATCH, _SYNTHESIS_BATCH = 128, 32  # images that fit into the cache with all activations
_LEAST = 8  # images that are worth a thread
_BATCH_BYTES = 1 << 24  # of the images of a batch; batches of larger ones are smaller
_FREE_CHANNELS = 32  # activations of a network of free sides, in images: it has no narrow latents
_BATCH_HELD, _BATCH_MADE = 1 << 26, 1 << 27  # bytes of the values of a batch, see `plan.Cost`
_KNOWN_COSTS = 16  # shapes of batches


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Kept: threads cost more than a small batch. Imported late: for one image the import costs a lot."""
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(threads, "cvae-network")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has none of the threads


class Network:
    """One exported network of one output; all inputs and the output have a free batch axis."""

    def __init__(
        self,
        graph: bytes,
        name: str,
        input_shapes: Sequence[FreeSides],
        output_shape: FreeSides,
        scale: float = 1,
        session_threads: int = 1,
    ) -> None:
        """Opens the bytes of an ONNX graph.

        Args:
            graph: what an `.onnx` file holds.
            name: what messages call it.
            input_shapes: of each input, without the batch axis.
            output_shape: likewise; every result has it. Its free sides are the first input's.
            scale: free sides of the result over those of the first input.
            session_threads: that share the work on one batch: of use where batches are single large
                images.

        Raises:
            ModelError: the graph cannot be read, takes another shape, or is not one that the export writes.
        """
        with translated(ModelError, "the network cannot be read", name, ValueError):
            read = graphs.read(graph)
            plan = Plan(read)
        found = [sides[1:] for sides in read.inputs.values()]
        if found != list(input_shapes):
            raise ModelError(f"expected inputs of shape {input_shapes}, found {found}", where=name)
        self._name, self._output_shape, self._scale = name, output_shape, scale
        self._inputs, self._cost = list(read.inputs), lru_cache(_KNOWN_COSTS)(plan.cost)
        self._session = self._opened(graph, session_threads)

    def _opened(self, graph: bytes, session_threads: int) -> Any:
        onnxruntime = runtime.load()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = session_threads
        # Activations of large images are given back: those of the next network need the memory.
        options.enable_cpu_mem_arena = session_threads == 1
        options.log_severity_level = 4  # what ends the process; errors are raised as well
        # A graph that was read names no other files; this "folder" has none either.
        external = "session.model_external_initializers_file_folder_path"
        options.add_session_config_entry(external, os.devnull)
        # Its exceptions have no common base class.
        with translated(ModelError, "the network cannot be read", self._name, Exception):
            return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def __call__(
        self, *items: NDArray[np.float32], threads: int | None = None
    ) -> NDArray[np.float32]:
        """An array (n, *shape) for each input -> (n, *output_shape). Raises ModelError when it fails.

        Batches run on `threads`; None for one a processor, 1 for the calling thread alone.
        """
        count, threads = len(items[0]), threads or pipeline.processors()
        batch = self._batch(items, threads)
        if 0 < count <= batch:
            return self._run(items)
        result = np.empty(self._result_shape(items[0].shape), np.float32)

        def run(start: int) -> None:
            part = slice(start, start + batch)
            result[part] = self._run([item[part] for item in items])

        starts = range(0, count, batch)
        # The first error is raised; batches that run already end by themselves.
        for _ in map(run, starts) if threads == 1 else _pool(threads).map(run, starts):
            pass
        return result

    def _batch(self, items: Sequence[NDArray[np.float32]], threads: int) -> int:
        """How many items go through the network together: all threads get equal shares."""
        sizes = [math.prod(item.shape[1:]) for item in items]
        sizes.append(math.prod(self._result_shape(items[0].shape)[1:]))
        item_bytes = 4 * max(1, *sizes) * (_FREE_CHANNELS if None in self._output_shape else 1)
        preferred = _SYNTHESIS_BATCH if max(sizes) > sizes[0] else _ANALYSIS_BATCH
        cost = self._cost_of([(1, *item.shape[1:]) for item in items])
        fitting = _BATCH_BYTES // item_bytes, _BATCH_HELD // cost.held, _BATCH_MADE // cost.made
        most = max(1, min(preferred, *fitting))
        rounds = math.ceil(len(items[0]) / (most * threads))
        share = math.ceil(len(items[0]) / max(1, rounds * threads))
        return min(most, max(share, _LEAST))

    def _result_shape(self, given: Sides) -> Sides:
        """From the shape of the first input, batch axis included."""
        own, sides = given[1:], enumerate(self._output_shape)
        return (
            given[0],
            *(round(own[i] * self._scale) if side is None else side for i, side in sides),
        )

    def _cost_of(self, shapes: Sequence[Sides]) -> Cost:
        """Of inputs of these shapes. Raises ModelError when it is beyond that of the export's networks."""
        result = self._result_shape(shapes[0])
        pixels = max(map(_pixels, [*shapes, result]))
        with translated(ModelError, "the network is refused", self._name, ValueError):
            cost: Cost = self._cost(*shapes)
            cost.check(result[0], pixels, None in self._output_shape)
        return cost

    def _run(self, batch: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        pipeline.checkpoint()
        feed = dict(zip(self._inputs, batch, strict=True))
        self._cost_of([item.shape for item in batch])
        with translated(ModelError, "the network fails", self._name, Exception):
            output: NDArray[np.float32] = self._session.run(None, feed)[0]
        expected = self._result_shape(batch[0].shape)
        if output.shape != expected or output.dtype != np.float32:
            found = f"{output.dtype} {output.shape}"
            raise ModelError(f"expected float32 {expected}, found {found}", where=self._name)
        if not np.isfinite(output).all():
            raise ModelError("the network's result is not finite", where=self._name)
        return output


def _pixels(shape: Sides) -> int:
    """How many pixels a batch of images or latents is worth; latents of a grid have many channels."""
    return max(math.prod(shape[:-1]), math.prod(shape) // 3)
