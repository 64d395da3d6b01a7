"""The command line: thin commands that import their work inside their bodies."""

from __future__ import annotations

import sys
from typing import Any

import click

from cvae import CvaeError, __version__
from cvae.cli.decode import decode
from cvae.cli.encode import encode
from cvae.cli.evaluate import evaluate
from cvae.cli.export import export
from cvae.cli.info import info
from cvae.cli.models import models
from cvae.cli.train import train


class Group(click.Group):
    """Turns every CvaeError into one line on stderr and exit code 1."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except CvaeError as error:
            click.echo(f"cvae: error: {error}", err=True)
            context.exit(1)
        except KeyboardInterrupt:
            click.echo("cvae: interrupted", err=True)
            sys.exit(130)

    def list_commands(self, context: click.Context) -> list[str]:
        return list(self.commands)  # in the order of use, not of the alphabet


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 an error, 2 wrong usage. "
    "Models are searched among the shipped ones and in CVAE_MODELS (files or folders, like PATH).",
)
@click.version_option(__version__, "-V", "--version", prog_name="cvae")
def main() -> None:
    """A neural image codec: learns one kind of image, then needs a dozen bytes a picture.

    \b
      cvae encode digit.png     -> digit.bin
      cvae decode digit.bin     -> digit_reconstructed.png
      cvae eval mnist.npz       PSNR, bytes and compression ratio
    """


for command in (encode, decode, evaluate, info, models, train, export):
    main.add_command(command)
