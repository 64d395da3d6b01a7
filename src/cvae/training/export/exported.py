"""What a trained pair of networks gives to export, whatever it was trained with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvae.models.file import Manifest, Model
from cvae.models.qualities import Qualities
from cvae.training.export import gradient as adjoint

Floats = NDArray[np.float32]

# Up to so many latents the search takes tangents, one synthesis for each, which finds more.
_TANGENT_ELEMENTS = 32


@dataclass(frozen=True)
class Exported:
    """ONNX graphs, and the functions that they must agree with."""

    analysis_graph: bytes
    synthesis_graph: bytes
    analysis: Callable[[Floats], Floats]  # (n, h, w, c) in [0, 1] -> latents (n, d)
    synthesis: Callable[[Floats], Floats]  # latents (n, d) -> (n, h, w, c) in [0, 1]
    widths: Floats  # (d,) the unit of the preset's step_width for each element
    weights_hash: str  # sha256 over the weights: equal for equal networks
    orthonormal: bool = False  # analysis is the transpose of synthesis
    # Of networks trained on noise: images (n, h, w, c) -> the same without it, the latents between
    # both halves as they were trained.
    denoiser_graph: bytes | None = None
    denoiser: Callable[[Floats], Floats] | None = None

    @cached_property
    def gradient_graph(self) -> bytes | None:
        """The pull-back of the synthesis (see `adjoint`), where there are too many latents for tangents.

        A linear codec needs none, see `search.orthonormal_gradient`.
        """
        if self.orthonormal or len(self.widths) <= _TANGENT_ELEMENTS:
            return None
        return adjoint.gradient(self.synthesis_graph)


@dataclass(frozen=True)
class Made:
    """All that a model file is written from, besides what its run says."""

    graphs: dict[str, bytes]  # by member
    bank: Qualities | None
    weights_hash: str
    previous: Model | None  # an earlier export, whose id and name stay
    fields: dict[str, Any]  # of the manifest
    measure: Callable[[Model], Manifest]  # the manifest of the written model with its figures


def half_precision(weights: Floats) -> Floats:
    """The nearest float32 values that float16 holds too."""
    return weights.astype(np.float16).astype(np.float32)
