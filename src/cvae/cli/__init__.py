"""The command line: thin commands that import their work inside their bodies."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NoReturn

import click

from cvae import CvaeError, ModelNotFoundError, OutputError, __version__
from cvae.cli.completion import offer_files
from cvae.cli.options import names_no_model
from cvae.cli.talk import Talk, enough_memory, harmless

# In the order of use.
COMMANDS = (
    "encode", "decode", "pack", "unpack", "list", "merge", "verify", "eval", "denoise", "sample",
    "interpolate", "info", "models", "train", "export", "demo", "help", "version",
)  # fmt: skip


class Group(click.Group):
    """Imports a command when it is used, and turns every CvaeError into one line and exit code 1.

    Where -m names no model, the code is that of wrong usage.
    """

    def list_commands(self, context: click.Context) -> list[str]:
        return [*COMMANDS]  # `list` may be the module of that command

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        found: click.Command = import_module(f"cvae.cli.{name}").command
        offer_files(found)
        return found

    def resolve_command(self, context: click.Context, typed: list[str]) -> Any:
        """As click's, which knows no names that are like one, as it has not imported the commands."""
        try:
            return super().resolve_command(context, typed)
        except click.UsageError as error:
            if not typed[0].startswith("-"):
                from cvae.cli.help import meant

                error.message += meant(typed[0], COMMANDS)  # type: ignore[misc]
            raise

    def make_context(self, *arguments: Any, **values: Any) -> click.Context:
        with _escaped():
            return super().make_context(*arguments, **values)

    def main(self, *arguments: Any, **extra: Any) -> NoReturn:
        """As click's, which makes of an interrupt an error of its own."""
        try:
            code = super().main(*arguments, **{**extra, "standalone_mode": False})
        except click.ClickException as error:
            error.show()
            code = error.exit_code
        except click.Abort as error:
            raise KeyboardInterrupt from error
        sys.exit(code or 0)

    def invoke(self, context: click.Context) -> Any:
        found: CvaeError
        try:
            with _escaped(), enough_memory():
                return super().invoke(context)
        except CvaeError as error:
            found = error
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # click ends quietly when nobody reads any more
            found = OutputError(f"{error.strerror or error}", where=error.filename or "output")
        except KeyboardInterrupt as error:
            _say_what_waits(context.obj)
            raise click.Abort from error  # without the empty line that click prints
        talk = context.obj or Talk()
        talk.error(found)
        is_usage = isinstance(found, ModelNotFoundError) and names_no_model(context)
        return talk.end(2 if is_usage else 1)


def _say_what_waits(talk: Talk | None) -> None:
    """Says and lists the errors of an interrupted command."""
    if talk:
        talk.say_failures()
        if talk.listing:
            talk.listing.write()


@contextmanager
def _escaped() -> Iterator[None]:
    """Escapes what click says of wrong usage, which repeats what was typed."""
    try:
        yield
    except click.ClickException as error:
        error.message = harmless(error.message)  # type: ignore[misc]
        raise


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 an error, 2 wrong usage, 130 interrupted, "
    "141 nobody reads the output.",
)
@click.version_option(__version__, "-V", "--version", prog_name="cvae")
def main() -> None:
    """A neural image codec: learns one kind of image, then needs few bytes a picture.

    \b
      cvae encode digit.png     -> digit.bin
      cvae decode digit.bin     -> digit_reconstructed.png
      cvae pack scans/          -> scans.bin, one file for many images
      cvae unpack scans.bin     -> scans_reconstructed/
      cvae eval mnist.npz       PSNR, bytes and compression ratio

    `cvae models` lists the models that there are; `cvae train` makes others.
    """
    import logging

    # A message that no handler takes would be printed; what matters is said by our own.
    logging.getLogger().addHandler(logging.NullHandler())
