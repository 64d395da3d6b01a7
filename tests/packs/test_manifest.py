"""The manifest of a folder of packs, and the notes that it is made of."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvae.options import Tally
from cvae.packs.manifest import Manifest, Part, note_name, numbered, read_note

COUNT = st.integers(0, 2**40)
PART = Part(
    file="part-00000.bin", request="asked", images=3, file_bytes=90, sha256="0" * 64, left_out=1,
    messages=("x.png: damaged",), first=0, verified=3, psnr_sum=61.5, poor=2, poor_sampled=2,
    poor_inverted=1,
)  # fmt: skip


def part(ordinal: int, tally: Tally) -> Part:
    return replace(PART, file=f"part-{ordinal:05d}.bin", **vars(tally))


MANIFEST = Manifest(
    "mnist", 7, 50, False, True,
    numbered([PART, part(1, Tally(images=1, file_bytes=40))]),
    {"sources": ["a", "b"], "split": None},
)  # fmt: skip
TEXT = """{
 "kind": "cvae shards",
 "format": 0,
 "model": "mnist",
 "model_id": 7,
 "quality": 50,
 "inverted": false,
 "fitted": true,
 "request": {
  "sources": [
   "a",
   "b"
  ],
  "split": null
 },
 "images": 4,
 "file_bytes": 130,
 "left_out": 1,
 "psnr_mean": 20.5,
 "shards": [
  {
   "file": "part-00000.bin",
   "request": "asked",
   "images": 3,
   "file_bytes": 90,
   "sha256": "0000000000000000000000000000000000000000000000000000000000000000",
   "left_out": 1,
   "messages": [
    "x.png: damaged"
   ],
   "first": 0,
   "verified": 3,
   "psnr_sum": 61.5,
   "poor": 2,
   "poor_sampled": 2,
   "poor_inverted": 1
  },
"""


def test_a_manifest_is_written_as_ever() -> None:
    data = MANIFEST.to_json()
    assert data.decode().startswith(TEXT)
    assert Manifest.from_json(data) == MANIFEST
    assert Manifest.from_json(data).to_json() == data


@given(st.lists(st.builds(Tally, images=COUNT, verified=COUNT, poor=COUNT), max_size=5))
def test_a_manifest_sums_its_shards(tallies: list[Tally]) -> None:
    manifest = replace(MANIFEST, shards=numbered([part(i, t) for i, t in enumerate(tallies)]))
    assert manifest.tally.images == sum(tally.images for tally in tallies)
    assert manifest.tally.poor == sum(tally.poor for tally in tallies)
    again = Manifest.from_json(manifest.to_json())
    assert again == manifest
    assert [part.first for part in again.shards] == [
        sum(tally.images for tally in tallies[:i]) for i in range(len(tallies))
    ]


def test_a_note_is_read_again(tmp_path: Path) -> None:
    (tmp_path / note_name(PART.file)).write_bytes(PART.to_json())
    assert read_note(tmp_path, PART.file) == PART


@pytest.mark.parametrize(
    "changes",
    [
        *({name: None} for name in json.loads(PART.to_json())),
        {"file": "../part-00000.bin"}, {"sha256": "x"}, {"images": True}, {"verified": 2**48},
        {"psnr_sum": float("nan")}, {"psnr_sum": 10**400}, {"first": -1}, {"messages": [3]},
        {"file": "part-00000.bin\n"},
    ],
)  # fmt: skip
def test_a_damaged_note_is_none(tmp_path: Path, changes: dict[str, Any]) -> None:
    values = {**json.loads(PART.to_json()), **changes}
    (tmp_path / note_name(PART.file)).write_text(json.dumps(values))
    assert read_note(tmp_path, PART.file) is None


@pytest.mark.parametrize("name", json.loads(PART.to_json()))
def test_every_field_of_a_shard_is_needed(name: str) -> None:
    values = json.loads(MANIFEST.to_json())
    del values["shards"][1][name]
    with pytest.raises(ValueError, match=rf"required field `{name}` - at `\$\.shards\[1\]`$"):
        Manifest.from_json(json.dumps(values).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b"3", b"[" * 9999, b'{"format": 1}', b"\xff"])
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        Manifest.from_json(data)
