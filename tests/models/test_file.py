"""Model files and how they are found."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvae import kinds
from cvae.errors import ModelError, ModelNotFoundError
from cvae.models import registry
from cvae.models.file import Manifest, Model, read_manifest
from cvae.models.networks import Network
from cvae.training.export import linear

from ..conftest import ROOT, SHIPPED
from ..strategies import JSON

Edit = Callable[[dict[str, bytes]], None]


@pytest.fixture(autouse=True)
def no_extra_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CVAE_MODELS", raising=False)


def use(model: Path) -> None:
    """Everything that coding reads of a model."""
    opened = Model(model)
    assert opened.qualities
    kinds.verify(opened)


def edited(model: Path, folder: Path, edit: Edit, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(model) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    edit(members)
    path = folder / "edited.cvae"
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def manifest(**changes: object) -> Edit:
    def edit(members: dict[str, bytes]) -> None:
        values = json.loads(members["manifest.json"])
        members["manifest.json"] = json.dumps({**values, **changes}).encode()

    return edit


def arrays(**changes: np.ndarray) -> Edit:
    def edit(members: dict[str, bytes]) -> None:
        with np.load(io.BytesIO(members["tables.npz"])) as values:
            buffer = io.BytesIO()
            np.savez(buffer, **{**values, **changes})
        members["tables.npz"] = buffer.getvalue()

    return edit


def swap(members: dict[str, bytes]) -> None:
    members["analysis.onnx"] = members["synthesis.onnx"]


def garble(members: dict[str, bytes]) -> None:
    members["synthesis.onnx"] = b"no graph"


def lose(members: dict[str, bytes]) -> None:
    del members["tables.npz"]


def nest(members: dict[str, bytes]) -> None:
    values = json.loads(members["manifest.json"])
    text = json.dumps({**values, "data": {"name": "@"}})
    members["manifest.json"] = text.replace('"@"', "[" * 900 + "]" * 900).encode()


def without_hash(members: dict[str, bytes]) -> None:
    values = json.loads(members["manifest.json"])
    del values["hashes"]["analysis.onnx"]
    members["manifest.json"] = json.dumps(values).encode()


EDITS = {
    "later format": manifest(format=4),
    "another shape": manifest(image_shape=[8, 8, 2]),
    "huge shape": manifest(image_shape=[10**9, 10**9, 1]),
    "negative latents": manifest(latent_shape=[-4]),
    "other latents": manifest(latent_shape=[5]),
    "text for a number": manifest(id="1"),
    "no list": manifest(expected_psnr=3),
    "no name": manifest(name=None),
    "a path for a name": manifest(name="../x"),
    "text for numbers": manifest(expected_psnr=["x"] * 100),
    "no number": manifest(expected_psnr=[float("nan")] * 100),
    "a list of hashes": manifest(hashes=[]),
    "no hash of a graph": without_hash,
    "text among the figures": manifest(figures={"psnr_mean": "x"}),
    "a figure beyond floats": manifest(figures={"psnr_mean": 10**400}),
    "a huge figure": manifest(figures={"psnr_mean": 1e300}),
    "numbers beyond floats": manifest(expected_psnr=[10**400] * 100),
    "a number for data": manifest(data=5),
    "no data": manifest(data=None),
    "a list for data": manifest(data=[]),
    "a list of versions": manifest(versions=[]),
    "a list of figures": manifest(figures=[]),
    "a number for a preset": manifest(preset=5),
    "control characters": manifest(summary="\x1b[2J"),
    "lists in lists": nest,
    "lost member": lose,
    "swapped graphs": swap,
    "no graph": garble,
    "no scale": arrays(scale=np.zeros(100, np.float32)),
    "vanishing steps": arrays(step=np.full(4, 1e-45, np.float32)),
    "infinite steps": arrays(step=np.full(4, np.inf, np.float32)),
    "other steps": arrays(step=np.full(4, 2, np.float32)),
    "float tables": arrays(bank=np.zeros((3, 4))),
    "short index": arrays(index=np.zeros((3, 4), np.uint16)),
    "flat index": arrays(index=np.zeros(4, np.uint16)),
}


MNIST = json.loads(read_manifest(ROOT / "weights" / "mnist.cvae").to_json())


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
def test_a_model_that_was_tampered_with_is_refused_by_name(
    tiny_model: Path, tmp_path: Path, edit: Edit
) -> None:
    path = edited(tiny_model, tmp_path, edit)
    with pytest.raises(ModelError, match=r"edited\.cvae"):
        use(path)


@given(st.sampled_from(sorted(MNIST)), JSON)
def test_any_value_of_any_field_is_read_or_refused(name: str, value: object) -> None:
    try:
        found = Manifest.from_json(json.dumps({**MNIST, name: value}).encode())
    except ValueError as error:
        assert str(error)
    else:
        assert json.loads(found.to_json())[name] == value


def test_an_untouched_copy_is_accepted(tiny_model: Path, tmp_path: Path) -> None:
    use(edited(tiny_model, tmp_path, lambda members: None))


def test_deflated_members_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    path = edited(tiny_model, tmp_path, lambda members: None, zipfile.ZIP_DEFLATED)
    with pytest.raises(ModelError, match="stored"):
        use(path)


def test_truncated_models_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    data = tiny_model.read_bytes()
    path = tmp_path / "cut.cvae"
    for cut in range(0, len(data), len(data) // 50):
        path.write_bytes(data[:cut])
        with pytest.raises(ModelError, match=r"cut\.cvae"):
            use(path)


def test_flipped_bytes_are_refused_or_harmless(tiny_model: Path, tmp_path: Path) -> None:
    data = tiny_model.read_bytes()
    path = tmp_path / "flipped.cvae"
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(data), 100):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])
        try:
            use(path)  # a flipped time stamp hurts nobody
        except ModelError as error:
            assert "flipped.cvae" in str(error)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ModelError, match=r"nowhere\.cvae: cannot be read: No such file"):
        registry.open_model("nowhere.cvae")


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ModelNotFoundError, match=f"'moon'.*{', '.join(SHIPPED)}"):
        registry.open_model("moon")


def test_a_folder_of_pictures_does_not_hide_the_model_of_its_name(
    workdir: Path, tiny_model: Path
) -> None:
    Path("mnist").mkdir()
    Path("moon").mkdir()
    assert registry.open_model("mnist").path.parent == registry.shipped_folder()
    for name in ("moon", Path("mnist"), "./mnist"):
        with pytest.raises(ModelError, match=r"found none in this folder"):
            registry.open_model(name)
    shutil.copy(tiny_model, "mnist")
    assert registry.open_model("mnist").path.parent == Path("mnist")


def test_models_are_found_in_files_and_folders_of_the_search_path(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in (tiny_model, tiny_model.parent):
        monkeypatch.setenv("CVAE_MODELS", f"{place}:/nowhere")
        assert registry.open_model("tiny").path == tiny_model
        tiny_id = Model(tiny_model).manifest.id
        assert registry.find_by_id(tiny_id, kinds.codes).path == tiny_model


def test_two_models_with_one_id_are_ambiguous_and_a_copy_is_not(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_id = Model(tiny_model).manifest.id
    shutil.copy(tiny_model, tmp_path / "copy.cvae")
    monkeypatch.setenv("CVAE_MODELS", f"{tiny_model}:{tmp_path}")
    assert registry.find_by_id(tiny_id, kinds.codes)
    hashes = {**Model(tiny_model).manifest.hashes, "weights": "others"}
    edited(tiny_model, tmp_path, manifest(hashes=hashes))
    with pytest.raises(ModelNotFoundError, match=r"ambiguous.*tiny\.cvae and .*edited\.cvae"):
        registry.find_by_id(tiny_id, kinds.codes)


def test_a_broken_model_on_the_search_path_does_not_hide_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.cvae").write_bytes(b"broken")
    monkeypatch.setenv("CVAE_MODELS", str(tmp_path))
    assert registry.open_model("mnist")
    with pytest.raises(ModelNotFoundError, match=r"broken\.cvae"):
        registry.open_model("moon")


def test_a_place_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVAE_MODELS", "/nowhere")
    assert "/nowhere" in str(registry.known_models()[1][0])
    assert registry.open_model("mnist")


def test_one_model_under_two_names_is_not_ambiguous(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edited(tiny_model, tmp_path, manifest(name="other", versions={}))
    monkeypatch.setenv("CVAE_MODELS", f"{tiny_model}:{tmp_path}")
    assert registry.find_by_id(Model(tiny_model).manifest.id, kinds.codes).path == tiny_model
    assert registry.open_model("other").path == tmp_path / "edited.cvae"


def test_a_graph_with_weights_in_another_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx
    from onnx import TensorProto, helper

    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.bin").write_bytes(bytes(16))
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4])
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="secret.bin")
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["b", 4]) for n in ("x", "y")]
    node = helper.make_node("Add", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "g", value[:1], value[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert onnx.external_data_helper.uses_external_data(model.graph.initializer[0])
    with pytest.raises(ModelError, match="cannot be read"):
        Network(model.SerializeToString(), "g", [(4,)], (4,))


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_results_that_are_no_numbers_are_refused(number: float) -> None:
    graph = linear.analysis_graph(np.zeros(4, np.float32), np.eye(4, dtype=np.float32), (2, 2, 1))
    network = Network(graph, "g", [(2, 2, 1)], (4,))
    assert network(np.ones((3, 2, 2, 1), np.float32)).shape == (3, 4)
    with pytest.raises(ModelError, match="not finite"):
        network(np.full((3, 2, 2, 1), number, np.float32))
    with pytest.raises(ModelError, match="expected float32"):
        Network(graph, "g", [(2, 2, 1)], (5,))(np.ones((3, 2, 2, 1), np.float32))


def test_shipped_models_have_unique_ids_and_the_names_of_their_files() -> None:
    entries, errors = registry.known_models()
    assert not errors
    assert len({entry.manifest.id for entry in entries}) == len(entries) >= 3
    assert all(entry.path.stem == entry.manifest.name for entry in entries)
