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

BATCH = 64

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
        self.batch = max(1, min(BATCH, _BATCH_BYTES // item_bytes))

    def __call__(self, items: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, *input_shape) -> (n, *output_shape). Raises ModelError when the graph fails on it."""
        batches = [items[i : i + self.batch] for i in range(0, max(1, len(items)), self.batch)]
        try:
            if len(batches) == 1:
                return self._run(items)
            from concurrent.futures import ThreadPoolExecutor  # not for one image: it loads a lot

            with ThreadPoolExecutor(min(_threads(), len(batches))) as pool:
                return np.concatenate(list(pool.map(self._run, batches)))
        except ModelError:
            raise
        except Exception as error:
            raise ModelError(f"{self._name}: the network fails: {_first_line(error)}") from error

    def _run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        result: NDArray[np.float32] = self._session.run(None, {self._input: batch})[0]
        expected = (len(batch), *self._output_shape)
        if result.shape != expected or result.dtype != np.float32:
            raise ModelError(
                f"{self._name}: expected float32 {expected}, found {result.dtype} {result.shape}"
            )
        if not np.isfinite(result).all():
            raise ModelError(f"{self._name}: the network's result is not finite")
        return result


def _threads() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:300]
