"""`cvae version`: which cvae this is."""

from __future__ import annotations

import click

from cvae import __version__
from cvae.cli.talk import echo


@click.command("version")
def command() -> None:
    """Show the version, as `cvae --version` does."""
    echo(f"cvae, version {__version__}")
