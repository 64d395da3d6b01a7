"""`cvae models`: the models that encode and decode find."""

from __future__ import annotations

import json

import click

from cvae.cli import common


@click.command("models")
@common.json_option
def command(as_json: bool) -> None:
    """List the models that encode and decode find.

    They are shipped, or in CVAE_MODELS: files or folders, like PATH. --json tells their paths."""
    from cvae import images, registry

    entries, errors = registry.known_models()
    for error in errors:
        click.echo(f"cvae: warning: {error}", err=True)
    if as_json:
        facts = [
            {
                "name": m.name,
                "id": f"{m.id:#06x}",
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
            size = manifest.figures.get("payload_bytes_mean", 0) + 6
            psnr = manifest.figures.get("psnr_mean", 0)
            click.echo(
                f"{mark} {manifest.name:{width}}  {manifest.id:#06x}  "
                f"{images.describe(manifest.image_shape):12} {size:6.1f} B {psnr:6.2f} dB  "
                f"{manifest.summary}"
            )
        click.echo("* default; bytes a file and PSNR are of validation images", err=True)
