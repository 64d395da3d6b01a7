"""`cvae info`: several files, folders, standard input, and the names of a pack."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ..conftest import ROOT, SAMPLES, blobs, run_cvae, run_here
from .test_packs import FAST, NAMES

MODEL = ROOT / "weights" / "linear-mnist.cvae"


@pytest.fixture(autouse=True)
def _in_an_empty_folder(workdir: Path) -> None:
    pass


def test_a_folder_of_containers_is_summed_up(capsys: pytest.CaptureFixture[str]) -> None:
    run_here("encode", SAMPLES, "-o", "coded", *FAST)
    run_here(
        "encode",
        SAMPLES / NAMES[0],
        "-o",
        "coded/other.bin",
        "-m",
        "linear-mnist",
        "-q",
        "80",
        "--quiet",
    )
    sizes = [path.stat().st_size for path in Path("coded").iterdir()]
    Path("coded/notes.txt").write_text("text")
    capsys.readouterr()
    run_here("info", "coded", "--json")
    said = capsys.readouterr()
    facts = json.loads(said.out)
    assert facts == {
        "kind": "folder of coded files", "containers": 11, "packs": 0, "unreadable": 0, "images": 11,
        "file_bytes": sum(sizes), "bytes_per_image": round(sum(sizes) / 11, 2),
        "models": {"mnist": 10, "linear-mnist": 1}, "qualities": {"50": 10, "80": 1},
    }  # fmt: skip
    assert "1 file that is no coded file was passed over: coded/notes.txt" in said.err
    run_here("pack", SAMPLES, "-o", "coded/x.bin", *FAST)
    data = Path("coded/digit_3.bin").read_bytes()
    Path("coded/digit_3.bin").write_bytes(data[:-1])
    capsys.readouterr()
    run_here("info", "coded", "--json", code=1)
    said = capsys.readouterr()
    facts = json.loads(said.out)
    assert [facts[key] for key in ("containers", "packs", "unreadable", "images")] == [10, 1, 1, 20]
    assert "cvae: error: coded/digit_3.bin: " in said.err


def test_a_model_is_described_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    run_here("info", "photo")
    lines = capsys.readouterr().out.splitlines()
    facts = dict(line.split("  ", 1) for line in lines if "  " in line.strip())
    assert facts["takes"].strip() == "any size RGB"
    assert "image shape" not in facts
    assert facts["99 % reach at quality 50"].endswith(" dB")
    assert "," in facts["file bytes"]
    run_here("info", "mnist")
    lines = capsys.readouterr().out.splitlines()
    assert not [line for line in lines if line.strip() in ("analysis", "refine", "augment")]
    run_here("info", "photo", "--json")
    facts = json.loads(capsys.readouterr().out)
    assert isinstance(facts["file_bytes"], int)
    assert facts["image_shape"] == [192, 192, 3]


def test_several_are_described_and_a_bad_one_costs_itself_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_here("encode", SAMPLES / NAMES[0], "-o", "a.bin", *FAST)
    run_here("info", "a.bin", "nowhere.bin", "mnist", code=1)
    said = capsys.readouterr()
    assert [block.split()[:2] for block in said.out.split("\n\n")] == [
        ["kind", "container"], ["kind", "model"],
    ]  # fmt: skip
    assert said.err == "cvae: error: nowhere.bin: no such file, and no model of that name\n"
    run_here("info", "a.bin", "mnist", "--json")
    assert [facts["kind"] for facts in json.loads(capsys.readouterr().out)] == [
        "container of one image", "model (codec)",
    ]  # fmt: skip


def test_standard_input_is_described_whatever_it_is() -> None:
    run_here("encode", SAMPLES / NAMES[0], "-o", "a.bin", *FAST)
    run_here("pack", SAMPLES, "-o", "x.bin", *FAST)
    for name in ("a.bin", "x.bin", str(MODEL)):
        facts = json.loads(run_cvae("info", "-", "--json", stdin=Path(name).read_bytes()).stdout)
        expected = json.loads(run_cvae("info", name, "--json").stdout)
        assert facts == expected | ({"file": "stdin"} if "file" in expected else {})
    said = run_cvae("info", "-", stdin=b"text", code=1).stderr
    assert b"cvae: error: stdin: expected a container, a pack or a model" in said
    damaged = run_cvae("info", "-", stdin=MODEL.read_bytes()[:-9], code=1).stderr
    assert damaged.startswith(b"cvae: error: stdin: expected a cvae model: ")


def test_all_names_of_a_pack_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    run_here("pack", SAMPLES, "-o", "x.bin", *FAST)
    run_here("info", "x.bin")
    assert "first of 10: --names lists all" in " ".join(capsys.readouterr().out.split())
    run_here("info", "x.bin", "--names")
    assert capsys.readouterr().out.splitlines() == NAMES
    run_here("info", "x.bin", "x.bin", "--names", "--json")
    assert json.loads(capsys.readouterr().out) == 2 * NAMES
    shutil.copytree(SAMPLES, "few")
    for name in NAMES[5:]:
        Path("few", name).unlink()
    run_here("pack", "few", "-o", "few.bin", *FAST)
    run_here("info", "few.bin")
    assert "--names" not in capsys.readouterr().out
    np.savez("in.npz", images=blobs(5, side=28)[..., 0])
    shutil.copytree(SAMPLES, "all")
    for inputs, shown in (
        (["all/digit_1.png", "in.npz", "all"], "names digit_1.png; first of 16: --names lists all"),
        (["in.npz", "all"], "names some of 15: --names lists all"),
    ):
        run_here("pack", *inputs, "-o", "mixed.bin", "--force", *FAST)
        run_here("info", "mixed.bin")
        assert shown in " ".join(capsys.readouterr().out.split())
    np.save("x.npy", np.zeros((2, 28, 28), np.uint8))
    run_here("pack", "x.npy", "-o", "y.bin", *FAST)
    run_here("info", "y.bin", "--names", code=1)
    assert capsys.readouterr().err.endswith("y.bin: has no names of images\n")


def test_of_a_damaged_pack_the_names_that_are_left_are_listed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("a", "b"):
        shutil.copytree(SAMPLES, f"in/{name}")
    run_here("pack", "in", "-o", "packs", "--shard-images", "10", *FAST)
    Path("packs/part-00000.bin").unlink()
    run_here("info", "packs", "--names", code=1)
    said = capsys.readouterr()
    assert said.out.splitlines() == [f"b/{name}" for name in NAMES]
    assert said.err == "cvae: error: packs: is damaged: names are missing\n"
    run_here("info", "packs", "--names", "--json", code=1)
    as_json = capsys.readouterr()
    assert (json.loads(as_json.out), as_json.err) == (said.out.splitlines(), said.err)


def test_what_has_several_fields_is_a_line_a_field(capsys: pytest.CaptureFixture[str]) -> None:
    run_here("info", "mnist")
    lines = capsys.readouterr().out.splitlines()
    at = lines.index("preset")
    fields = [line.split()[0] for line in lines[at + 1 :] if line.startswith("  ")]
    assert fields[:3] == ["name", "summary", "dataset"]
    assert all(len(line) <= 80 or line.startswith("file ") for line in lines)
