"""What was decoded last, within so many bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterable
from typing import Any

_LIMIT = 1 << 28  # bytes
_OVERHEAD = 256  # bytes of an entry and its array, beside what the array holds


class Cache:
    """Forgets what was not used for longest; thread-safe."""

    def __init__(self, limit: int = _LIMIT) -> None:
        self.size, self._limit = 0, limit
        self._held: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Any:
        """What is kept under a key; None where it is not, or no longer."""
        return self.some([key]).get(key)

    def some(self, keys: Iterable[Hashable]) -> dict[Hashable, Any]:
        """Those of the keys that are kept."""
        with self._lock:
            found = {key: self._held[key][0] for key in keys if key in self._held}
            for key in found:
                self._held.move_to_end(key)
            return found

    def put(self, key: Hashable, value: Any, size: int) -> None:
        """Keeps a value of so many bytes, unless it is larger than all that may be kept."""
        size += _OVERHEAD
        with self._lock:
            self.size += size - self._held.pop(key, (None, 0))[1]
            self._held[key] = value, size
            while self.size > self._limit:
                self.size -= self._held.popitem(last=False)[1][1]
