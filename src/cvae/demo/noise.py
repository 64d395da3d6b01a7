"""The tab Denoise: noise put on a picture and taken off again, beside total variation."""

from __future__ import annotations

from typing import Any

import gradio as gr

from cvae.data import metrics
from cvae.data.images import Pixels
from cvae.demo import markup, parts, work


def tab() -> None:
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            picture = parts.picture("Picture", elem_id="noise-picture")
            parts.examples(
                picture, "photo_gecko", "photo_lake", "photo_launch", "digit_3", "digit_8"
            )
            factor = gr.Slider(
                0, 1, 0.4, step=0.02, label="Noise", elem_id="noise",
                info="standard deviation, of the range from black to white; photo-dae knows 0.4",
            )  # fmt: skip
            names = [work.AUTOMATIC, *parts.models(denoise=True)]
            name = gr.Dropdown(names, value=work.AUTOMATIC, label="Model",
                               info="automatic: fashion-dae for 28x28 grey, else photo-dae")  # fmt: skip
        with gr.Column(scale=3, min_width=280):
            figures = gr.HTML(elem_id="noise-figures")
            slider = parts.slider("Noisy and denoised", elem_id="noise-slider")
            smooth = parts.result("Total variation, at its best weight", elem_id="tv")
            told = gr.HTML(elem_id="tv-figures")
    inputs = [picture, factor, name]
    events = [item.change for item in (picture, factor, name)]
    first = parts.now(events, _denoised, inputs, [figures, slider], api_name="denoise",
                      api_visibility="public")  # fmt: skip
    first.success(
        parts.told(_smooth), inputs, [smooth, told], trigger_mode="always_last",
        show_progress="minimal", api_name="total_variation",
    )  # fmt: skip


def _denoised(path: str | None, factor: float, name: str) -> list[Any]:
    if not path:
        return [None] * 2
    found, noisy, model = work.noisy(parts.loaded(path), name, factor)
    clean = work.denoised(model, noisy)
    figures = {
        "PSNR with noise": _psnr(found.pixels, noisy),
        "denoised": _psnr(found.pixels, clean),
        "model": model.manifest.name,
    }
    return [markup.facts(figures, found.changes), (work.shown(noisy), work.shown(clean))]


def _smooth(path: str | None, factor: float, name: str) -> list[Any]:
    if not path:
        return [None] * 2
    found, noisy, _ = work.noisy(parts.loaded(path), name, factor)
    clean, weight = work.smoothed(found.pixels, noisy)
    figures = {"total variation": _psnr(found.pixels, clean), "weight": f"{weight:g}"}
    return [work.shown(clean), markup.facts(figures)]


def _psnr(original: Pixels, other: Pixels) -> str:
    return markup.decibels(float(metrics.psnr(original[None], other[None])[0]))
