"""gzip, bzip2 and xz as hostile input: bounded in what they unpack to, and in the memory they ask for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from cvae.data.contents import COMPRESSED

_CHUNK = 1 << 16
_MAX_XZ = 1 << 27  # bytes of memory; `xz -9` needs half of that
# Bytes that anything may unpack to, and that each packed byte may.
_FREE, _RATIO = 1 << 26, 1000


class Rejoined:
    """A file of which the first bytes were read already."""

    def __init__(self, start: bytes, file: Any) -> None:
        self._start, self._file = start, file

    def read(self, count: int) -> bytes:
        if self._start:
            data, self._start = self._start[:count], self._start[count:]
            return data
        return bytes(self._file.read(count) or b"")


def unpacked(file: Any) -> Any:
    """What an open file holds, unpacked if it is compressed; both need only `read`.

    Reading it raises ValueError when it unpacks to far more than its size, and what the modules of
    its format raise.
    """
    start = file.read(max(map(len, COMPRESSED)))
    whole = Rejoined(start, file)
    for magic, module in COMPRESSED.items():
        if start.startswith(magic):
            return _Bounded(whole, module)
    return whole


class _Bounded:
    """An unpacked file that is not much larger than the packed one."""

    def __init__(self, packed: Any, module: str) -> None:
        self._packed, self._left = packed, _FREE
        opened: Any = _Xz(self) if module == "lzma" else import_module(module).open(_Reads(self))
        self._unpacked = opened

    def packed(self, count: int) -> bytes:
        """The next packed bytes."""
        data: bytes = self._packed.read(count)
        self._left += _RATIO * len(data)
        return data

    def read(self, count: int) -> bytes:
        data: bytes = self._unpacked.read(count)
        self._left -= len(data)
        if self._left < 0:
            raise ValueError(f"it unpacks to more than {_RATIO:,} times its size")
        return data


class _Reads:
    """The packed bytes as a file, for the modules of the standard library."""

    def __init__(self, file: _Bounded) -> None:
        self.read = file.packed


class _Xz:
    """As `lzma.open`, which takes as much memory as a header asks for."""

    def __init__(self, file: _Bounded) -> None:
        self._file, self._waiting, self._ended = file, b"", False
        self._unpacker = _xz()

    def read(self, count: int) -> bytes:
        while not self._ended:
            if self._unpacker.eof:
                self._go_on()
            elif data := self._unpacker.decompress(self._packed(), count):
                return bytes(data)
        return b""

    def _packed(self) -> bytes:
        """What the unpacker needs next; nothing where it still has some."""
        data, self._waiting = self._waiting, b""
        if not data and self._unpacker.needs_input and not (data := self._file.packed(_CHUNK)):
            raise EOFError("it breaks off")
        return data

    def _go_on(self) -> None:
        """Begins with the next stream, behind zeros that fill up, or ends."""
        rest: bytes = self._unpacker.unused_data.lstrip(b"\0")
        while not rest and not self._ended:
            data = self._file.packed(_CHUNK)
            rest, self._ended = data.lstrip(b"\0"), not data
        self._waiting, self._unpacker = rest, _xz()


def _xz() -> Any:
    import lzma  # a Python may be without it

    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MAX_XZ)
