"""What a visitor does: upload, move, read, save, draw, denoise; by mouse, by keyboard, on a phone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cvae

from ..conftest import ROOT, SAMPLES, run_cvae
from .conftest import SHOTS

TABS = ("Code", "Latents", "Denoise", "Draw")


def figure(page: Any, name: str, within: str = "#figures") -> str:
    """A number of the page, by what stands below it."""
    card = page.locator(f"{within} .facts div").filter(has_text=name).first
    return str(card.locator("b").inner_text())


def until_other(page: Any, before: str, within: str = "#figures") -> None:
    """Waits until the figures are others; while they are computed there are none."""
    page.wait_for_function(
        "([place, text]) => ![undefined, text].includes(document.querySelector(place)?.innerText)",
        arg=[f"{within} .facts", before],
    )


def told(page: Any, within: str = "#figures") -> str:
    return str(page.locator(f"{within} .facts, {within} table").inner_text())


def move(page: Any, name: str, value: int) -> None:
    """Types a number beside a slider, as people with a keyboard do."""
    box = page.locator(f"#{name} input[type=number]")
    box.fill(str(value))
    box.press("Tab")


def upload(page: Any, path: Path, name: str = "picture") -> None:
    page.locator(f"#{name} button[aria-label='Remove Image']").click()
    page.locator(f"#{name} input[type=file]").first.set_input_files(path)


def test_an_upload_is_coded_and_its_file_gives_the_same_picture(page: Any, workdir: Path) -> None:
    before = told(page)
    upload(page, SAMPLES / "digit_8.png")
    until_other(page, before)
    before = told(page)
    move(page, "quality", 90)
    until_other(page, before)
    with page.expect_download() as saved:
        page.locator("#save a").click()
    file = workdir / saved.value.suggested_filename
    saved.value.save_as(file)
    data = file.read_bytes()
    assert f"{len(data):,}" == figure(page, "bytes")
    image = np.asarray(Image.open(SAMPLES / "digit_8.png"))
    assert data == cvae.encode(image, quality=90)
    run_cvae("decode", str(file), "-o", "back.png")
    back = np.asarray(Image.open("back.png"))
    error = np.square(back.astype(float) - image).mean()
    assert figure(page, "PSNR") == f"{10 * np.log10(255**2 / error):.2f} dB"
    shown = re.sub(r"\s", "", page.locator("#hex .hex").inner_text())
    assert shown == data.hex()
    page.locator("#others tr").nth(4).wait_for()
    assert "webp" in told(page, "#others")


def test_a_digit_that_is_drawn_with_the_mouse_is_coded(page: Any) -> None:
    before = told(page)
    page.get_by_text("Draw a digit").click()
    pad = page.locator("#pad canvas")
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    places = [(0.3, 0.2), (0.7, 0.2), (0.5, 0.5), (0.45, 0.85)]
    for number, (x, y) in enumerate(places):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=4)
        if not number:
            page.mouse.down()
    page.mouse.up()
    until_other(page, before)
    assert figure(page, "model") == "mnist"
    assert int(figure(page, "bytes")) < 40


def test_noise_is_taken_away(page: Any) -> None:
    page.get_by_role("tab", name="Denoise").click()
    page.locator("#noise-picture input[type=file]").first.set_input_files(
        ROOT / "samples" / "photo_gecko.png"
    )
    page.locator("#noise-figures .facts").wait_for()
    before = told(page, "#noise-figures")
    move(page, "noise", 0.3)
    until_other(page, before, "#noise-figures")
    noisy, clean = (
        float(figure(page, name, "#noise-figures").split()[0])
        for name in ("PSNR with noise", "denoised")
    )
    assert clean > noisy + 5
    page.locator("#tv-figures .facts").wait_for()
    assert "total variation" in told(page, "#tv-figures")


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [("notes.png", b"not a picture", "expected an image"), ("huge.png", None, "24,000,000 pixels")],
    ids=["text", "sixty megapixels"],
)
def test_what_is_no_picture_ends_in_one_line(
    page: Any, workdir: Path, name: str, data: bytes | None, said: str
) -> None:
    if data is None:
        Image.new("L", (10_000, 6_000)).save(name)
    else:
        Path(name).write_bytes(data)
    upload(page, workdir / name)
    toast = page.locator(".toast-body").first
    toast.wait_for()
    assert said in toast.inner_text()
    assert str(workdir) not in toast.inner_text()
    assert not page.locator("#figures .facts").count()  # of no picture there are no figures
    page.locator(".toast-close").first.click()
    upload(page, SAMPLES / "digit_1.png")
    page.locator("#figures .facts").wait_for()


def test_the_keyboard_alone_moves_a_slider(page: Any) -> None:
    before = told(page)
    page.locator("#quality input[type=range]").focus()
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    until_other(page, before)


@pytest.mark.parametrize("name", TABS)
def test_every_tab_fits_the_width(page: Any, name: str) -> None:
    page.get_by_role("tab", name=name).click()
    if name == "Code":
        page.locator("#others tr").nth(4).wait_for()
    elif name == "Latents":
        page.locator("#animate").click()
        page.locator("#moving img").wait_for()
    elif name == "Denoise":
        page.locator("#noise-picture input[type=file]").first.set_input_files(
            ROOT / "samples" / "photo_lake.png"
        )
        page.locator("#tv-figures .facts").wait_for()
    else:
        page.locator("#draw").click()
        page.locator("#drawn img").wait_for()
    page.wait_for_timeout(500)
    width = page.viewport_size["width"]
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name.lower()}-{width}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
