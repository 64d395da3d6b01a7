"""What lies at a place: a pack, an array, a folder of images, ... The only module that decides it.

Content decides where it can. The ending decides for compressed archives and for what cannot be read; a
file without a known kind is a FILE, such as an image.
"""

from __future__ import annotations

import re
import zlib
from contextlib import suppress
from enum import Enum, auto

from cvae.bitstream import container
from cvae.bitstream.container import Container
from cvae.data import places, signatures
from cvae.data.places import Location, Place
from cvae.errors import FormatError

# A folder of packs has a manifest with this kind, or notes of an unfinished run, or at least a first pack.
MANIFEST, UNFINISHED, FIRST_PACK = "manifest.json", "unfinished.json", "part-00000.bin"
PACKS_KIND = "cvae shards"
RUN = "run.json"  # in the folder of a training run

HEAD = 512  # bytes that tell a file by its beginning
_ARRAYS = (".npz", ".npy")
_NPY = b"\x93NUMPY"
# idx, the format of MNIST: two zeros, a sample type and the number of axes; and how such files are called.
IDX = re.compile(rb"\0\0[\x08\x09\x0b-\x0e][\x01-\x04]")
_IDX_NAME = re.compile(r"[-.]idx[1-4]-ubyte(\.gz)?\Z")
_TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_ZIP, _EMPTY_ZIP = b"PK\x03\x04", b"PK\x05\x06"
_ZIP_NAME_SIZE, _ZIP_NAME = (
    slice(26, 28),
    30,
)  # where a ZIP archive has the name of its first member
_USTAR = 257  # where a tar archive says that it is one
# Which module reads what begins so; a Python may be without it.
GZIP = b"\x1f\x8b"
COMPRESSED = {GZIP: "gzip", b"BZh": "bz2", b"\xfd7zXZ\x00": "lzma"}


class What(Enum):
    """What can lie at a place."""

    NOTHING = auto()
    FOLDER = auto()  # of images, or of anything
    PACKS = auto()  # a folder of packs, finished or not
    RUN = auto()  # the folder of a training run
    PACK = auto()
    CONTAINER = auto()
    MODEL = auto()
    ARRAY = auto()  # .npz, .npy or idx, the latter two also gzipped
    TAR = auto()  # compressed or not
    ZIP = auto()
    FILE = auto()  # anything else: an image, a pipe, a file that cannot be read


# What messages call them.
_NOUNS = {
    What.PACK: "a pack", What.CONTAINER: "a container", What.MODEL: "a model", What.ARRAY: "an array",
    What.TAR: "a tar archive", What.ZIP: "a ZIP archive",
}  # fmt: skip


def other(expected: str, head: bytes, name: str = "") -> FormatError:
    """The error of a file that is not what was expected; its first `HEAD` bytes tell what it is."""
    image = signatures.image_format(head)
    found = f"an image ({image})" if image else "something else" if head else "an empty file"
    return FormatError(f"expected {expected}, found {_NOUNS.get(what_is(name, head), found)}")


def unpack(data: bytes) -> Container:
    """As `container.unpack`; the error of bytes that are no container tells what they are."""
    head = container.as_bytes(data)[:HEAD]
    if container.is_container(head):
        return container.unpack(data)
    raise other("a container", head)


def what_lies_at(place: str | Location) -> What:
    """What lies at a path or URL; pipes and devices are not read. Raises StorageError."""
    place = places.locate(place)
    if place.is_folder():
        return _folder(place)
    if not place.is_file():
        return What.FILE if place.exists() else What.NOTHING
    try:
        with place.open("rb") as file:
            what = what_is(place.name, file.read(HEAD))
            if what in (What.CONTAINER, What.FILE):
                file.seek(0)
                what = What.PACK if container.is_pack_file(file) else what
    except OSError:
        return what_is(place.name)  # whoever reads it says what is wrong
    return what


def what_is(name: str, head: bytes = b"") -> What:
    """What a file is by its name and its first `HEAD` bytes, as far as these tell.

    The name is empty for stdin; without bytes the name alone decides.
    """
    name = name.lower()
    # Before a container, whose first byte a name in an archive can have: some letters in UTF-8.
    if head.startswith(b"ustar", _USTAR):
        return What.TAR
    if container.is_container(head):
        return What.PACK if container.is_pack(head) else What.CONTAINER
    start = _gunzipped(head)
    if start.startswith(_NPY) or IDX.match(start) or _is_array(name):
        return What.ARRAY
    if head.startswith((_ZIP, _EMPTY_ZIP)):
        return _zip(name, head)
    if name.endswith(_TARS) or head.startswith(tuple(COMPRESSED)):
        return What.TAR
    if name.endswith(".zip"):
        return What.ZIP
    return What.MODEL if name.endswith(".cvae") else What.FILE


def _is_array(name: str) -> bool:
    return name.endswith(_ARRAYS) or _IDX_NAME.search(name) is not None


def _gunzipped(head: bytes) -> bytes:
    """The first bytes of what is in a gzipped file; those of any other are its own."""
    if not head.startswith(GZIP):
        return head
    with suppress(zlib.error):
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head, len(_NPY))
    return b""


def _zip(name: str, head: bytes) -> What:
    """What a ZIP archive is by the name of its first member: that of an array, of a model, or of images."""
    size = int.from_bytes(head[_ZIP_NAME_SIZE], "little")
    first = head[_ZIP_NAME : _ZIP_NAME + size]
    if first.endswith(b".npy"):
        return What.ARRAY
    return What.MODEL if first == b"manifest.json" or name.endswith(".cvae") else What.ZIP


def _folder(folder: Place) -> What:
    try:
        with (folder / MANIFEST).open("rb") as file:
            # A damaged manifest counts, too, as far as this can be seen.
            ours = PACKS_KIND.encode() in file.read(200)
    except OSError:
        ours = (folder / UNFINISHED).exists()
    if not ours:
        with suppress(OSError), (folder / FIRST_PACK).open("rb") as file:
            ours = container.is_pack_file(file)
    if ours:
        return What.PACKS
    return What.RUN if (folder / RUN).exists() else What.FOLDER
