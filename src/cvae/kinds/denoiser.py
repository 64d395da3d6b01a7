"""Models that take noise out of images of any size, and code none."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from cvae.errors import ModelKindError
from cvae.kinds.base import Cleaner, Kind
from cvae.models.file import DENOISER, REACH_LIMIT, Manifest, Model

_MULTIPLE_LIMIT = 256  # pixels; tiles, and so memory, grow with it


class Denoiser(Kind):
    """A network from noisy images to clean ones, named `denoiser` in manifests."""

    any_size = True

    def check(self, manifest: Manifest) -> None:
        if manifest.latent_shape or manifest.expected_psnr or manifest.default_quality:
            raise ValueError("expected no latents, expected PSNR and quality of a denoiser")
        multiple, reach = manifest.multiple, manifest.reach
        if not 1 <= multiple <= _MULTIPLE_LIMIT:
            raise ValueError(f"multiple {multiple} is out of range")
        if not 0 <= reach <= REACH_LIMIT or reach % multiple:
            expected = f"a reach of 0 to {REACH_LIMIT}, a multiple of {multiple}"
            raise ValueError(f"expected {expected}, found {reach}")

    def describe(self, manifest: Manifest) -> str:
        return f"any size {'grey' if manifest.image_shape[2] == 1 else 'RGB'}"

    def denoises(self, manifest: Manifest) -> bool:
        return True

    def facts(self, manifest: Manifest) -> dict[str, Any]:
        return {"multiple": manifest.multiple, "reach": manifest.reach}

    def figures(self, manifest: Manifest) -> str:
        return f"denoiser {manifest.figures.get('denoised_psnr', 0):6.2f} dB"

    def cleaner(self, model: Model) -> Cleaner:
        manifest = model.manifest
        shape = (None, None, manifest.image_shape[2])
        network = model.network(DENOISER, [shape], shape)
        return Cleaner(network, manifest.multiple, manifest.reach)

    def coding(self, model: Model) -> NoReturn:
        name = model.manifest.name
        raise ModelKindError(
            f"{name} is a denoiser, not a codec: `cvae denoise -m {name} IMAGE` uses it, "
            f"`cvae eval DATA -m {name} --noise 0.4` measures it"
        )

    def run_once(self, model: Model) -> None:
        side, channels = model.manifest.multiple, model.manifest.image_shape[2]
        self.cleaner(model).network(np.zeros((1, side, side, channels), np.float32))
