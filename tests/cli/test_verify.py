"""`cvae verify`: damage of any file, and coded images against their originals."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ..conftest import ROOT, SAMPLES, run_here
from .test_packs import FAST, NAMES, errors

MODEL = ROOT / "weights" / "linear-mnist.cvae"


@pytest.fixture(autouse=True)
def _in_an_empty_folder(workdir: Path) -> None:
    pass


def flipped(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def found(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, object]:
    """The one result that `--json` prints."""
    capsys.readouterr()
    run_here("verify", *arguments, "--json", code=code)
    (result,) = json.loads(capsys.readouterr().out)
    assert isinstance(result, dict)
    return result


def test_whole_files_of_every_kind_are_whole(capsys: pytest.CaptureFixture[str]) -> None:
    run_here("encode", SAMPLES, "-o", "coded", *FAST)
    run_here("pack", SAMPLES, "-o", "x.bin", *FAST)
    run_here("pack", SAMPLES, "-o", "packs", "--shard-images", "4", *FAST)
    shutil.copy(MODEL, "coded/mine.cvae")
    files = ["coded/digit_0.bin", "x.bin", "packs", "coded/mine.cvae", "coded"]
    capsys.readouterr()
    run_here("verify", *files)
    said = capsys.readouterr()
    kinds = ["container", "pack", "folder of packs", "model", "11 files"]
    assert said.out.splitlines() == [
        f"{file}: {kind}, whole" for file, kind in zip(files, kinds, strict=True)
    ]
    assert said.err == ""


def test_damage_of_every_kind_is_named_and_the_exit_code_is_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_here("encode", SAMPLES, "-o", "coded", *FAST)
    run_here("pack", SAMPLES, "-o", "x.bin", *FAST)
    run_here("pack", SAMPLES, "-o", "packs", "--shard-images", "4", *FAST)
    shutil.copy(MODEL, "mine.cvae")
    flipped(Path("coded/digit_3.bin"), 7)
    flipped(Path("x.bin"), 60)
    Path("packs/part-00001.bin").unlink()
    flipped(Path("mine.cvae"), MODEL.stat().st_size // 2)
    coded = found(capsys, "coded", code=1)
    assert (coded["file"], coded["kind"]) == ("coded", "1 of 10 files")
    assert str(coded["damage"]).startswith("['coded/digit_3.bin: damaged: ")
    assert "images 0 to 9" in str(found(capsys, "x.bin", code=1)["damage"])
    assert "part-00001.bin: is missing" in str(found(capsys, "packs", code=1)["damage"])
    assert found(capsys, "mine.cvae", code=1)["damage"]
    capsys.readouterr()
    run_here("verify", "coded", "x.bin", "packs", "mine.cvae", "coded/digit_0.bin", code=1)
    said = capsys.readouterr()
    states = [line.rsplit(", ", 1)[1] for line in said.out.splitlines()]
    assert states == ["damaged"] * 4 + ["whole"]
    lines = said.err.splitlines()
    assert [line.split(": ")[2] for line in lines] == [
        "coded/digit_3.bin", "x.bin", "packs", "mine.cvae",
    ]  # fmt: skip


def test_what_is_missing_or_nothing_of_ours_is_an_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("empty").mkdir()
    Path("text.bin").write_text("text")
    run_here("verify", "nowhere", "empty", "text.bin", code=1)
    lines = errors(capsys)
    assert lines[0] == "cvae: error: nowhere: there is no such file or folder"
    assert lines[1].startswith("cvae: error: empty: expected .bin or .cvae files")
    assert lines[2].startswith("cvae: error: text.bin: expected a container, found something else")
    assert found(capsys, "text.bin", code=1)["kind"] == "unknown kind of file"


def test_a_run_without_a_model_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    Path("run").mkdir()
    Path("run/run.json").write_text("{}")
    run_here("verify", "run", code=1)
    assert "expected a .cvae file, found a training run without one" in capsys.readouterr().err


def test_a_container_without_its_model_is_no_damage(
    tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(np.zeros((8, 8), np.uint8)).save("x.png")
    run_here("encode", "x.png", "-m", tiny_model, *FAST)
    run_here("verify", "x.bin")
    assert "warning: x.bin: only the check sum was looked at: there is no model of id" in (
        capsys.readouterr().err
    )
    run_here("verify", "x.bin", "-m", tiny_model)
    assert capsys.readouterr().err == ""


def test_packs_and_single_files_give_the_same_figures_against_their_originals(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_here("encode", SAMPLES, "-o", "coded", *FAST)
    run_here("pack", SAMPLES, "-o", "x.bin", *FAST)
    originals = ["--against", str(SAMPLES)]
    single, pack = (found(capsys, file, *originals) for file in ("coded", "x.bin"))
    for figure in ("images", "quality", "model", "psnr_mean", "ssim_mean", "warned", "missing"):
        assert single[figure] == pack[figure], figure
    assert single["images"] == 10
    sizes = [path.stat().st_size for path in Path("coded").iterdir()]
    assert single["file_bytes_mean"] == np.mean(sizes)
    one = found(capsys, "coded/digit_3.bin", "--against", str(SAMPLES / NAMES[3]))
    assert one["images"] == 1
    capsys.readouterr()
    run_here("verify", "x.bin", *originals)
    assert f"PSNR                    {pack['psnr_mean']:.2f} dB" in capsys.readouterr().out


def test_figures_name_their_model_and_the_originals_as_they_were_typed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(SAMPLES, "in")
    run_here("encode", "in/digit_0.png", "in/digit_1.png", "-o", "coded/", *FAST)
    run_here("encode", "in/digit_2.png", "-o", "coded/", "-m", "linear-mnist", *FAST)
    run_here("encode", "in/digit_3.png", "-o", "coded/", "-m", "linear-mnist", "-q", "9", *FAST)
    capsys.readouterr()
    run_here("verify", "coded", "--against", "in/", code=1)
    titles = [line for line in capsys.readouterr().out.splitlines() if line.startswith("coded")]
    assert titles == [
        "coded against in/: 2 images, model mnist, quality 50",
        "coded against in/: 2 images, model linear-mnist, several qualities",
    ]
    run_here("verify", "coded/digit_0.bin", "--against", "in/digit_0.png")
    title = "coded/digit_0.bin against in/digit_0.png: 1 image, model mnist, quality 50"
    assert capsys.readouterr().out.startswith(f"{title}\n")


def test_images_without_an_original_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    run_here("encode", SAMPLES, "-o", "coded", *FAST)
    flipped(Path("coded/digit_3.bin"), 7)
    Path("some").mkdir()
    for name in NAMES[:5]:
        shutil.copy(SAMPLES / name, "some")
    run_here("verify", "coded", "--against", "some", "--json", code=1)
    said = capsys.readouterr()
    (result,) = json.loads(said.out)
    assert (result["images"], result["missing"], result["lost"]) == (4, 5, 1)
    assert "coded/digit_3.bin" in said.err
    assert (
        "error: some: has no original that can be read of 5 coded images: digit_5.bin, " in said.err
    )
    run_here("verify", "coded", "--against", "nowhere", code=1)


def test_a_split_chooses_the_originals(
    digits: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    run_here("pack", "digits.npz", "--split", "train", "-o", "x.bin", *FAST)
    result = found(capsys, "x.bin", "--against", "digits.npz", "--split", "train")
    assert (result["images"], result["split"], result["dataset"]) == (3, "train", "digits")
    run_here("verify", "x.bin", "--against", "digits.npz", code=1)
    assert "expected 3 images, as many as were coded" in errors(capsys)[-1]


def test_of_two_originals_of_one_stem_none_is_guessed(capsys: pytest.CaptureFixture[str]) -> None:
    Path("in").mkdir()
    for name, digit in (("a.png", 1), ("a.bmp", 2), ("b.png", 3)):
        with Image.open(SAMPLES / NAMES[digit]) as image:
            image.save(f"in/{name}")
    run_here("encode", "in", "-o", "coded", *FAST)
    assert sorted(path.name for path in Path("coded").iterdir()) == [
        "a.bmp.bin", "a.png.bin", "b.bin",
    ]  # fmt: skip
    whole = found(capsys, "coded", "--against", "in")
    assert (whole["images"], whole["missing"]) == (3, 0)
    Path("coded/a.bmp.bin").unlink()
    Path("coded/a.png.bin").rename("coded/a.bin")
    run_here("verify", "coded", "--against", "in", "--json", code=1)
    said = capsys.readouterr()
    (result,) = json.loads(said.out)
    assert (result["images"], result["missing"]) == (1, 1)
    first, second = said.err.splitlines()
    assert "coded/a.bin: expected one original of this name in in, found a.bmp, a.png" in first
    assert second.endswith("in: has no original that can be read of 1 coded image: a.bin")
    assert found(capsys, "coded/a.bin", "--against", "in/a.png")["images"] == 1


def test_originals_that_no_file_has_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    run_here("encode", SAMPLES, "-o", "coded", *FAST)
    for name in NAMES[2:6]:
        Path("coded", name).with_suffix(".bin").unlink()
    run_here("pack", *(SAMPLES / name for name in NAMES[:5]), "-o", "x.bin", *FAST)
    originals = ["--against", str(SAMPLES)]
    capsys.readouterr()
    run_here("verify", "coded", *originals, code=1)
    said = "there is no coded image of 4 originals: digit_2.png, digit_3.png, digit_4.png, ..."
    assert errors(capsys) == [f"cvae: error: {SAMPLES}: {said}"]
    assert found(capsys, "x.bin", *originals, code=1)["uncoded"] == 5
    run_here("verify", "coded", "x.bin", *originals, code=1)
    assert "no coded image of 1 original: digit_5.png" in capsys.readouterr().err
    assert found(capsys, "coded/digit_0.bin", *originals)["uncoded"] == 9
    run_here("encode", SAMPLES / NAMES[5], "-o", "coded/", *FAST)
    run_here("verify", "coded", "x.bin", *originals)
    # What was coded and is damaged is lost, and not without a coded image.
    flipped(Path("coded/digit_5.bin"), 7)
    run_here("verify", "coded", "x.bin", *originals, code=1)
    assert "there is no coded image" not in capsys.readouterr().err


def test_names_decide_where_there_are_several_containers(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_here("encode", *(SAMPLES / name for name in NAMES[:3]), "-o", "coded/", *FAST)
    one = ("--against", str(SAMPLES / NAMES[1]))
    result = found(capsys, "coded", *one, code=1)
    assert (result["images"], result["missing"]) == (1, 2)
    run_here("verify", "coded/digit_0.bin", "coded/digit_1.bin", *one, code=1)
    assert errors(capsys)[-1].endswith("has none of the images that were coded, and are whole")
    assert found(capsys, "coded/digit_0.bin", *one)["images"] == 1  # a single one has any name


def test_an_original_of_another_size_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("in").mkdir()
    for name in NAMES[:3]:
        with Image.open(SAMPLES / name) as image:
            image.resize((60, 40) if name == NAMES[0] else image.size).save(f"in/{name}")
    run_here("encode", "in", "-o", "coded", "--fit", "-m", "mnist", *FAST)
    assert found(capsys, "coded", "--against", "in")["images"] == 3
    for number in range(2):
        Image.new("L", (50, 40)).save(f"in/{NAMES[number]}")
    run_here("verify", "coded", "--against", "in", "--json", code=1)
    said = capsys.readouterr()
    (result,) = json.loads(said.out)
    assert (result["images"], result["missing"]) == (1, 2)
    assert "digit_0.png: expected 60x40 of 1 channels, as it was coded, found 50x40" in said.err
    assert "digit_1.png: expected 28x28 of 1 channels, as it was coded, found 50x40" in said.err


def test_originals_are_listed_once_for_all_files(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from cvae.data import listing

    listed: list[int] = []
    images = listing.images
    monkeypatch.setattr(listing, "images", lambda *given: listed.append(1) or images(*given))
    shutil.copytree(SAMPLES, "in")
    Path("in/lost.png").symlink_to("nowhere")
    run_here("pack", SAMPLES, "-o", "x.bin", *FAST)
    run_here("encode", SAMPLES, "-o", "coded", *FAST)
    listed.clear()
    capsys.readouterr()
    run_here("verify", "x.bin", "coded", "coded/digit_0.bin", "--against", "in", code=1)
    (line,) = errors(capsys)
    assert "in/lost.png" in line
    assert len(listed) == 1


def test_what_an_archive_holds_besides_originals_is_said_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("notes.txt").write_text("text")
    with zipfile.ZipFile("in.zip", "w") as archive:
        archive.write("notes.txt")
        for name in NAMES:
            archive.write(SAMPLES / name, name)
            archive.writestr(f"{name[:-4]}.cls", "7")
        archive.writestr("more.json", "{}")
    run_here("pack", SAMPLES, "-o", "x.bin", *FAST)
    capsys.readouterr()
    Path("there").mkdir()
    run_here("verify", "x.bin", "x.bin", "--against", "there/../in.zip")
    (line,) = capsys.readouterr().err.splitlines()
    names = "there/../in.zip: notes.txt, there/../in.zip: more.json"  # as it was typed
    assert line == f"cvae: warning: 2 files that are no images were passed over: {names}"


def test_what_is_none_of_ours_is_not_called_damaged(capsys: pytest.CaptureFixture[str]) -> None:
    Path("notes.txt").write_text("text")
    np.save("x.npy", np.zeros((2, 2)))
    expected = {
        "notes.txt": "something else", "x.npy": "an array", str(SAMPLES / NAMES[0]): "an image (PNG)",
    }  # fmt: skip
    for name, what in expected.items():
        run_here("verify", name, code=1)
        said = capsys.readouterr()
        assert said.out == f"{name}: unknown kind of file, not checked\n"
        text = "expected a container, a pack or a model, found"
        assert said.err == f"cvae: error: {name}: {text} {what}\n"


def test_containers_are_decoded_once_and_few_are_held(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from cvae.codec import Codec
    from cvae.evaluation import containers

    run_here("encode", SAMPLES, "-o", "coded", *FAST)
    expected = found(capsys, "coded", "--against", str(SAMPLES))
    payloads, batches = [], []
    decode, synthesize = Codec.decode_payload, Codec.to_pixels
    monkeypatch.setattr(containers, "BATCH_PIXELS", 3 * 28 * 28)
    monkeypatch.setattr(
        Codec, "decode_payload", lambda self, item: payloads.append(item) or decode(self, item)
    )
    monkeypatch.setattr(
        Codec, "to_pixels", lambda self, y, *t: batches.append(len(y)) or synthesize(self, y, *t)
    )
    result = found(capsys, "coded", "--against", str(SAMPLES))
    assert (len(payloads), batches) == (10, [3, 3, 3, 1])
    for figure in ("images", "psnr_mean", "ssim_mean", "warned"):
        assert result[figure] == pytest.approx(expected[figure]), figure


def test_containers_of_a_model_that_cannot_decode_are_lost_and_the_others_compared(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = ROOT / "tests" / "golden" / "grid.cvae"
    Path("in").mkdir()
    Path("models").mkdir()
    for number in range(3):
        Image.fromarray(np.full((8, 8), 9 * number, np.uint8)).save(f"in/bad{number}.png")
    run_here("encode", "in", "-o", "coded", "-m", grid, *FAST[2:])
    shutil.copytree(SAMPLES, "in", dirs_exist_ok=True)
    run_here("encode", SAMPLES, "-o", "coded", *FAST)
    with zipfile.ZipFile(grid) as good, zipfile.ZipFile("models/grid.cvae", "w") as damaged:
        for item in good.infolist():
            damaged.writestr(item, b"" if item.filename == "synthesis.onnx" else good.read(item))
    monkeypatch.setenv("CVAE_MODELS", "models")
    capsys.readouterr()
    result = found(capsys, "coded", "--against", "in", code=1)
    assert (result["model"], result["images"], result["lost"]) == ("mnist", 10, 3)
    run_here("verify", "coded", "--against", "in", code=1)
    lines = errors(capsys)
    assert [line.split(": ")[2] for line in lines] == [f"coded/bad{n}.bin" for n in range(3)]


def test_containers_that_do_not_fit_into_memory_together_are_compared_one_by_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from cvae.codec import Codec

    synthesize = Codec.to_pixels

    def alone(self: Codec, y: np.ndarray, *rest: object) -> np.ndarray:
        if len(y) > 1:
            raise MemoryError
        return synthesize(self, y, *rest)

    run_here("encode", SAMPLES, "-o", "coded", *FAST)
    expected = found(capsys, "coded", "--against", str(SAMPLES))
    monkeypatch.setattr(Codec, "to_pixels", alone)
    result = found(capsys, "coded", "--against", str(SAMPLES))
    for figure in ("images", "lost", "psnr_mean", "file_bytes_mean"):
        assert result[figure] == pytest.approx(expected[figure]), figure
