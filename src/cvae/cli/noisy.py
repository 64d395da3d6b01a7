"""`cvae eval --noise`: what is left of noise that was put on a data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cvae.cli import common

if TYPE_CHECKING:
    from cvae.models.file import Model


def evaluate(
    data: Path,
    name: str | None,
    quality: int | None,
    effort: int,
    split: str | None,
    limit: int | None,
    against: str | None,
    factor: float,
    as_json: bool,
) -> None:
    """Prints the figures: those of noise, behind those of coding where the model is a codec."""
    from cvae.cli.eval import advising, load_part, progress, table
    from cvae.evaluation import measure as evaluation
    from cvae.evaluation import noise
    from cvae.models import registry
    from cvae.models.file import CODEC

    rivals = _rivals(against)
    model = registry.open_model(name or registry.DEFAULT)
    is_codec = model.manifest.kind == CODEC
    if not is_codec:
        _refuse_coding_options(model.manifest.name)
    with advising(data, split):
        if split is not None and data.is_dir():
            images = noise.of_part(data, load_part(data, split, model), model)
        else:
            images = noise.load(data, split, model)
        with progress() as say:
            say("denoising")
            figures = noise.measure(model, images, factor, limit)
            if rivals:
                figures["rivals"] = [noise.total_variation(images, factor, limit, say)]
    result: dict[str, Any] = {
        "model": model.manifest.name,
        "dataset": data.stem,
        "split": evaluation.split_name(data, split),
        "images": noise.count(images, limit),
    }
    if is_codec:
        result |= _coding(model, images, limit, quality, effort)
    if not model.manifest.denoises:
        common.Talk(quiet=False, verbose=False).warning(
            f"{model.manifest.name} was not trained on noisy images; denoised is what its synthesis "
            "makes of its analysis"
        )
    result |= figures
    if as_json:
        click.echo(json.dumps(result, indent=2))
        return
    title = "{model} on {dataset} ({split}, {images:,} images)".format(**result)
    click.echo(table(result) if is_codec else title)
    click.echo(_table(result))


def _rivals(against: str | None) -> list[str]:
    from cvae.evaluation import noise

    names = [] if against is None else [text.strip().lower() for text in against.split(",")]
    if set(names) - {noise.TV}:
        raise click.UsageError(f"with --noise, --against takes {noise.TV} alone")
    if names:
        noise.check_tv()
    return names


def _refuse_coding_options(name: str) -> None:
    context = click.get_current_context()
    for option in ("quality", "effort"):
        source = context.get_parameter_source(option)
        if source is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{name} is a denoiser, which has no --{option}")


def _coding(
    model: Model, pixels: Any, limit: int | None, quality: int | None, effort: int
) -> dict[str, Any]:
    from cvae.codec import Codec
    from cvae.evaluation import measure as evaluation

    return evaluation.evaluate(Codec(model), pixels[:limit], quality, effort)


def _table(result: dict[str, Any]) -> str:
    rows = [
        (f"noise of {result['noise']:g}", result["noisy_psnr"], result["noisy_mse"], ""),
        ("denoised", result["denoised_psnr"], result["denoised_mse"], ""),
        *(
            (row["codec"], row["psnr"], row["mse"], f", weight {row['weight']:g}")
            for row in result.get("rivals", [])
        ),
    ]
    return "\n".join(
        f"  {label:22}  {psnr:.2f} dB (mean MSE {mse:.5f} of [0, 1]){more}"
        for label, psnr, mse, more in rows
    )
