"""Tables of a model that are arrays of fixed types in its `tables.npz`."""

from __future__ import annotations

from typing import BinaryIO, ClassVar, Self

import numpy as np
from numpy.typing import DTypeLike

from cvae.data import arrays
from cvae.errors import ModelError, translated
from cvae.models.qualities import ARRAY_LIMIT


class Stored:
    """Base of a dataclass of arrays, whose fields are the members of the file."""

    types: ClassVar[dict[str, DTypeLike]]  # field -> dtype, in the order of the fields

    def check_types(self) -> None:
        """Raises ValueError when an array has another dtype; a file may be hostile."""
        for name, expected in self.types.items():
            found = getattr(self, name).dtype
            if found != np.dtype(expected):
                raise ValueError(f"expected {name} as {np.dtype(expected)}, found {found}")

    def hashes(self) -> dict[str, str]:
        """The `arrays.digest` of each array."""
        return {name: arrays.digest(array) for name, array in vars(self).items()}

    def to_npz(self) -> bytes:
        return arrays.npz_bytes(vars(self))

    @classmethod
    def from_npz(cls, file: BinaryIO, label: str) -> Self:
        """Raises ModelError when the file holds no such arrays."""
        found = arrays.read_npz(file, list(cls.types), label, ModelError, ARRAY_LIMIT)
        with translated(ModelError, "damaged", label, (ValueError, TypeError)):
            return cls(*map(arrays.native, found))
