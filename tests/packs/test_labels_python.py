"""Labels that Python gives to a pack, and what it gets back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cvae
from cvae.data import labels
from cvae.errors import FormatError
from cvae.packs.layout import Block, Header

from ..conftest import blobs, run_here
from .test_labels import FAST, archive, png
from .test_layout import opened, written


def test_python_users_give_labels(workdir: Path) -> None:
    x = blobs(3, side=28)
    cases: list[tuple[Any, Any]] = [
        (np.array([[1], [2], [3]], np.uint8), [[1], [2], [3]]), ([4, np.int8(5), 6], [4, 5, 6]),
        (["a", {"b": None}, None], ["a", {"b": None}, None]), ([None] * 3, None), (iter("abc"), [*"abc"]),
        ([1, "a", 2], [1, "a", 2]), ([None, 1, {"cls": 2}], [None, 1, {"cls": 2}]),
        ([True, 1, [2]], [True, 1, [2]]), ([1, 2**70, -1], [1, 2**70, -1]),
    ]  # fmt: skip
    for value, expected in cases:
        cvae.encode_pack(x, "x.bin", "linear-mnist", verify=False, force=True, labels=value)
        with cvae.open_pack("x.bin") as pack:
            found = pack.labels
            found = found.tolist() if isinstance(found, np.ndarray) else found
            assert (found, [*map(type, found or ())]) == (expected, [*map(type, expected or ())])
    for bad in ([1, 2], 7, "abc", [1, 2, object()], [float("nan")] * 3, ["x" * 5000] * 3):
        with pytest.raises(cvae.CvaeError, match="label"):
            cvae.encode_pack(x, "y.bin", "linear-mnist", effort=0, labels=bad)
    assert not Path("y.bin").exists()


def test_labels_and_names_that_are_more_than_the_images_are_refused(workdir: Path) -> None:
    x, four = blobs(3, side=28), ["a", "b", "c", "d"]
    for images in (x, iter(x)):
        for what, more in (("name", {"names": four}), ("label", {"labels": iter([1, 2, 3, None])}),
                           ("label", {"labels": np.arange(4)})):  # fmt: skip
            message = f"expected a {what} for every image, found more"
            with pytest.raises(cvae.CvaeError, match=message):
                cvae.encode_pack(images, "x.bin", "linear-mnist", effort=0, **more)  # type: ignore[arg-type]
            images = x
    assert not Path("x.bin").exists()


def test_an_integer_for_each_image_is_an_array(workdir: Path) -> None:
    x, y = blobs(3, side=28), [4, 5, 2**40]
    cvae.encode_pack(x, "ints.bin", "linear-mnist", verify=False, labels=y)
    archive("cls.tar", {"0.png": png(0), "0.cls": b"4", "1.png": png(1), "1.cls": b"-5"})
    archive("both.tar", {"0.png": png(0), "0.cls": b"4", "1.png": png(1), "1.json": b'"a"'})
    for name in ("cls.tar", "both.tar"):
        run_here("pack", name, *FAST)
    for name, expected in (("ints.bin", [4, 5, 2**40]), ("cls.bin", [4, -5])):
        with cvae.open_pack(name) as pack:
            assert pack.labels.dtype == np.int64
            assert pack.labels.tolist() == expected
    with cvae.open_pack("both.bin") as pack:
        assert pack.labels == [4, "a"]


def test_labels_that_are_not_what_their_field_says_are_damage(workdir: Path) -> None:
    for values in ([1, 300], [1, "a"], [1, [2]], [1, 1.5], [1, {}]):
        block = Block(2, b"", labels=[{"y:uint8": value} for value in values])
        found = opened(written(Header(1, 50, labels=True), [block]))
        with pytest.raises(FormatError, match="no y:uint8"):
            labels.together(found.read(found.places[0]).labels or [])
