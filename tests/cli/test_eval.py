"""`cvae eval` as people use it, in processes of its own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ..cli.test_cli import DIGIT, error_line, names
from ..conftest import SAMPLES, run_cvae

pytestmark = pytest.mark.usefixtures("workdir")


def test_eval_reports_every_figure_of_the_samples() -> None:
    result = json.loads(run_cvae("eval", SAMPLES, "--json").stdout)
    assert list(result) == [
        "model",
        "dataset",
        "split",
        "images",
        "quality",
        "effort",
        "file_bytes_mean",
        "payload_bytes_mean",
        "information_bits_mean",
        "compression_ratio",
        "bpp",
        "psnr_mean",
        "psnr_of_mean_mse",
        "psnr_of_means",
        "mse_mean",
        "ssim_mean",
        "ssim_left_out",
        "warned",
        "encode_images_per_second",
        "decode_images_per_second",
    ]
    assert result["images"] == 10
    assert result["file_bytes_mean"] == result["payload_bytes_mean"] + 6
    assert result["compression_ratio"] == pytest.approx(784 / result["file_bytes_mean"])
    assert 22 < result["psnr_mean"] < result["psnr_of_means"] + 1
    assert b"PSNR" in run_cvae("eval", SAMPLES / "digit_1.png").stdout


def test_less_than_one_image_a_second_is_said_in_seconds() -> None:
    from cvae.cli import tables
    from cvae.evaluation.coded import rounded

    result = json.loads(run_cvae("eval", DIGIT, "--json").stdout)
    result["encode_images_per_second"], result["decode_images_per_second"] = 1.4, rounded(1 / 41)
    *_, encode, decode = tables.coding(result)
    assert encode.split() == [
        "encode",
        "1",
        "images",
        "a",
        "second,",
        "decoding",
        "to",
        "check",
        "included",
    ]
    assert decode.split() == ["decode", "41.0", "seconds", "an", "image"]


def test_eval_against_other_codecs_writes_plot_page_and_json() -> None:
    outputs = ["--plot", "out/plot.png", "--html", "out/page.html", "--csv", "out/images.csv"]
    command = ["eval", SAMPLES, "--against", "png,webp", *outputs]
    result = run_cvae(*command, "--json")
    assert result.stderr == b""  # progress is for terminals
    figures = json.loads(result.stdout)
    assert list(figures)[-2:] == ["curve", "rivals"]
    assert {(r["codec"], r["layout"]) for r in figures["rivals"]} == {
        ("png", "single"), ("png", "mosaic"), ("webp", "single"), ("webp", "mosaic"),
    }  # fmt: skip
    for row in figures["rivals"]:
        assert row["images"] == 10
        assert (row["bd_rate_percent"] is None) == (row["codec"] == "png")
    assert names("out") == ["images.csv", "page.html", "plot.png"]
    assert Image.open("out/plot.png").size[0] > 600
    assert "exists already" in error_line(run_cvae(*command, code=1))
    assert "n/a" in run_cvae(*command, "--force").stdout.decode()


def test_the_page_needs_nothing_else_and_holds_no_markup_of_others() -> None:
    from html.parser import HTMLParser

    Path("a & <b>").mkdir()
    name = "<script>alert(1)<script>&.png"
    Path("a & <b>", name).write_bytes(DIGIT.read_bytes())
    for i in range(14):
        Path("a & <b>", f"{i}.png").write_bytes((SAMPLES / f"digit_{i % 10}.png").read_bytes())
    run_cvae("eval", "a & <b>", "--html", "page.html")
    text = Path("page.html").read_text()
    assert "http" not in text
    assert "url(" not in text

    class Parser(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.tags: list[str] = []
            self.sources: list[str] = []
            self.words = ""

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.tags.append(tag)
            self.sources += [v or "" for k, v in attrs if k in ("src", "href")]

        def handle_data(self, data: str) -> None:
            self.words += data

    parser = Parser()
    parser.feed(text)
    assert not {"script", "b>", "link", "iframe"} & set(parser.tags)
    assert len(parser.sources) == 2 * 2 * 12
    assert all(source.startswith("data:image/png;base64,") for source in parser.sources)
    assert "mnist on a & <b>" in parser.words
    assert name in parser.words
    run_cvae("eval", "a & <b>", "--html", "page.html", code=1)


def test_the_rows_of_the_csv_average_to_the_summary() -> None:
    import csv

    figures = json.loads(run_cvae("eval", SAMPLES, "--csv", "images.csv", "--json").stdout)
    rows = list(csv.DictReader(Path("images.csv").read_text().splitlines()))
    assert [row["image"] for row in rows] == [f"digit_{i}.png" for i in range(10)]
    for column, key in [
        ("file_bytes", "file_bytes_mean"),
        ("payload_bytes", "payload_bytes_mean"),
        ("information_bits", "information_bits_mean"),
        ("psnr", "psnr_mean"),
        ("ssim", "ssim_mean"),
    ]:
        assert np.mean([float(row[column]) for row in rows]) == pytest.approx(
            figures[key], abs=1e-4
        )
    np.savez("some.npz", x_test=np.zeros((3, 28, 28), np.uint8))
    run_cvae("eval", "some.npz", "--limit", "2", "--csv", "some.csv")
    assert [line.split(",")[0] for line in Path("some.csv").read_text().splitlines()] == [
        "image", "0", "1",
    ]  # fmt: skip


def test_eval_refuses_outputs_and_codecs_before_it_works() -> None:
    Path("there.csv").write_text("mine")
    line = error_line(run_cvae("eval", "nowhere", "--csv", "there.csv", code=1))
    assert "there.csv: exists already" in line
    assert Path("there.csv").read_text() == "mine"
    assert b"'gif'" in run_cvae("eval", "nowhere", "--against", "gif", code=2).stderr
    run_cvae("eval", DIGIT, "--plot", "x.png", code=2)
    run_cvae("eval", DIGIT, "--csv", "x", "--html", "./x", code=2)
    assert names() == ["there.csv"]


def test_help_names_the_codecs_that_there_are() -> None:
    from cvae.evaluation import comparison

    text = "".join(run_cvae("eval", "--help").stdout.decode().split())
    assert ",".join(comparison.NAMES) in text
