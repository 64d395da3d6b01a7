"""`cvae merge`: several packs to one, whose images are not coded again."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import click

from cvae.cli import asked, files, kept, options
from cvae.cli.files import STDIO
from cvae.cli.talk import Talk, counted


@click.command("merge")
@click.argument("sources", nargs=-1, required=True, metavar="PACK...")
@options.output("The pack to write.")
@options.force
@options.talk(verbose="")
def command(sources: tuple[str, ...], output: str | None, force: bool, talk: Talk) -> None:
    """Put packs together to one. What is coded is copied.

    \b
      cvae merge monday.bin tuesday.bin -o week.bin
      cvae merge coded/ -o one.bin              a folder of packs becomes one

    PACK is a pack or a folder of packs, here or at a URL. All are of one model and quality, inverted or
    not, and have the same columns (names, original sizes, labels of the same fields). Nothing is written
    where one differs or is damaged. `cvae pack --append` adds images to a pack.
    """
    from cvae import packs
    from cvae.data import places
    from cvae.packs import merge

    if output is None or output == STDIO or output.endswith("/") or Path(output).is_dir():
        raise click.UsageError("this pack needs a name: -o NAME.bin")
    target = places.locate(output)
    kept.refuse_inputs([target], sources)
    with ExitStack() as stack:
        readers = []
        for source in sources:
            asked.check_pack(source)
            readers.append((source, stack.enter_context(packs.open_reader(source))))
        header = merge.common_header(readers)
        with files.writing(target, force) as file:
            images, size = merge.merge(readers, header, file)
    coded = f"{counted(images, 'image')} in {size:,} bytes"
    talk.say(f"{target}: {coded}, of {counted(len(sources), 'pack')}")
    talk.end()
