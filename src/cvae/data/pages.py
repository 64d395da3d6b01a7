"""Files of several pages: TIFF stacks, animations, photographs of several pictures."""

from __future__ import annotations

from collections.abc import Iterator

from PIL import Image

from cvae.data import images
from cvae.errors import ImageError, Notice, first_line

_DIGITS = 3  # of a page's number, at least
# What the files of formats that can have several pages begin with, and what those have near their beginning.
_SEVERAL = {
    b"GIF8": b"", b"II": b"", b"MM": b"", b"\x89PNG": b"acTL", b"RIFF": b"ANIM", b"\xff\xd8": b"MPF\0",
}  # fmt: skip
_NEAR = 1 << 16


def count(data: bytes) -> int:
    """How many pages an image file has, as far as they can be counted; 1 of what cannot be opened."""
    if not any(data.startswith(start) and mark in data[:_NEAR] for start, mark in _SEVERAL.items()):
        return 1
    try:
        return _count(images.open_image(data, ""))
    except ImageError:
        return 1


def _count(image: Image.Image) -> int:
    try:
        return max(1, getattr(image, "n_frames", 1))
    except Exception:  # of any kind: a damaged page after the first
        return 1


def notice(pages: int, name: str) -> Notice:
    """What is said where the first of several pages is taken."""
    return Notice(
        f"the first of {pages:,} pages", where=name, advice="`cvae pack --pages` takes all"
    )


def opened(data: bytes, name: str) -> Iterator[tuple[str, Image.Image | ImageError]]:
    """The number of every page and the opened image at that page; it moves on to the next.

    A page that cannot be opened is an error. Raises ImageError when the file cannot be.
    """
    image = images.open_image(data, name)
    pages = _count(image)
    digits = max(_DIGITS, len(str(pages - 1)))
    for page in range(pages):
        number = f"{page:0{digits}}"  # all as long, and so in order
        where = f"{name}/{number}"
        try:
            image.seek(page)
            images.check_pixels(image, where)
        except ImageError as error:
            yield number, error
        except Exception as error:  # of any kind: Pillow's readers have no common base class
            yield number, ImageError(f"the page is damaged: {first_line(error)}", where=where)
        else:
            yield number, image


def file_of(name: str) -> str:
    """The name of the file that a page's name is of; empty for other names."""
    above, _, number = name.rpartition("/")
    return above if number.isascii() and number.isdigit() and len(number) >= _DIGITS else ""
