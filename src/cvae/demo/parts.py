"""What the tabs share: events that show errors in one line, and inputs that are read by our own readers."""

from __future__ import annotations

import base64
import binascii
import os
import tempfile
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from gradio.components import Component

from cvae import kinds
from cvae.data import images
from cvae.data.images import Pixels
from cvae.demo import work
from cvae.errors import CvaeError, ImageError
from cvae.models import registry

SUFFIXES = [".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".ppm"]
_PAD_MOST = 1 << 18  # characters of a drawing


def told(function: Callable[..., Any]) -> Callable[..., Any]:
    """Shows a CvaeError as its one line; what else goes wrong is not told to visitors."""

    @wraps(function)
    def shown(*values: Any) -> Any:
        try:
            return function(*values)
        except CvaeError as error:
            raise gr.Error(work.line(error), print_exception=False) from None
        except MemoryError:
            raise gr.Error("needs more memory than there is", print_exception=False) from None

    return shown


def picture(label: str, path: Path | None = None, **attributes: Any) -> gr.Image:
    """An image to upload. Its path is handed on: our readers refuse what they need not decode."""
    value = str(path) if path else None
    found = gr.Image(
        value, type="filepath", sources=["upload", "clipboard"], label=label, format="png",
        image_mode=None, height=240, buttons=[], elem_classes=["pixels", "upload"], **attributes,
    )  # fmt: skip
    return as_path(found)


def as_path(component: Any) -> Any:
    """The component, which gives the path of an upload without opening it."""
    component.preprocess = lambda payload: None if payload is None else payload.path
    return component


def result(label: str, **attributes: Any) -> gr.Image:
    return _as_files(gr.Image(
        label=label, format="png", interactive=False, buttons=["fullscreen"], elem_classes="pixels",
        **attributes,
    ))  # fmt: skip


def slider(label: str, **attributes: Any) -> gr.ImageSlider:
    return _as_files(gr.ImageSlider(
        label=label, format="png", interactive=False, buttons=["fullscreen"], elem_classes="pixels",
        max_height=420, **attributes,
    ))  # fmt: skip


def _as_files(component: Any) -> Any:
    """The component, whose pictures are written to a file of each visitor.

    Gradio names a picture by its pixels, and writes it again where it is: who is just reading it for
    another visitor gets a part. Files it copies, and renames when they are whole.
    """
    usual = component.postprocess

    def written(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(written, value))
        if not isinstance(value, np.ndarray):
            return value
        Path(component.GRADIO_CACHE).mkdir(parents=True, exist_ok=True)
        handle, path = tempfile.mkstemp(".png", dir=component.GRADIO_CACHE)
        component.temp_files.add(path)  # which Gradio deletes when they are old
        with os.fdopen(handle, "wb") as file:
            images.as_image(value).save(file, "png")
        return path

    component.postprocess = lambda value: usual(written(value))
    return component


def loaded(path: str | None) -> bytes:
    """The bytes of an upload. Raises ImageError when there is none."""
    if not path:
        raise ImageError("expected a picture, found none", advice="upload one or take a sample")
    return work.load(path)


def drawing(url: str | None) -> Pixels:
    """What the pad gives: a PNG in a data URL. Raises ImageError when it is none."""
    head, _, data = (url or "").partition(",")
    try:
        if head != "data:image/png;base64" or len(data) > _PAD_MOST:
            raise ImageError("expected a drawing, found something else")
        png = base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise ImageError("expected a drawing, found something else") from error
    image = images.open_image(png, "the drawing")
    if max(image.size) > work.MOST_STEPS * 28:
        raise ImageError("expected a drawing, found a larger picture")
    return work.grey(image)


def samples(*names: str) -> list[Path]:
    """The pictures that come with the package, those that are here."""
    folder = work.samples_folder()
    return [path for name in names if (path := folder / f"{name}.png").is_file()]


@cache
def models(one_size: bool = False, denoise: bool = False, lossless: bool = True) -> list[str]:
    """The names of models at hand that code, or draw pictures of one size, or denoise."""
    found = []
    for _, manifest in kinds.known_models()[0]:
        kind = kinds.of(manifest)
        fits = kind.denoises(manifest) if denoise else kind.codes
        if fits and not (one_size and kind.any_size) and (lossless or not kind.lossless):
            found.append(manifest.name)
    return sorted(found, key=lambda name: (name != registry.DEFAULT, name))


def examples(inputs: Component, *names: str) -> None:
    """Samples to click on, where the package has any."""
    found = [[str(path)] for path in samples(*names)]
    if found:
        gr.Examples(found, inputs, label="Samples", api_visibility="private", examples_per_page=16)


def now(
    events: list[Any], function: Callable[..., Any], inputs: Any, outputs: Any, **more: Any
) -> Any:
    """Runs a function at events, of several quick ones for the last; nothing flickers meanwhile."""
    more = {"api_visibility": "private", **more}
    return gr.on(
        events, told(function), inputs, outputs, trigger_mode="always_last", show_progress="hidden",
        **more,
    )  # fmt: skip
