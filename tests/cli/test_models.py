"""`cvae models`: the list, and models that people add and remove."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvae import kinds
from cvae.errors import ModelError, ModelNotFoundError, OutputError
from cvae.models import registry
from cvae.models.file import Model
from cvae.models.registry import Entry

from ..conftest import ROOT, SHIPPED, run_cvae, run_here
from ..models.test_file import EDITS, Edit, edited, manifest


@pytest.fixture(autouse=True)
def added(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, and a home without added models."""
    monkeypatch.setenv("CVAE_HOME", str(workdir / "home"))
    return workdir / "home" / "models"


def added_model(source: Path, force: bool = False) -> Entry:
    return registry.add(source, kinds.verify, force)


def listed() -> list[str]:
    return [entry.manifest.name for entry in kinds.known_models()[0]]


def test_an_added_model_is_listed_decodes_and_can_be_removed(tiny_run: Path, added: Path) -> None:
    """As people do it: train a model, add its run, use it by its name."""
    Image.fromarray(np.zeros((8, 8), np.uint8)).save("x.png")
    path = added / "tiny.cvae"
    assert str(path).encode() in run_cvae("models", "add", tiny_run).stderr
    run_cvae("encode", "x.png", "-m", "tiny", "--quiet")
    run_cvae("decode", "x.bin")
    assert f"    added: {path}\n" in run_cvae("models").stdout.decode()
    assert json.loads(run_cvae("models", "--json").stdout)[-1]["path"] == str(path)
    run_cvae("models", "remove", "tiny")
    assert b"no model of id" in run_cvae("decode", "x.bin", "--force", code=1).stderr
    assert list(added.iterdir()) == []


def test_without_added_models_there_is_no_folder_and_no_warning(added: Path) -> None:
    result = run_cvae("models")
    assert b"warning" not in result.stderr
    assert not added.exists()
    assert listed() == SHIPPED


@pytest.mark.parametrize("name", [None, "tiny"])
def test_the_list_fits_into_eighty_columns(name: str | None, tiny_model: Path) -> None:
    if name:
        added_model(tiny_model)
    lines = run_cvae("models").stdout.decode().splitlines()
    assert max(len(line) for line in lines if "/" not in line) <= 80
    assert sum("*" in line for line in lines) == 1


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
def test_a_damaged_model_is_not_added(
    edit: Edit, tiny_model: Path, tmp_path: Path, added: Path
) -> None:
    with pytest.raises(ModelError, match=r"edited\.cvae"):
        added_model(edited(tiny_model, tmp_path, edit))
    assert not added.exists()


def test_a_gradient_that_is_damaged_is_seen(tiny_hq_model: Path, tmp_path: Path) -> None:
    def cut(members: dict[str, bytes]) -> None:
        members["gradient.onnx"] = members["gradient.onnx"][:-1]

    added_model(tiny_hq_model)
    with pytest.raises(ModelError, match=r"edited\.cvae: gradient\.onnx"):
        added_model(edited(tiny_hq_model, tmp_path, cut), force=True)


def test_the_same_name_again_needs_force(tiny_model: Path, added: Path) -> None:
    added_model(tiny_model)
    with pytest.raises(OutputError, match=r"tiny\.cvae: exists already"):
        added_model(tiny_model)
    retrained = edited(tiny_model, Path(), manifest(id=7, summary="trained again"))
    path, _ = added_model(retrained, force=True)
    assert path == added / "tiny.cvae"
    assert registry.find_by_id(7, kinds.codes).manifest.summary == "trained again"


def test_an_id_of_another_model_is_refused_even_with_force(tiny_model: Path, added: Path) -> None:
    mnist = registry.open_model("mnist").manifest
    twin = edited(tiny_model, Path(), manifest(id=mnist.id))
    with pytest.raises(ModelError, match=f"its id {mnist.id:#06x} is that of .* mnist"):
        added_model(twin, force=True)
    added_model(tiny_model)
    other = manifest(name="other", hashes={**Model(tiny_model).manifest.hashes, "weights": "x"})
    with pytest.raises(ModelError, match=r"is that of another model, tiny \(.*tiny\.cvae\)"):
        added_model(edited(tiny_model, Path(), other), force=True)
    assert [path.name for path in added.iterdir()] == ["tiny.cvae"]


