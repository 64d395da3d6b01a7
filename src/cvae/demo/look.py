"""How the page looks: fonts of the system, colours that differ in lightness too."""

from __future__ import annotations

from typing import Any

TITLE = "cvae: a neural image codec"
INTRO = (
    "# cvae\nA neural image codec: a digit in a dozen bytes, a photograph in a part of what JPEG takes. "
    "Everything is computed by the machine that serves this page, and uploads are deleted after ten minutes."
)

# Dark text on light grounds in both schemes: header, size, payload and check differ in lightness.
CSS = """
.gradio-container { width: 100%; max-width: min(72rem, 100vw) !important; min-width: 0 !important;
  margin: 0 auto; }
.gradio-container .app { min-width: 0; max-width: 100%; }
@media (max-width: 40rem) {
  .gradio-container main, .gradio-container .app { padding: .5rem !important; }
  .tab-container button { padding: 0 .55rem !important; }
}
.facts { display: flex; flex-wrap: wrap; gap: .5rem; margin: 0 0 .4rem; }
.facts div { flex: 1 1 6.5rem; border-radius: .5rem; padding: .5rem .8rem;
  background: var(--background-fill-secondary); font-size: .85rem; }
.facts b { display: block; font-size: 1.2rem; font-variant-numeric: tabular-nums; }
.legend span, .hex span { color: #111; border-radius: .25rem; padding: .08rem .35rem;
  -webkit-box-decoration-break: clone; box-decoration-break: clone; }
.legend { display: flex; flex-wrap: wrap; gap: .4rem; font-size: .85rem; margin: .2rem 0 .5rem; }
.hex { font-family: ui-monospace, monospace; font-size: .85rem; line-height: 1.75; margin: 0;
  max-height: 16rem; overflow: auto; overflow-wrap: anywhere; }
.header { background: #56b4e9; } .size { background: #f0e442; }
.payload { background: #e4e4e4; } .check { background: #e69f00; }
.wide { overflow-x: auto; }
.wide table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
.wide caption { text-align: left; font-size: .85rem; padding: .2rem 0; }
.wide th, .wide td { border: 0 solid var(--border-color-primary) !important;
  border-bottom-width: 1px !important; padding: .3rem .5rem;
  text-align: right; white-space: nowrap; }
.wide th:first-child { text-align: left; }
@media (max-width: 40rem) {
  .wide table { font-size: .8rem !important; }
  .wide th, .wide td { padding: .3rem .2rem !important; }
}
a.save { display: inline-block; padding: .5rem .9rem; border-radius: .5rem; font-weight: 600;
  background: var(--button-primary-background-fill); color: var(--button-primary-text-color) !important;
  text-decoration: none !important; }
a.save:focus-visible { outline: 3px solid #e69f00; outline-offset: 2px; }
.picture, .pixels img { image-rendering: pixelated; }
.upload img { min-height: 9rem; object-fit: contain; }
.picture { width: 100%; max-width: 22rem; }
.pad canvas { width: 100%; max-width: 280px; aspect-ratio: 1; background: #000; border-radius: .5rem;
  touch-action: none; cursor: crosshair; display: block; }
.pad button { margin-top: .4rem; padding: .3rem .9rem; border-radius: .5rem;
  border: 1px solid var(--border-color-primary); }
"""

# A canvas that gives what was drawn as a PNG of 112x112 pixels, in a data URL. It is drawn at twice
# the size that it has on a phone.
PAD = """<canvas width="280" height="280" role="img" aria-label="Draw a digit with mouse or finger">
</canvas><button type="button">Wipe</button>"""
PAD_CODE = """
const canvas = element.querySelector('canvas'), pen = canvas.getContext('2d');
const wipe = () => { pen.fillStyle = '#000'; pen.fillRect(0, 0, 280, 280); };
const place = (event) => {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) * 280 / box.width, (event.clientY - box.top) * 280 / box.height];
};
wipe();
Object.assign(pen, { lineWidth: 24, lineCap: 'round', lineJoin: 'round', strokeStyle: '#fff' });
let last = null;
const line = (event) => {
  const next = place(event);
  pen.beginPath(); pen.moveTo(...last); pen.lineTo(...next); pen.stroke();
  last = next;
};
canvas.addEventListener('pointerdown', (event) => {
  canvas.setPointerCapture(event.pointerId); last = place(event); line(event);
});
canvas.addEventListener('pointermove', (event) => { if (last) line(event); });
canvas.addEventListener('pointerup', () => {
  if (!last) return;
  last = null;
  const small = document.createElement('canvas');
  small.width = small.height = 112;
  small.getContext('2d').drawImage(canvas, 0, 0, 112, 112);
  props.value = small.toDataURL('image/png');
  trigger('submit');
});
element.querySelector('button').addEventListener('click', wipe);
"""


def theme() -> Any:
    """Gradio's theme without fonts of other hosts."""
    import gradio as gr

    system = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
    mono = ["ui-monospace", "Consolas", "monospace"]
    return gr.themes.Soft(primary_hue="blue", secondary_hue="sky", font=system, font_mono=mono)
