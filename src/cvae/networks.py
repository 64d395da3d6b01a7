"""Analysis and synthesis through ONNX Runtime: float32 in, float32 out, in batches.

Batches run side by side, each on one thread. That beats several threads a batch by far: half of
the operators of such networks use one thread only, and small batches stay in the cache.
"""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvae.errors import ModelError

# Images a batch: as many as still fit into the cache with all that a network keeps of them.
_ANALYSIS_BATCH, _SYNTHESIS_BATCH = 128, 32
# Above this much of memory for one batch of images, batches get smaller.
_BATCH_BYTES = 1 << 24


class Network:
    """One exported network with one input and one output, both with a free batch axis."""

    def __init__(
        self,
        graph: bytes,
        name: str,
        input_shape: tuple[int, ...],
        output_shape: tuple[int, ...],
    ) -> None:
        """Opens an ONNX graph.

        Args:
            graph: the bytes of the `.onnx` file.
            name: what messages call it.
            input_shape: of one item, without the batch axis.
            output_shape: likewise; checked of every result.

        Raises:
            ModelError: the graph cannot be read, or takes another shape.
        """
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3  # errors; its warnings speak to those who exported the graph
        # A graph must not read its weights from other files: there are none in this "folder".
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", os.devnull
        )
        try:
            self._session: Any = onnxruntime.InferenceSession(
                graph, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exceptions have no common base class
            raise ModelError(f"{name}: the network cannot be read: {_first_line(error)}") from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1 or inputs[0].shape[1:] != list(input_shape):
            raise ModelError(
                f"{name}: expected one input of shape {input_shape}, "
                f"found {[i.shape for i in inputs]}"
            )
        self._name = name
        self._input = inputs[0].name
        self._output_shape = output_shape
        item_bytes = 4 * max(math.prod(input_shape), math.prod(output_shape))
        expands = math.prod(output_shape) > math.prod(input_shape)
        preferred = _SYNTHESIS_BATCH if expands else _ANALYSIS_BATCH
        self.batch = max(1, min(preferred, _BATCH_BYTES // item_bytes))

    def __call__(self, items: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, *input_shape) -> (n, *output_shape). Raises ModelError when the graph fails on it."""
        starts = range(0, len(items), self.batch)
        result = np.empty((len(items), *self._output_shape), np.float32)

        def run(start: int) -> None:
            part = slice(start, start + self.batch)
            result[part] = self._run(items[part])

        try:
            if len(starts) > 1:
                # Not for one image: the import loads a lot.
                from concurrent.futures import ThreadPoolExecutor

                with ThreadPoolExecutor(min(_threads(), len(starts))) as pool:
                    list(pool.map(run, starts))
            elif starts:
                run(0)
        except ModelError:
            raise
        except Exception as error:
            raise ModelError(f"{self._name}: the network fails: {_first_line(error)}") from error
        return result

    def _run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        output: NDArray[np.float32] = self._session.run(None, {self._input: batch})[0]
        expected = (len(batch), *self._output_shape)
        if output.shape != expected or output.dtype != np.float32:
            raise ModelError(
                f"{self._name}: expected float32 {expected}, found {output.dtype} {output.shape}"
            )
        if not np.isfinite(output).all():
            raise ModelError(f"{self._name}: the network's result is not finite")
        return output


def _threads() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:300]