def test_a_name_of_another_model_is_refused_even_with_force(tiny_model: Path) -> None:
    with pytest.raises(ModelError, match=r"named mnist already.*--name"):
        added_model(edited(tiny_model, Path(), manifest(name="mnist")), force=True)


def test_shipped_models_are_neither_added_nor_removed(added: Path) -> None:
    shipped = ROOT / "weights" / "linear-mnist.cvae"
    with pytest.raises(ModelError, match="is the shipped model linear-mnist"):
        added_model(shipped)
    with pytest.raises(ModelNotFoundError, match=r"'mnist'; .*mnist\.cvae was not added"):
        registry.remove("mnist")
    assert shipped.exists()
    assert not added.exists()


def test_a_model_of_the_search_path_can_be_added(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CVAE_MODELS", str(tiny_model))
    path, found = added_model(tiny_model)
    assert listed().count("tiny") == 1
    monkeypatch.delenv("CVAE_MODELS")
    assert registry.find_by_id(found.id, kinds.codes).path == path


@pytest.mark.parametrize("name", ["../x", "x/../../x", "", "/x", "x"])
def test_only_names_are_removed(name: str, added: Path) -> None:
    added.mkdir(parents=True)
    Path("x.cvae").touch()
    (added.parent / "x.cvae").touch()
    with pytest.raises(ModelNotFoundError, match="has added no model named"):
        registry.remove(name)
    assert Path("x.cvae").exists()
    assert (added.parent / "x.cvae").exists()


def test_an_added_model_that_cannot_be_read_is_named_and_can_be_removed(added: Path) -> None:
    added.mkdir(parents=True)
    (added / "later.cvae").write_bytes(b"of a later version")
    (added / ".cvae-half-written.cvae").write_bytes(b"of a copy that was killed")
    warning = run_cvae("models").stderr.decode().splitlines()[0]
    assert warning.startswith("cvae: warning: ")
    assert "later.cvae" in warning
    registry.remove("later")
    assert not registry.known_models()[1]


def test_a_missing_file_and_an_empty_folder_are_one_line() -> None:
    Path("empty").mkdir()
    for name in ("nowhere.cvae", "empty"):
        lines = run_cvae("models", "add", name, code=1).stderr.decode().splitlines()
        assert len(lines) == 1
        assert lines[0].startswith(f"cvae: error: {name}: ")


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="they have places of their own")
def test_added_models_lie_where_the_system_keeps_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CVAE_HOME")
    monkeypatch.setenv("HOME", "/home/ada")
    for unset in ("", "relative"):
        monkeypatch.setenv("XDG_DATA_HOME", unset)
        assert registry.added_folder() == Path("/home/ada/.local/share/cvae/models")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert registry.added_folder() == Path("/data/cvae/models")


def test_a_copy_that_fails_leaves_nothing(
    tiny_model: Path, added: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, target: Path) -> None:
        Path(target).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(OutputError, match=r"tiny\.cvae: cannot be written: No space"):
        added_model(tiny_model)
    assert list(added.iterdir()) == []


def test_info_fits_into_eighty_columns(tiny_model: Path) -> None:
    lines = run_cvae("info", tiny_model).stdout.decode().splitlines()
    assert max(len(line) for line in lines if not line.startswith("file ")) <= 80
    assert any(line.split() in (["name", "tiny"], ["name:", "tiny"]) for line in lines[5:])


def test_info_prints_what_a_manifest_says_harmlessly(tiny_model: Path) -> None:
    path = edited(tiny_model, Path(), manifest(data={"name": "\x1b[2J\nid  0x0001", "n": ["\x07"]}))
    text = run_cvae("info", path).stdout.decode()
    assert "name: \\x1b[2J\\nid 0x0001, n: \\x07" in " ".join(text.split())
    assert all(line.isprintable() for line in text.splitlines())


def test_info_takes_the_folder_of_a_run_as_other_commands_do(tiny_model: Path) -> None:
    folder = tiny_model.parent
    assert run_cvae("info", folder).stdout == run_cvae("info", tiny_model).stdout
    Path("empty").mkdir()
    assert b"empty: expected .cvae files" in run_cvae("info", "empty", code=1).stderr


def test_a_name_that_no_file_can_have_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    run_here("sample", "-m", "x" * 300, code=2)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("cvae: error: there is no model named 'xxx")
