"""The tab Latents: what each of them does, and the way from one picture to another."""

from __future__ import annotations

import secrets
from typing import Any

import gradio as gr
import numpy as np

from cvae.demo import markup, parts, work

_A_ROW = 4  # sliders


def tab() -> None:
    elements = work.codec_of(work.LATENTS).coding.elements
    gr.Markdown(
        f"Each slider moves one latent of `{work.LATENTS}`; the picture is what they decode to."
    )
    middle = work.shown(work.picture_of([0.0] * elements))
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            shown = parts.result("Decoded", elem_id="decoded", value=middle)
            with gr.Row():
                zero, random = gr.Button("All zero"), gr.Button("Random")
        with gr.Column(scale=3, min_width=280):
            sliders = []
            for start in range(0, elements, _A_ROW):
                with gr.Row():
                    sliders += [
                        _slider(start + place) for place in range(min(_A_ROW, elements - start))
                    ]
    source = parts.picture("Start from a picture", elem_id="start")
    parts.examples(source, *(f"digit_{number}" for number in range(10)))
    parts.now([item.input for item in sliders], _decoded, sliders, shown, api_name="latents",
              api_visibility="public")  # fmt: skip
    everything = [*sliders, shown]
    parts.now([source.change], _started, source, everything)
    parts.now([zero.click], lambda: _placed([0.0] * elements), None, everything)
    parts.now([random.click], lambda: _placed(_normal(elements)), None, everything)
    gr.Markdown("### Between two pictures")
    with gr.Row():
        first, last = (
            parts.picture(label, *parts.samples(sample), elem_id=label.lower())
            for label, sample in (("From", "digit_3"), ("To", "digit_8"))
        )
        with gr.Column(min_width=240):
            name = gr.Dropdown(parts.models(one_size=True, lossless=False), label="Model")
            steps = gr.Slider(2, work.MOST_STEPS, 12, step=1, label="Pictures")
            go = gr.Button("Animate", variant="primary", elem_id="animate")
        with gr.Column(min_width=240):
            moving = gr.HTML(elem_id="moving")
    parts.now([go.click], _animated, [first, last, name, steps], moving, api_name="interpolate",
              api_visibility="public")  # fmt: skip


def _slider(number: int) -> gr.Slider:
    return gr.Slider(
        -work.BOUND, work.BOUND, 0, step=0.05, label=f"Latent {number + 1}", min_width=130,
        elem_classes="latent",
    )  # fmt: skip


def _decoded(*latents: float) -> Any:
    return work.shown(work.picture_of(latents))


def _placed(latents: list[float]) -> list[Any]:
    return [*latents, work.shown(work.picture_of(latents))]


def _started(path: str | None) -> list[Any]:
    if not path:
        return [gr.skip()] * (work.codec_of(work.LATENTS).coding.elements + 1)
    return _placed(work.latents_of(parts.loaded(path)))


def _normal(count: int) -> list[float]:
    numbers = np.random.default_rng(secrets.randbits(64)).standard_normal(count)
    return [round(float(number), 2) for number in np.clip(numbers, -work.BOUND, work.BOUND)]


def _animated(first: str | None, last: str | None, name: str, steps: float) -> str:
    gif = work.animation(parts.loaded(first), parts.loaded(last), name, int(steps))
    return markup.picture(gif, "image/gif", f"an animation of {int(steps)} pictures and back")
