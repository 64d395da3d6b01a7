"""`cvae demo`: a page in the browser that tries the models."""

from __future__ import annotations

import click

from cvae.cli import options
from cvae.cli.talk import Talk


@click.command("demo")
@click.option("--host", default="127.0.0.1", show_default=True, metavar="HOST",
              help="The address to serve at; 0.0.0.0 lets other machines in.")  # fmt: skip
@click.option("--port", type=click.IntRange(1, 65535), default=7860, show_default=True, metavar="PORT",
              help="The port to serve at.")  # fmt: skip
@click.option(
    "--space", metavar="DIR", help="Write a folder that runs as a hosted Space, and serve nothing."
)
@options.model("mnist for pictures of 28x28 pixels, else photo")
@options.talk()
def command(host: str, port: int, space: str | None, model: str | None, talk: Talk) -> None:
    """Serve a page that codes, denoises and draws.

    \b
      cvae demo                    -> http://127.0.0.1:7860
      cvae demo --space space/     a folder to push to a hosted Space

    Needs the extra `demo`. Nothing leaves this machine, and what visitors upload is deleted after ten
    minutes, or when the command ends. Ctrl-C ends it.
    """
    from pathlib import Path

    from cvae.demo import work

    chosen = model or work.AUTOMATIC
    if space is not None:
        from cvae.demo.space import write

        write(Path(space), chosen)
        talk.say(
            f"{space}: app.py, requirements.txt, README.md and the package; `python app.py` serves it"
        )
        return
    from threading import Event

    from cvae.demo import server

    with server.running(host, port, chosen) as address:
        talk.say(f"{address}  (Ctrl-C ends it)")
        Event().wait()
