"""Numbers and bytes as HTML; whatever comes from files is escaped."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Sequence
from html import escape

from cvae.bitstream import container
from cvae.data.metrics import PSNR_CAP
from cvae.demo.beside import Line

_FIRST, _LAST = 320, 32  # bytes of a long payload that are shown


def facts(values: dict[str, str], notes: Iterable[str] = ()) -> str:
    """Figures as cards, and what is to be said of them."""
    cells = "".join(
        f"<div><b>{escape(value)}</b>{escape(name)}</div>" for name, value in values.items()
    )
    said = "".join(f"<p>{escape(note)}</p>" for note in notes)
    return f'<div class="facts" role="status">{cells}</div>{said}'


def decibels(psnr: float) -> str:
    return "every pixel" if psnr >= PSNR_CAP or math.isinf(psnr) else f"{psnr:.2f} dB"


def hexadecimal(data: bytes) -> str:
    """A container as hexadecimal, each part in its colour; the middle of a long payload is left out."""
    parts = container.parts(data)
    legend = " ".join(
        f'<span class="{name}">{name}, {len(part)} B</span>' for name, part in parts.items() if part
    )
    text = " ".join(
        f'<span class="{name}">{_digits(part)}</span>' for name, part in parts.items() if part
    )
    return f'<p class="legend">{legend}</p><p class="hex">{text}</p>'


def _digits(part: bytes) -> str:
    if len(part) <= _FIRST + _LAST:
        return part.hex(" ")
    left_out = len(part) - _FIRST - _LAST
    return f"{part[:_FIRST].hex(' ')} <em>… {left_out:,} bytes …</em> {part[-_LAST:].hex(' ')}"


def download(data: bytes, name: str) -> str:
    """A link that saves bytes under a name; they are in the page already."""
    source = data_url(data, "application/octet-stream")
    name = escape(name)
    text = f"Save {name}, {len(data):,} B"
    return f'<a class="save" download="{name}" href="{source}">{text}</a>'


def picture(data: bytes, kind: str, alt: str) -> str:
    return f'<img class="picture" alt="{escape(alt)}" src="{data_url(data, kind)}">'


def data_url(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], caption: str) -> str:
    """A table whose first column names its rows; what is too wide scrolls."""
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>'
        + "".join(f"<td>{escape(text)}</td>" for text in rest)
        + "</tr>"
        for first, *rest in rows
    )
    return (
        f'<div class="wide"><table><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def beside(size: int, psnr: float, lines: Iterable[Line]) -> str:
    """Our bytes beside those of other codecs."""
    rows = [["cvae", f"{size:,}", decibels(psnr), "1"]]
    rows += [
        [line.codec, f"{line.bytes:,}", decibels(line.psnr), f"{line.bytes / size:.1f}"]
        for line in lines
    ]
    caption = "The smallest file of each codec that is as good, or its nearest one"
    return table(("codec", "bytes", "PSNR", "times ours"), rows, caption)
