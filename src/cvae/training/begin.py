"""What a training run starts from: the weights of another run, or those in a model file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cvae.data.contents import RUN
from cvae.errors import TrainingError, translated
from cvae.models import registry


@dataclass(frozen=True)
class Begin:
    """A run's folder or a model file, as `--fine-tune` names it."""

    path: Path
    model: str = ""  # the file's id and sha256, where it is one
    kind: str = ""  # of the model
    name: str = ""  # of the model, where it was chosen by its name alone

    def check(self, kind: str) -> None:
        """Raises TrainingError for a model of another kind than that whose weights can be read back."""
        if self.model and self.kind != kind:
            text = f"expected a model of the kind {kind}, found one of the kind {self.kind}"
            raise TrainingError(text, where=f"--fine-tune {self.path}")


def find(name: str) -> Begin:
    """The run in a folder of this path, else the model of this name or path.

    Raises ModelError when there is neither.
    """
    path = Path(name)
    if (path / RUN).exists() or (path.is_dir() and not registry.models_below(path)):
        return Begin(path)
    model = registry.open_model(name)
    with translated(TrainingError, "cannot be read", model.path):
        digest = hashlib.sha256(model.path.read_bytes()).hexdigest()
    manifest = model.manifest
    return Begin(model.path, f"id {manifest.id:#06x}, sha256 {digest}", manifest.kind)
