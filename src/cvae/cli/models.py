"""`cvae models`: the models that encode, decode and denoise find."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from cvae.cli import common

if TYPE_CHECKING:
    from cvae.model import Manifest


@click.command("models")
@common.json_option
def command(as_json: bool) -> None:
    """List the models that encode, decode and denoise find.

    They are shipped, or in CVAE_MODELS: files or folders, like PATH. --json tells their paths."""
    from cvae import registry

    entries, errors = registry.known_models()
    for error in errors:
        click.echo(f"cvae: warning: {error}", err=True)
    if as_json:
        facts = [
            {
                "name": m.name,
                "id": f"{m.id:#06x}",
                "kind": m.kind,
                "denoises": m.denoises,
                "image_shape": m.image_shape,
                "latent_shape": m.latent_shape,
                "summary": m.summary,
                "figures": m.figures,
                "path": str(path),
            }
            for path, m in entries
        ]
        click.echo(json.dumps(facts, indent=2))
    else:
        width = max((len(entry.manifest.name) for entry in entries), default=0)
        for _, manifest in entries:
            mark = "*" if manifest.name == registry.DEFAULT else " "
            click.echo(
                f"{mark} {manifest.name:{width}}  {manifest.id:#06x}  "
                f"{manifest.describe_images():12} {_figures(manifest)}  {manifest.summary}"
            )
        click.echo("* default; bytes a file and PSNR are of validation images", err=True)


def _figures(manifest: Manifest) -> str:
    from cvae.model import CODEC

    if manifest.kind == CODEC:
        size = manifest.figures.get("payload_bytes_mean", 0) + 6
        return f"{size:6.1f} B {manifest.figures.get('psnr_mean', 0):6.2f} dB"
    return f"denoiser {manifest.figures.get('denoised_psnr', 0):6.2f} dB"
