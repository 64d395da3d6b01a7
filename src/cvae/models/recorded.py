"""How training read the pictures that a model learned from."""

from __future__ import annotations

from cvae.data import images
from cvae.data.reading import Reading
from cvae.errors import ModelError, translated
from cvae.models.file import Model


def recorded_reading(model: Model) -> Reading | None:
    """How training read a folder; None where the model was trained on something else.

    Raises ModelError when the manifest's account of it is damaged.
    """
    manifest, shape = model.manifest, model.manifest.image_shape
    if "reading" not in manifest.data:
        return None
    with translated(ModelError, "the manifest is damaged: reading", model.path, ValueError):
        reading = Reading.from_json(manifest.data["reading"])
    if reading.shape != shape:
        wanted, found = images.describe(shape), images.describe(reading.shape)
        raise ModelError(f"expected a reading of {wanted}, found {found}", where=model.path)
    return reading
