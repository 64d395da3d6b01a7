"""How each kind of model turns pixels into stages of symbols, and back."""

from __future__ import annotations

from cvae.errors import ModelError, translated
from cvae.kinds.base import Kind
from cvae.kinds.denoiser import Denoiser
from cvae.kinds.fixed import Fixed
from cvae.kinds.grid import Grid
from cvae.kinds.lossless import Lossless
from cvae.models import registry
from cvae.models.file import Manifest, Model

# By what manifests call them.
KINDS: dict[str, Kind] = {
    "codec": Fixed(), "denoiser": Denoiser(), "grid": Grid(),
    "lossless": Lossless(any_size=False), "lossless-any": Lossless(any_size=True),
}  # fmt: skip


def of(manifest: Manifest, where: object = "") -> Kind:
    """A model's kind. Raises ModelError when it is unknown, or the manifest is none of that kind."""
    kind = KINDS.get(manifest.kind)
    if kind is None:
        expected = f"expected a manifest of kind {' or '.join(KINDS)}"
        raise ModelError(f"{expected}, found {manifest.kind!r}", where=where)
    with translated(ModelError, "the manifest is damaged", where, ValueError):
        kind.check(manifest)
    return kind


def codes(manifest: Manifest) -> bool:
    """Whether models of this kind write files."""
    return manifest.kind in KINDS and KINDS[manifest.kind].codes


def verify(model: Model) -> None:
    """Reads every member of a model and runs its networks. Raises ModelError when one is damaged."""
    of(model.manifest, model.path).run_once(model)


def known_models() -> tuple[list[registry.Entry], list[ModelError]]:
    """As `registry.known_models`, less the models of which `of` raises."""
    entries, errors = registry.known_models()
    sound = []
    for entry in entries:
        try:
            of(entry.manifest, entry.path)
            sound.append(entry)
        except ModelError as error:
            errors.append(error)
    return sound, errors
