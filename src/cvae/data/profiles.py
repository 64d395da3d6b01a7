"""Colours that a file's ICC profile names, as sRGB."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

# What profiles call the colours of Pillow's modes.
_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}
_UNSEEN = 2  # levels by which a profile may differ from sRGB to be taken for it


@lru_cache(maxsize=8)
def to_srgb(profile: bytes, mode: str) -> Any:
    """Pillow's transform of a mode (L, RGB or CMYK) by an ICC profile to RGB of sRGB.

    None where there is nothing to do: the profile is sRGB itself, or is for other colours than the
    mode's. Raises ValueError when the profile is damaged.
    """
    from PIL import ImageCms  # here because few files need it

    try:
        opened = ImageCms.getOpenProfile(io.BytesIO(profile))
        if opened.profile.xcolor_space.strip() != _SPACES.get(mode):
            return None
        intent = ImageCms.Intent(ImageCms.getDefaultIntent(opened))
        made = ImageCms.buildTransform(
            opened, ImageCms.createProfile("sRGB"), mode, "RGB", intent,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )  # fmt: skip
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        raise ValueError(f"the colour profile is damaged: {error}") from error
    return None if mode != "CMYK" and _changes_nothing(made, mode) else made


def _changes_nothing(made: Any, mode: str) -> bool:
    if mode == "L":
        probe = Image.fromarray(np.arange(256, dtype=np.uint8)[np.newaxis])
        expected = np.asarray(probe.convert("RGB"), np.int16)
    else:
        levels = np.arange(0, 256, 17, dtype=np.uint8)
        grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1)
        probe = Image.fromarray(grid.reshape(1, -1, 3))
        expected = np.asarray(probe, np.int16)
    found = np.asarray(made.apply(probe), np.int16)
    return int(np.abs(found - expected).max()) <= _UNSEEN
