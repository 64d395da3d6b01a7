"""Files of several pages: TIFF stacks, animations, photographs of several pictures."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from PIL import Image

from cvae.data import images
from cvae.errors import ImageError, Notice, first_line

_DIGITS, _DIGITS_OF_MANY = 3, 9  # of a page's number, at least
# What the files of formats that can have several pages begin with, and what those have near their beginning.
_SEVERAL = {
    b"GIF8": b"", b"II": b"", b"MM": b"", b"\x89PNG": b"acTL", b"RIFF": b"ANIM", b"\xff\xd8": b"MPF\0",
    b"\0\0\0": b"ftypavis",
}  # fmt: skip
_NEAR = 1 << 16
# Pages that are counted one by one, and bytes of a GIF, which is read whole for it.
_MOST, _MOST_BYTES = 10_000, 1 << 23


def count(data: bytes) -> int:
    """How many pages an image file has, at least; 1 of what cannot be opened."""
    if not any(data.startswith(start) and mark in data[:_NEAR] for start, mark in _SEVERAL.items()):
        return 1
    try:
        return _count(images.open_image(data, ""), len(data))
    except ImageError:
        return 1


def _count(image: Image.Image, size: int) -> int:
    pages = 1
    try:
        if not getattr(image, "is_animated", False):
            return 1
        if image.format == "TIFF":
            for pages in range(1, _MOST):
                image.seek(pages)
            return _MOST
        if image.format == "GIF" and size > _MOST_BYTES:
            return _MOST
        return min(_MOST, int(image.n_frames))
    except Exception:  # of any kind: no page follows, or a damaged one
        return pages


def notice(pages: int, name: str) -> Notice:
    """What is said where the first of several pages is taken."""
    text = f"the first of {pages:,} pages{' or more' if pages == _MOST else ''}"
    return Notice(text, where=name, advice="`cvae pack --pages` takes all")


def opened(data: bytes, name: str) -> Iterator[tuple[str, Image.Image | ImageError]]:
    """The number of every page and the opened image at that page; it moves on to the next.

    A page that is too large is an error, and so is a damaged one, behind which there are no others.
    Raises ImageError when the file cannot be opened.
    """
    image, pages = images.open_image(data, name), count(data)
    digits = _DIGITS_OF_MANY if pages == _MOST else max(_DIGITS, len(str(pages - 1)))
    for page in itertools.count():
        number = f"{page:0{digits}}"  # all as long, and so in order
        where = f"{name}/{number}"
        try:
            image.seek(page)
            images.check_pixels(image, where)
        except EOFError:
            if page < pages < _MOST:
                text = f"expected {pages:,} pages, found {page:,}"
                yield number, ImageError(text, where=name)
            return
        except ImageError as error:
            yield number, error
        except Exception as error:  # of any kind: Pillow's readers have no common base class
            text = f"the page is damaged, and no other is read: {first_line(error)}"
            yield number, ImageError(text, where=where)
            return
        else:
            yield number, image


def file_of(name: str) -> str:
    """The name of the file that a page's name is of; empty for other names."""
    above, _, number = name.rpartition("/")
    return above if number.isascii() and number.isdigit() and len(number) >= _DIGITS else ""
