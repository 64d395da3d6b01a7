"""One self-contained HTML page of an evaluation: figures, curves, the worst and the best images."""

from __future__ import annotations

import base64
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvae.data import images
from cvae.data.images import Pixels
from cvae.evaluation import plots
from cvae.evaluation.comparison import MARKS, Comparison, Line, lines
from cvae.evaluation.measure import Measured

_SHOWN = 12  # worst and best images
_LEAST_WIDTH = 84  # pixels on the screen that a small image is enlarged to

_STYLE = """
:root { color-scheme: light dark; --line: #d0d0d0; --quiet: #666; --card: #f6f6f6; }
@media (prefers-color-scheme: dark) { :root { --line: #444; --quiet: #aaa; --card: #222; } }
body { font: 16px/1.45 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
p.quiet, td.quiet, figcaption { color: var(--quiet); font-size: .85rem; }
.facts { display: flex; flex-wrap: wrap; gap: .6rem; margin: 1rem 0; }
.facts div { background: var(--card); border-radius: .5rem; padding: .6rem .9rem; flex: 1 1 7rem; }
.facts b { display: block; font-size: 1.25rem; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .6rem; text-align: right; white-space: nowrap; }
th:nth-child(-n+2), td:nth-child(-n+2), td.quiet { text-align: left; }
.plot { width: 100%; height: auto; border-radius: .5rem; }
.images { display: flex; flex-wrap: wrap; gap: .8rem; }
figure { margin: 0; } figure img { display: block; image-rendering: pixelated; margin-bottom: 2px; }
figcaption { max-width: 8rem; overflow-wrap: anywhere; }
"""
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{style}</style></head><body>
{body}
</body></html>
"""
_NOTE = (
    "Bytes at the PSNR of this model, between the codec's nearest settings. {}BD-rate is this model's "
    "bytes against the codec's at equal PSNR. block: all images as one block without a header; mosaic: "
    "one picture of up to 1,000 images."
)


def render(
    result: dict[str, Any], measured: Measured, names: list[str], comparison: Comparison | None
) -> str:
    """The page as HTML, of what `cvae eval --json` prints; nothing in it is loaded from elsewhere.

    Raises:
        MissingExtraError: there are curves to draw and matplotlib is not installed.
    """
    title = escape(f"{result['model']} on {result['dataset']}")
    text = "{images} images ({split}), quality {quality}, effort {effort}; each a file of its own"
    parts = [f"<h1>{title}</h1>", _quiet(text.format(**result)), _facts(result)]
    if comparison is not None:
        found = lines(comparison.curve, comparison.rivals, measured.quality, result["psnr_mean"])
        plot = plots.rate_distortion_plot(comparison.curve, comparison.rivals)
        parts += [
            "<h2>Against other codecs</h2>",
            _table(found),
            "<h2>Rate and distortion</h2>",
            f'<img class="plot" alt="PSNR over bytes an image" src="{_data(plot)}">',
        ]
    order = np.argsort(measured.psnr, kind="stable")
    parts += [
        "<h2>Worst images</h2>",
        _quiet("The original above its reconstruction."),
        _images(measured, names, order[:_SHOWN]),
        "<h2>Best images</h2>",
        _images(measured, names, order[::-1][:_SHOWN]),
    ]
    return _PAGE.format(title=title, style=_STYLE, body="\n".join(parts))


def _quiet(text: str) -> str:
    return f'<p class="quiet">{escape(text)}</p>'


def _facts(result: dict[str, Any]) -> str:
    ssim, left_out = result["ssim_mean"], result["ssim_left_out"]
    of = f" (without {left_out} smaller than 11x11 pixels)" if left_out else ""
    facts = {
        "bytes a file": f"{result['file_bytes_mean']:.2f}",
        "to one": f"{result['compression_ratio']:.1f}",
        "bits a pixel": f"{result['bpp']:.4f}",
        "dB PSNR": f"{result['psnr_mean']:.2f}",
        f"SSIM{of}": "-" if ssim is None else f"{ssim:.4f}",
        "below expected quality": str(result["warned"]),
    }
    cells = "".join(f"<div><b>{value}</b>{name}</div>" for name, value in facts.items())
    return f'<div class="facts">{cells}</div>'


def _table(found: list[Line]) -> str:
    heads = ("codec", "layout", "bytes an image", "PSNR", "times ours", "BD-rate", "settings")
    rows = ["<tr>" + "".join(f"<th>{head}</th>" for head in heads) + "</tr>"]
    for line in found:
        rate = line.bd_rate_percent
        cells = [
            escape(line.codec),
            line.layout,
            f"{line.bytes:.2f}",
            "lossless" if line.psnr is None else f"{line.psnr:.2f} dB {line.mark}",
            f"{line.times_ours:.2f}",
            "n/a" if rate is None else f"{rate:+.1f} %",
        ]
        # Bytes between two settings are of neither.
        between = line.psnr is not None and not line.mark and line.codec != found[0].codec
        settings = "" if between else escape(line.settings)
        row = "".join(f"<td>{cell}</td>" for cell in cells)
        rows.append(f'<tr>{row}<td class="quiet">{settings}</td></tr>')
    marks = "".join(f"{mark} {text}. " for mark, text in MARKS.items())
    return f'<div class="wide"><table>{"".join(rows)}</table></div>' + _quiet(_NOTE.format(marks))


def _images(measured: Measured, names: list[str], indexes: NDArray[np.intp]) -> str:
    figures = [
        "<figure>"
        + _image(measured.pixels[i], f"original {names[i]}")
        + _image(measured.decoded[i], f"reconstruction of {names[i]}")
        + f"<figcaption>{escape(names[i])}<br>{measured.psnr[i]:.2f} dB, "
        f"{measured.file_bytes[i]} B</figcaption></figure>"
        for i in indexes
    ]
    return f'<div class="images">{"".join(figures)}</div>'


def _image(pixels: Pixels, alt: str) -> str:
    width = pixels.shape[1] * -(-_LEAST_WIDTH // pixels.shape[1])
    source = _data(images.encode_image(pixels))
    return f'<img width="{width}" alt="{escape(alt)}" src="{source}">'


def _data(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
