"""Figures for people: one line a fact, on stdout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from cvae.cli.talk import counted, echo, harmless

if TYPE_CHECKING:
    from cvae.evaluation.comparison import Comparison
    from cvae.models.file import Manifest

COLUMNS = 80
Rows = Sequence[tuple[str, str]]

_SIZE = ("compression ratio", "{compression_ratio:,.1f}:1 ({bpp:.4f} bits a pixel)")
_PICTURE: Rows = [
    ("PSNR of the mean MSE", "{psnr_of_mean_mse:.2f} dB (mean MSE {mse_mean:,.1f})"),
    ("SSIM", "{ssim}"),
    ("below expected quality", "{warned:,} of {images:,} images"),
]
_DECODE = ("decode", "{decode_speed}")
_CODING: Rows = [
    ("file", "{file_bytes_mean:,.2f} bytes on average, of which {payload_bytes_mean:,.2f} payload"),
    ("information", "{information_bits_mean:,.2f} bits on average"),
    _SIZE,
    ("PSNR", "{psnr_mean:.2f} dB, {psnr_of_means:.2f} dB before quantization and search"),
    *_PICTURE,
    ("encode", "{encode_speed}, decoding to check included"),
    _DECODE,
]
_LOSSLESS: Rows = [
    ("file", "{file_bytes_mean:,.2f} bytes on average, of which {payload_bytes_mean:,.2f} payload"),
    ("information", "{information_bits_mean:,.2f} bits on average"),
    _SIZE,
    ("bits a dimension", "{bits_per_dimension:.3f}"),
    ("come back otherwise", "{images_that_differ:,} of {images:,} images"),
    ("encode", "{encode_speed}"),
    _DECODE,
]
_KEPT: Rows = [
    ("file", "{file_bytes_mean:,.2f} bytes an image"),
    _SIZE,
    ("come back otherwise", "{images_that_differ:,} of {images:,} images"),
    _DECODE,
]
_CODED: Rows = [
    ("file", "{file_bytes_mean:,.2f} bytes an image"),
    _SIZE,
    ("PSNR", "{psnr_mean:.2f} dB"),
    *_PICTURE,
    _DECODE,
]


def show(lines: Iterator[str]) -> None:
    """Prints a table."""
    for line in lines:
        echo(line)


def ratio(raw: int, size: float) -> str:
    """The bytes of images as raw pixels to those of their files."""
    return f"{raw / size:,.1f}:1"


def below(expected_psnr: float, model: str) -> str:
    """What warnings say of the PSNR of images that come back badly."""
    return f"below the {expected_psnr:.1f} dB that 99 % of the images of model {model} reach"


def others(manifest: Manifest) -> str:
    """The advice beside `below`: models that learned other images of the size, if there are some."""
    from cvae import kinds

    def fits(other: Manifest) -> bool:
        kind = kinds.of(other)
        codes = kind.codes and not (kind.any_size or kind.lossless or kind.denoises(other))
        learned = other.data.get("sha256") != manifest.data.get("sha256")
        return codes and learned and other.image_shape == manifest.image_shape

    names = sorted({other.name for _, other in kinds.known_models()[0] if fits(other)})
    if not names:
        return ""
    size = kinds.of(manifest).describe(manifest)
    models, take = ("model", "takes") if len(names) == 1 else ("models", "take")
    return f"{models} {', '.join(names)} {take} {size} images, too: -m NAME"


def coding(result: dict[str, Any]) -> Iterator[str]:
    """The figures of a model on a data set."""
    title = "{model} on {dataset} ({split}, {count}), quality {quality}, effort {effort}"
    if "bits_per_dimension" in result:
        return _table("{model} on {dataset} ({split}, {count})", _LOSSLESS, result)
    rows = _CODING
    if "psnr_of_means" not in result:  # a model of any size
        rows = [("PSNR", "{psnr_mean:.2f} dB") if row[0] == "PSNR" else row for row in rows]
    return _table(title, rows, result)


def coded(result: dict[str, Any], against: str) -> Iterator[str]:
    """The figures of coded files of one model against their originals, as these were typed."""
    title = "{file} against {against}: {count}, model {model}, {how}"
    exact, quality = "images_that_differ" in result, result["quality"]
    how = "several qualities" if quality is None else f"quality {quality}"
    values = {**result, "against": against, "how": "lossless" if exact else how}
    return _table(title, _KEPT if exact else _CODED, values)


def noise(result: dict[str, Any]) -> Iterator[str]:
    """The figures of noise that was put on images and taken off again; no title where it has others."""
    if "quality" not in result:
        yield from _table("{model} on {dataset} ({split}, {count})", [], result)
    line = "  {:22}  {:.2f} dB (mean MSE {:.5f} of [0, 1])".format
    yield line(f"noise of {result['noise']:g}", result["noisy_psnr"], result["noisy_mse"])
    yield line("denoised", result["denoised_psnr"], result["denoised_mse"])
    for row in result.get("rivals", []):
        if "weight" in row:
            yield line(row["codec"], row["psnr"], row["mse"]) + f", weight {row['weight']:g}"


def against(result: dict[str, Any], comparison: Comparison) -> Iterator[str]:
    """One line a codec and layout, beside ours."""
    from cvae.evaluation.comparison import MARKS, lines

    found = lines(comparison.curve, comparison.rivals, result["quality"], result["psnr_mean"])
    width = max(len("codec"), *(len(line.codec) for line in found))
    yield ""
    yield f"{'codec':{width}}  layout  bytes an image  at PSNR      times ours  BD-rate"
    for line in found:
        psnr = "lossless" if line.psnr is None else f"{line.psnr:.2f} dB"
        psnr = f"{psnr} {line.mark}".rstrip()
        rate = line.bd_rate_percent
        yield (
            f"{line.codec:{width}}  {line.layout:6}  {line.bytes:14,.2f}  {psnr:11}  "
            f"{line.times_ours:10.2f}  {'n/a' if rate is None else f'{rate:+.1f} %'}"
        )
    yield "BD-rate: our bytes against the codec's at equal PSNR; n/a: curves too far apart"
    used = {line.mark for line in found}
    yield from (f"{mark} {text}" for mark, text in MARKS.items() if mark in used)


def exactly(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """One line a lossless codec and layout, beside ours."""
    width = max(len("codec"), *(len(row["codec"]) for row in rows))
    yield ""
    yield f"{'codec':{width}}  layout  bytes an image  bits a dimension  times ours"
    ours = {row["layout"]: row["file_bytes_mean"] for row in rows[:2]}
    for row in rows:
        size, layout = row["file_bytes_mean"], row["layout"]
        times = size / (ours["single"] if layout == "single" else ours["block"])
        rate = row["bits_per_dimension"]
        yield f"{row['codec']:{width}}  {layout:6}  {size:14,.2f}  {rate:16.3f}  {times:10.2f}"


def facts(found: dict[str, Any], columns: int = COLUMNS) -> Iterator[str]:
    """What a file says of itself; a long fact below its name, one of several fields a line a field.

    What is empty is left out.
    """
    found = {name: value for name, value in found.items() if _plain(value)}
    width = max((len(name) for name in found), default=0)
    for name, value in found.items():
        label, text = name.replace("_", " "), harmless(_plain(value))
        line = f"{label:{width}}  {text}"
        if len(line) <= columns or name == "file":  # a path stays in one piece
            yield line
            continue
        import textwrap

        yield label
        if isinstance(value, dict):  # a line a field
            yield from (f"  {line}" for line in facts(value, columns - 2))
            continue
        # click's own wrapping would break hashes at the last column, and names at their hyphens.
        yield from textwrap.wrap(
            text, columns, initial_indent="  ", subsequent_indent="  ", break_long_words=False,
            break_on_hyphens=False,
        )  # fmt: skip


def _table(title: str, rows: Rows, result: dict[str, Any]) -> Iterator[str]:
    values = {**result, "count": counted(result["images"], "image"), "ssim": _ssim(result)}
    for work in ("encode", "decode"):
        values[f"{work}_speed"] = _speed(result.get(f"{work}_images_per_second", 0))
    yield title.format(**values)
    width = max((len(label) for label, _ in rows), default=0)
    for label, text in rows:
        yield f"  {label:{width}}  {text.format(**values)}"


def _speed(per_second: float) -> str:
    """Images a second; where they are less than one, seconds an image."""
    if 0 < per_second < 1:
        return f"{1 / per_second:,.1f} seconds an image"
    return f"{per_second:,.0f} images a second"


def _ssim(result: dict[str, Any]) -> str:
    ssim, left_out = result.get("ssim_mean"), result.get("ssim_left_out")
    if ssim is None:
        return "- (needs the extra eval, and 11x11 pixels)"
    of = f" without {counted(left_out, 'image')} smaller than 11x11 pixels" if left_out else ""
    return f"{ssim:.4f}{of}"


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_plain(item)}" for key, item in value.items())
    if isinstance(value, tuple | list):
        sentences = any(" " in str(item) for item in value)
        return ("; " if sentences else " ").join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return f"{value:,}"
    return "-" if value is None else str(value)
