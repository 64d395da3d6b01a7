"""What a trained pair of networks gives to export, whatever it was trained with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Exported:
    """ONNX graphs, and the functions that they must agree with."""

    analysis_graph: bytes
    synthesis_graph: bytes
    analysis: Callable[[Floats], Floats]  # (n, h, w, c) in [0, 1] -> latents (n, d)
    synthesis: Callable[[Floats], Floats]  # latents (n, d) -> (n, h, w, c) in [0, 1]
    widths: Floats  # (d,) the unit of the preset's step_width for each element
    weights_hash: str  # sha256 over the weights: equal for equal networks
