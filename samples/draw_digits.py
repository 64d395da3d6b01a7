"""Draws the ten sample digits, digit_0.png to digit_9.png, as MNIST has them, from pen strokes."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

FIELD = 28  # side of a finished image in pixels
GLYPH = 20  # side of the box that a glyph, pen width included, is scaled into
OVERSAMPLING = 16  # side of the square of drawn pixels that is averaged into one pixel
STEPS = 64  # points of the smoothed curve per control point
SLANT = 0.18  # how far a stroke leans to the right per unit of height

Point = tuple[float, float]

# Pen width in pixels of the finished image. Where a loop is small a thinner pen keeps it open.
PENS = {0: 2.7, 1: 2.8, 2: 2.6, 3: 2.6, 4: 2.5, 5: 2.5, 6: 2.5, 7: 2.6, 8: 2.5, 9: 2.5}

# Upright digits in a unit square, x to the right and y down; SLANT is applied when drawn. The
# curve runs through all points of a stroke; where two strokes share a point the digit has a corner.
DIGITS: dict[int, list[list[Point]]] = {
    0: [[(0.58, 0.02), (0.36, 0.08), (0.20, 0.34), (0.18, 0.68), (0.34, 0.96), (0.56, 0.96),
         (0.76, 0.72), (0.82, 0.38), (0.74, 0.10), (0.54, 0.03)]],
    1: [[(0.52, 0.00), (0.50, 0.50), (0.48, 1.00)]],
    2: [[(0.18, 0.22), (0.34, 0.04), (0.58, 0.02), (0.72, 0.18), (0.66, 0.44), (0.46, 0.72),
         (0.26, 0.94), (0.14, 0.92), (0.22, 0.78), (0.42, 0.84), (0.66, 0.96), (0.92, 0.92)]],
    3: [[(0.20, 0.12), (0.42, 0.00), (0.66, 0.06), (0.70, 0.24), (0.56, 0.40), (0.38, 0.46)],
        [(0.38, 0.46), (0.62, 0.48), (0.78, 0.64), (0.72, 0.86), (0.50, 0.99), (0.24, 0.97),
         (0.10, 0.86)]],
    4: [[(0.20, 0.06), (0.14, 0.34), (0.16, 0.52), (0.36, 0.56), (0.60, 0.52), (0.80, 0.46)],
        [(0.74, 0.00), (0.70, 0.40), (0.68, 0.72), (0.68, 1.00)]],
    5: [[(0.84, 0.02), (0.62, 0.04), (0.38, 0.06)],
        [(0.38, 0.06), (0.33, 0.24), (0.31, 0.43)],
        [(0.31, 0.43), (0.54, 0.42), (0.70, 0.56), (0.71, 0.77), (0.55, 0.95), (0.32, 1.00),
         (0.12, 0.93)]],
    6: [[(0.42, 0.00), (0.28, 0.22), (0.20, 0.48), (0.22, 0.78), (0.42, 0.99), (0.64, 0.92),
         (0.74, 0.72), (0.62, 0.57), (0.44, 0.64), (0.34, 0.86)]],
    7: [[(0.12, 0.14), (0.36, 0.12), (0.60, 0.08), (0.80, 0.06)],
        [(0.80, 0.06), (0.74, 0.28), (0.60, 0.62), (0.52, 1.00)]],
    8: [[(0.74, 0.12), (0.54, 0.01), (0.32, 0.08), (0.28, 0.26), (0.46, 0.44), (0.66, 0.62),
         (0.70, 0.84), (0.50, 0.99), (0.28, 0.90), (0.30, 0.68), (0.50, 0.48), (0.70, 0.30),
         (0.76, 0.14)]],
    9: [[(0.72, 0.14), (0.54, 0.01), (0.32, 0.08), (0.22, 0.30), (0.34, 0.46), (0.54, 0.42),
         (0.70, 0.20)],
        [(0.74, 0.08), (0.68, 0.40), (0.62, 0.70), (0.58, 1.00)]],
}  # fmt: skip


def smooth(stroke: list[Point]) -> np.ndarray:
    """Catmull-Rom curve through the n points of `stroke`: float64 ((n - 1) * STEPS + 1, 2)."""
    points = np.array(stroke)
    # The two ends are continued straight on, for the curve needs a neighbour on either side.
    padded = np.vstack([2 * points[0] - points[1], points, 2 * points[-1] - points[-2]])
    before, start, end, after = (padded[i : len(padded) - 3 + i, None] for i in range(4))
    t = np.arange(STEPS)[None, :, None] / STEPS
    curve = 0.5 * (
        2 * start
        + (end - before) * t
        + (2 * before - 5 * start + 4 * end - after) * t**2
        + (3 * start - before - 3 * end + after) * t**3
    )
    return np.vstack([curve.reshape(-1, 2), points[-1:]])


def fit(curves: list[np.ndarray], pen: float) -> list[np.ndarray]:
    """`curves`, each (n, 2) in the unit square, slanted and scaled into the glyph's box, in pixels.

    The pen is taken off the box first, so that its width stays the same however large the digit
    was drawn; the shorter side is put in the middle.
    """
    curves = [curve - [[SLANT, 0]] * curve[:, 1:] for curve in curves]
    everything = np.vstack(curves)
    low, high = everything.min(axis=0), everything.max(axis=0)
    scale = (GLYPH - pen) / (high - low).max()
    return [GLYPH / 2 + (curve - (low + high) / 2) * scale for curve in curves]


def ink(curves: list[np.ndarray], pen: float) -> np.ndarray:
    """uint8 (GLYPH, GLYPH): the round pen drawn along `curves`, each (n, 2) in pixels."""
    canvas = Image.new("L", (GLYPH * OVERSAMPLING, GLYPH * OVERSAMPLING), 0)
    draw = ImageDraw.Draw(canvas)
    # Rounded here, for Pillow would cut the fractions off and draw every disc up and to the left.
    last = round(pen * OVERSAMPLING) - 1  # Pillow counts a disc's right and lower edge in
    for x, y in np.rint((np.vstack(curves) - pen / 2) * OVERSAMPLING).astype(int).tolist():
        draw.ellipse((x, y, x + last, y + last), fill=255)
    return np.asarray(canvas.reduce(OVERSAMPLING))


def centre(glyph: np.ndarray) -> np.ndarray:
    """uint8 (FIELD, FIELD): `glyph`, (GLYPH, GLYPH), with its centre of mass in the middle.

    The shift is by whole pixels, as in MNIST, so that no edge is softened a second time.
    """
    positions = np.arange(GLYPH) + 0.5
    y, x = (
        round(FIELD / 2 - float(glyph.sum(axis=axis) @ positions / glyph.sum())) for axis in (1, 0)
    )
    field = np.zeros((FIELD, FIELD), dtype=np.uint8)
    field[y : y + GLYPH, x : x + GLYPH] = glyph
    return field


def draw_digit(digit: int) -> np.ndarray:
    """One digit, white on black: uint8 (FIELD, FIELD)."""
    curves = [smooth(stroke) for stroke in DIGITS[digit]]
    return centre(ink(fit(curves, PENS[digit]), PENS[digit]))


def main() -> None:
    """Writes digit_0.png to digit_9.png."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent, help="folder (default: the script's own)"
    )
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    for digit in DIGITS:
        Image.fromarray(draw_digit(digit)).save(folder / f"digit_{digit}.png", optimize=True)


if __name__ == "__main__":
    main()
