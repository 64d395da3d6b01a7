"""The tab Draw: pictures that a model makes up."""

from __future__ import annotations

from typing import Any

import gradio as gr

from cvae.demo import parts, work


def tab() -> None:
    gr.Markdown(
        "Latents of a VAE are drawn from its prior; those of other models each by itself from what "
        "training saw. Lossless models draw pixel by pixel, which takes seconds."
    )
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            name = gr.Dropdown(parts.models(one_size=True), label="Model", elem_id="draw-model")
            count = gr.Slider(1, work.MOST_DRAWN, 16, step=1, label="Pictures", elem_id="count")
            seed = gr.Number(
                1, label="Seed", precision=0, minimum=0, maximum=2**32 - 1, elem_id="seed"
            )
            go = gr.Button("Draw", variant="primary", elem_id="draw")
        with gr.Column(scale=3, min_width=280):
            shown = parts.result("Drawn", elem_id="drawn", show_label=False)
    parts.now([go.click, seed.submit], _drawn, [name, count, seed], shown, api_name="draw",
              api_visibility="public")  # fmt: skip


def _drawn(name: str, count: float, seed: float) -> Any:
    return work.shown(work.drawn(name, int(count), int(seed or 0)))
