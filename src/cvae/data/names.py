"""Names of images and files: printable ones, ones that are safe as a path, and unique ones."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable

# Files with these (lower-case) endings are taken for images.
SUFFIXES = {
    ".apng", ".avif", ".bmp", ".dib", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png",
    ".pnm", ".ppm", ".tif", ".tiff", ".webp",
}  # fmt: skip
# So are those with endings of formats that are not read: they are errors, and not passed over.
UNREAD = {
    ".arw", ".cr2", ".cr3", ".dng", ".exr", ".hdr", ".heic", ".heif", ".hif", ".ico", ".j2k", ".jp2",
    ".jxl", ".jxr", ".nef", ".orf", ".pam", ".pcx", ".pfm", ".psd", ".qoi", ".svg", ".tga", ".xcf",
}  # fmt: skip

_DIGITS = 6  # of the number that stands for a name, at least
_MAX_PART = 180  # bytes of a file's name; a number may be added
# Bytes of a relative path: Windows takes 260 characters with the folder it is put in.
_MAX_PATH = 200
# What Windows takes for a device, whatever its ending.
_DEVICES = {"con", "prn", "aux", "nul", "conin$", "conout$"} | {
    f"{port}{number}" for port in ("com", "lpt") for number in "0123456789¹²³"
}
_FORBIDDEN = frozenset('<>:"|?*\\')


def printable(text: str) -> str:
    """The text with control characters escaped: none moves a terminal's cursor or ends a line."""
    escaped = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return "".join(escaped)


def safe_name(name: str) -> str:
    """A name of any origin as the relative path of a PNG file that stays below its folder.

    Empty when nothing of the name is left. A long path keeps its end. No folder on the way has a
    name that a file could have.
    """
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    if not parts:
        return ""
    *above, last = parts
    last = last.rstrip(" .") or last
    stem, ending = os.path.splitext(last)  # noqa: PTH122
    # Before it is cut to its length: half an ending would stay.
    last = stem if ending.lower() in SUFFIXES else last
    kept = f"{_safe_part(last)}.png"
    for folder in map(_safe_part, reversed(above)):
        # Files end in .png and folders do not, so no file is where another needs a folder.
        longer = f"{folder}_/{kept}" if folder.lower().endswith(".png") else f"{folder}/{kept}"
        if len(longer.encode()) > _MAX_PATH:
            break
        kept = longer
    return kept


def _safe_part(part: str) -> str:
    if part == "..":
        return "_"
    kept = "".join("_" if c in _FORBIDDEN or not c.isprintable() else c for c in part)
    # Windows drops dots and spaces at the end, and so would make one file of two.
    kept = kept.encode("utf-8", "replace")[:_MAX_PART].decode("utf-8", "ignore").rstrip(" .")
    if not kept:
        return "_"
    return f"_{kept}" if kept.split(".")[0].strip().lower() in _DEVICES else kept


class UniqueNames:
    """Safe names for numbered images, no two alike."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        """`names` are all that may come: those that several images have get the numbers of these.

        Different names that would share one keep the endings of their files.
        """
        # Hashes take less memory. Where two names share one, the second gets its number.
        self._seen, self._shared, self._several = set[int](), set[int](), set[int]()
        given = set[int]()
        for name in names:
            if not (found := safe_name(name)):
                continue
            if (key := _key(name)) in given:
                self._several.add(key)
            elif not self._is_new(found):
                self._shared.add(_key(found))
            given.add(key)
        self._seen.clear()

    def __call__(self, number: int, name: str = "") -> str:
        """The safe name of an image, with its number where the name is not new, or is empty."""
        digits = f"{number:0{_DIGITS}d}"
        found = safe_name(name)
        if not found:
            found = f"{digits}.png"
        elif _key(name) in self._several:
            found = _numbered(found, digits)
        elif _key(found) in self._shared:
            found = safe_name(f"{name}.png")
        while not self._is_new(found):
            found = _numbered(found, digits)
        return found

    def _is_new(self, name: str) -> bool:
        key = _key(name)
        new = key not in self._seen
        self._seen.add(key)
        return new


def _numbered(name: str, digits: str) -> str:
    return f"{name.removesuffix('.png')}_{digits}.png"


def _key(name: str) -> int:
    # Some file systems take A.png and a.png for one file, or both ways to write an accented letter.
    folded = unicodedata.normalize("NFD", name).casefold()
    return hash(unicodedata.normalize("NFD", folded))
