"""The page: its tabs in one Gradio app."""

from __future__ import annotations

import gradio as gr

from cvae.demo import coding, drawing, latents, look, noise, work

_STALE = 600  # seconds after which a picture that was shown is deleted
_AT_ONCE, _WAITING = 2, 64  # calls that are worked on, and that wait


def build(model: str = work.AUTOMATIC) -> gr.Blocks:
    """The app. `model` is the name or path of that which is chosen at first."""
    with gr.Blocks(title=look.TITLE, analytics_enabled=False, delete_cache=(60, _STALE)) as app:
        gr.Markdown(look.INTRO)
        with gr.Tab("Code"):
            coding.tab(app, model)
        with gr.Tab("Latents"):
            latents.tab()
        with gr.Tab("Denoise"):
            noise.tab()
        with gr.Tab("Draw"):
            drawing.tab()
    app.queue(max_size=_WAITING, default_concurrency_limit=_AT_ONCE, api_open=False)
    return app
