"""The tab Code: a picture, what comes back, and the file between them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from cvae.codec import Codec
from cvae.demo import beside, look, markup, parts, work
from cvae.options import DEFAULT_EFFORT, MAX_EFFORT

_DIGITS = [f"digit_{number}" for number in range(10)]
_PHOTOS = ["photo_lake", "photo_gecko", "photo_launch"]
_PHOTO_EFFORT = 1  # a visitor who moves a slider waits for no longer search


def tab(app: gr.Blocks, model: str) -> None:
    """Builds the tab, in which `model` is chosen; its sample is coded when the page is loaded."""
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            picture = parts.picture("Picture", *parts.samples(_DIGITS[3]), elem_id="picture")
            parts.examples(picture, *_DIGITS, *_PHOTOS)
            with gr.Accordion("Draw a digit", open=False):
                pad = gr.HTML(
                    html_template=look.PAD,
                    js_on_load=look.PAD_CODE,
                    elem_id="pad",
                    elem_classes="pad",
                )
            names = [work.AUTOMATIC, *parts.models()]
            names = names if model in names else [model, *names]
            name = gr.Dropdown(names, value=model, label="Model", elem_id="model",
                               info="automatic: mnist for 28x28 pixels, else photo")  # fmt: skip
            quality = gr.Slider(1, 100, 50, step=1, label="Quality", elem_id="quality")
            effort = gr.Slider(
                0, MAX_EFFORT, DEFAULT_EFFORT, step=1, label="Effort", elem_id="effort",
                info=f"how long to search; pictures of any size: at most {_PHOTO_EFFORT} here",
            )  # fmt: skip
            invert = gr.Checkbox(label="Invert before coding (dark on light)")
        with gr.Column(scale=3, min_width=280):
            figures = gr.HTML(elem_id="figures")
            slider = parts.slider("Original and what comes back", elem_id="slider")
            with gr.Row():
                error = parts.result("Error, of 64 levels", min_width=200)
                with gr.Column(min_width=200):
                    save = gr.HTML(elem_id="save")
                    file = gr.HTML(elem_id="hex", label="The file")
            others = gr.HTML(elem_id="others")
    with gr.Accordion("Your own model, or a .bin", open=False):
        with gr.Row():
            own = parts.as_path(
                gr.File(label="Model", file_types=[".cvae"], elem_id="own", height=120)
            )
            coded = parts.as_path(
                gr.File(label="Coded picture", file_types=[".bin"], elem_id="bin", height=120)
            )
        back = parts.result("The picture in the .bin", elem_id="back")
        told = gr.HTML(elem_id="told")
    inputs = [picture, name, own, quality, effort, invert]
    outputs = [figures, slider, error, save, file]
    events = [app.load, *(item.change for item in (picture, name, own, quality, effort, invert))]
    first = parts.now(events, _coded, inputs, outputs, api_name="code", api_visibility="public")
    first.success(
        parts.told(_beside), inputs, others, trigger_mode="always_last", show_progress="minimal",
        api_name="beside",
    )  # fmt: skip
    parts.now([pad.submit], _drawn, pad, picture)
    parts.now([coded.change], _decoded, [coded, own], [back, told, file], api_name="decode",
              api_visibility="public")  # fmt: skip


def _codec(name: str, own: str | None, data: bytes) -> Codec:
    return work.own_codec(Path(own)) if own else work.choose(name, data)


def _work(
    path: str | None, name: str, own: str | None, quality: float, effort: float, invert: bool
) -> work.Coded | None:
    if not path:
        return None
    data = parts.loaded(path)
    codec = _codec(name, own, data)
    effort = min(effort, _PHOTO_EFFORT) if codec.any_size else effort
    found = work.read(data, codec)
    return work.code(found, codec, int(quality), int(effort), bool(invert) and not codec.staged)


def _coded(path: str | None, *values: Any) -> list[Any]:
    done = _work(path, *values)
    if done is None:
        return [None] * 5
    height, width, channels = done.read.pixels.shape
    size = len(done.data)
    figures = {
        "bytes": f"{size:,}",
        "to one, of raw pixels": f"{height * width * channels / size:.1f}",
        "bits a pixel": f"{8 * size / (height * width):.3f}",
        "PSNR": markup.decibels(done.psnr),
        "model": done.model,
    }
    original, back = work.shown(done.read.pixels), work.shown(done.back)
    off = work.shown(work.error_map(done.read.pixels, done.back))
    save = markup.download(done.data, f"{Path(path or '').stem or 'picture'}.bin")
    return [
        markup.facts(figures, done.notes),
        (original, back),
        off,
        save,
        markup.hexadecimal(done.data),
    ]


def _beside(*values: Any) -> str | None:
    done = _work(*values)
    if done is None:
        return None
    return markup.beside(len(done.data), done.psnr, beside.lines(done.read.pixels, done.psnr))


def _drawn(url: str | None) -> Any:
    return work.digit_of(parts.drawing(url))[..., 0]


def _decoded(path: str | None, own: str | None) -> list[Any]:
    if not path:
        return [None] * 3
    data = parts.loaded(path)
    pixels, name = work.decode(data, work.own_codec(Path(own)) if own else None)
    height, width = pixels.shape[:2]
    figures = {"bytes": f"{len(data):,}", "pixels": f"{width}x{height}", "model": name}
    return [work.shown(pixels), markup.facts(figures), markup.hexadecimal(data)]
