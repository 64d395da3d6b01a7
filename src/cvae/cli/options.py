"""Options that several commands share, and how many of them become one argument."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cvae.cli import completion
from cvae.cli.skipped import Listing
from cvae.cli.talk import NAMES_OUTPUT, SKIP_EXISTING, Talk
from cvae.errors import CvaeError

if TYPE_CHECKING:
    from cvae.codec import Codec
    from cvae.options import EncodeOptions

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

MODEL = "mnist"  # registry.DEFAULT, whose module `--help` need not load
MODEL_GIVEN, _LIST = "cvae.model", "cvae.list"


class GroupedOption(click.Option):
    """An option that `--help` shows under the heading `group`."""

    def __init__(self, *arguments: Any, group: str = "Options", **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.group = group


class GroupedCommand(click.Command):
    """Shows its options under headings, in the order in which these first occur."""

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for option in self.get_params(context):
            record = option.get_help_record(context)
            if record and isinstance(option, click.Option):  # the usage has the arguments
                groups.setdefault(getattr(option, "group", "Options"), []).append(record)
        for heading, records in groups.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def grouped(group: str, *names: str, **attributes: Any) -> Decorator:
    """An option under a heading, for a GroupedCommand."""
    return click.option(*names, cls=GroupedOption, group=group, **attributes)


def collect(name: str, make: Callable[..., Any], *options: Decorator) -> Decorator:
    """Options that a command takes as one argument, `name`: what `make` makes of their values.

    `make` is called when the command runs, so it may import what `--help` need not load.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def collected(**values: Any) -> Any:
            made = make(**{key: values.pop(key) for key in keys})
            return command(**values, **{name: made})

        before = {parameter.name for parameter in getattr(command, "__click_params__", [])}
        for option in reversed(options):
            option(collected)
        keys = {parameter.name for parameter in collected.__click_params__} - before  # type: ignore[attr-defined]
        return collected

    return decorate


def output(text: str) -> Decorator:
    """-o, with the help of the command."""
    return click.option("-o", "--output", metavar="OUT", callback=_refuse_device, help=text)


def _refuse_device(context: click.Context, option: click.Parameter, name: str | None) -> str | None:
    """Raises UsageError when `-o` is a device, a pipe, or what this process has open."""
    context.meta[NAMES_OUTPUT] = True
    if name is not None and name != "-":
        path = Path(name)
        special = path.exists() and not path.is_file() and not path.is_dir()
        if special or name.startswith(("/dev/std", "/dev/fd/", "/proc/")):
            text = "is a device or a pipe, expected a file; `-o -` is stdout"
            raise click.UsageError(f"-o {name} {text}")
    return name


def model(default: str = "") -> Decorator:
    """-m. Without it a command gets `MODEL`, or None where `default` says what it takes instead."""
    text = f"Name (see `cvae models`) or path of a .cvae file.  [default: {default or MODEL}]"
    value = None if default else MODEL
    return click.option(
        "-m", "--model", metavar="MODEL", default=value, callback=_remember_model,
        shell_complete=completion.models, help=text,
    )  # fmt: skip


def _remember_model(
    context: click.Context, option: click.Parameter, name: str | None
) -> str | None:
    context.meta[MODEL_GIVEN] = name  # contexts of one command line share it
    return name


def is_given(context: click.Context, name: str) -> bool:
    """Whether an option was typed."""
    return context.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE


def names_no_model(context: click.Context) -> bool:
    """Whether -m names a model that there is not, and no file or folder either."""
    from cvae.errors import CvaeError, ModelNotFoundError
    from cvae.models import registry

    name = context.meta.get(MODEL_GIVEN)
    try:
        if name is not None and not os.path.exists(name):  # noqa: PTH110  # which never raises
            registry.open_model(name)
    except CvaeError as error:
        return isinstance(error, ModelNotFoundError)
    return False


def count(text: str, default: int, least: int) -> Decorator:
    """-n, the number of pictures."""
    kind = click.IntRange(min=least)
    return click.option(
        "-n", "--count", type=kind, default=default, show_default=True, metavar="N", help=text
    )


QUALITY = click.IntRange(1, 100)
quality = click.option(
    "-q", "--quality", type=QUALITY, metavar="Q", help="1 (smallest) to 100 (best picture).  [default: 50]"
)  # fmt: skip
effort = click.option(
    "--effort", type=click.IntRange(0, 9), metavar="N", default=5, show_default=True,
    help="Search for symbols of a better picture or fewer bytes: 0 (none, fastest) to 9 (longest).",
)  # fmt: skip
fit = click.option(
    "--fit", is_flag=True, help="Convert and resize images that the model does not code."
)


def _as_colour(context: click.Context, option: click.Parameter, text: str | None) -> str | None:
    """A colour's name as `#rrggbb`. Raises BadParameter."""
    if text is None:
        return None
    from PIL import ImageColor

    try:
        red, green, blue = ImageColor.getrgb(text)
    except ValueError as error:  # no colour, or one with alpha
        found = f"expected an opaque colour such as white or '#ffffff', found {text!r}"
        raise click.BadParameter(found, context, option) from error
    return f"#{red:02x}{green:02x}{blue:02x}"


def background(default: str, group: str = "Options") -> Decorator:
    """--background as `#rrggbb`; the help says what is taken without it."""
    return grouped(
        group, "--background", metavar="COLOUR", callback=_as_colour,
        help=f"The colour behind transparent pixels, a name or '#rrggbb'.  [default: {default}]",
    )  # fmt: skip


crop = click.option(
    "--crop/--resize", default=None,
    help="Images of another shape: scale the shorter side and crop the centre, or squeeze the whole.  "
    "[default: as the model's training did, where that read a folder]",
)  # fmt: skip
# How image files are read.
reads = (fit, crop, background("that of the model's training; white for images of any size"))
max_pixels = click.option(
    "--max-pixels", type=click.IntRange(1, 64_000_000), metavar="N",
    help="Pixels that a fitted image may have, and be restored to.  "
    "[default: 16,000,000, or 256 times the model's own]",
)  # fmt: skip

lossless = click.option(
    "--lossless", is_flag=True,
    help="Keep every pixel of 8 bits, in single files transparency, too: with -m or else the lossless "
    "model of the shortest file.",
)  # fmt: skip
invert = click.option("--invert", is_flag=True, help="Invert before coding; decoding inverts back.")
split = click.option(
    "--split", type=click.Choice(["test", "train"]), help="Which images of an .npz file.  [default: test]"
)  # fmt: skip
key = click.option(
    "--key", metavar="NAME",
    help="Which array of an .npz file.  [default: x_test, else images, else the only one of images]",
)  # fmt: skip
threads = click.option(
    "--threads", type=click.IntRange(1, 256), metavar="N",
    help="Threads that read, code and write images.  [default: one a processor]",
)  # fmt: skip
force = click.option("-f", "--force", is_flag=True, help="Overwrite files that exist.")
skip_existing = click.option(
    "--skip-existing", SKIP_EXISTING, is_flag=True,
    help="Skip inputs whose results exist, and count them.",
)  # fmt: skip


def _remember_list(context: click.Context, option: click.Parameter, path: Path | None) -> None:
    """Raises UsageError where stdout is meant: results and figures go there."""
    if path == Path("-"):
        raise click.UsageError("--list-skipped -: expected the name of a file, found stdout")
    context.meta[_LIST] = path


list_skipped = click.option(
    "--list-skipped", metavar="FILE", type=click.Path(path_type=Path), callback=_remember_list,
    expose_value=False, help="Write what was skipped to FILE, a line each: name, tab, reason.",
)  # fmt: skip
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")


def talk(advice: str = "", verbose: str = "Print a line for every file.") -> Decorator:
    """--quiet and --verbose as one `talk`; `advice` is that of `Talk`. No --verbose without its help."""
    options = [click.option("--quiet", is_flag=True, help="Print only errors.")]
    if verbose:
        options.append(click.option("-v", "--verbose", is_flag=True, help=verbose))
    return collect("talk", partial(make_talk, advice), *options)


def make_talk(advice: str = "", quiet: bool = False, verbose: bool = False) -> Talk:
    """A command's Talk; its group says with it what ends the command, too."""
    context = click.get_current_context()
    path = context.meta.get(_LIST)
    found = Talk(quiet, verbose, advice, Listing(path) if path else None)
    context.find_root().obj = found
    return found


# What chooses between pictures that lose something.
_LOSSY = {
    "quality": "-q",
    "effort": "--effort",
    "max_bytes": "--max-bytes",
    "min_psnr": "--min-psnr",
}


def _encode_options(
    no_names: bool = False, no_verify: bool = False, **values: Any
) -> EncodeOptions:
    """Raises UsageError when --lossless comes with what has nothing to choose then."""
    from cvae.options import EncodeOptions

    if values.get("lossless") and (given := _lossy()):
        raise click.UsageError(f"--lossless keeps every pixel: {given[0]} has nothing to choose")
    return EncodeOptions(names=not no_names, verify=not no_verify, **values)


def refuse_lossy(codec: Codec) -> None:
    """Raises CvaeError when a lossless model is to choose between pictures that lose something."""
    if codec.lossless and (given := _lossy()):
        text = f"model {codec.name} keeps every pixel: {given[0]} has nothing to choose"
        raise CvaeError(text)


def _lossy() -> list[str]:
    context = click.get_current_context()
    return [text for name, text in _LOSSY.items() if is_given(context, name)]


def say_unused(options: EncodeOptions, model: str, talk: Talk) -> None:
    """Says which options change nothing, as they are about sizes, and the model takes any."""
    asked = {
        "--fit": options.fit, "--crop": options.crop is True, "--resize": options.crop is False,
        "--max-pixels": options.max_pixels is not None,
    }  # fmt: skip
    names = [name for name, is_asked in asked.items() if is_asked]
    if names:
        change = "changes" if len(names) == 1 else "change"
        unused = f"{' and '.join(names)} {change} nothing"
        talk.say(f"{unused}: model {model} takes images of any size")


# How image files are read, alone.
reading = collect("reading", _encode_options, *reads)

# How the originals of coded files are read, which may have been fitted.
originals = collect(
    "options", partial(_encode_options, fit=True), crop, reads[-1], split, key,
)  # fmt: skip

# How single files are coded.
coding = collect(
    "options", _encode_options, quality,
    click.option(
        "--max-bytes", type=click.IntRange(min=1), metavar="N",
        help="Best picture in at most N bytes: chooses each image's quality. Also with --min-psnr.",
    ),
    click.option(
        "--min-psnr", type=click.FloatRange(min=0, max=99), metavar="DB",
        help="Smallest file of at least DB decibels: chooses each image's quality.",
    ),
    effort, lossless, *reads, max_pixels, invert,
)  # fmt: skip

# How packs are coded.
packing = collect(
    "options", _encode_options, quality, effort, lossless, *reads, max_pixels, invert, split, key,
    click.option(
        "--pages", is_flag=True,
        help="Take all pages of TIFF stacks and animations, named FILE/000 and so on.  [default: the first]",
    ),
    click.option(
        "--block-images", type=click.IntRange(1, 4096), metavar="N", default=4096,
        help="Images a block: with few, single images come back sooner.  [default: 4,096]",
    ),
    click.option(
        "--labels", type=click.Choice(["auto", "folder", "none"]), default="auto", show_default=True,
        help="Keep labels: y_* arrays of .npz files and .cls and .json files beside images in archives "
        "(auto), or the folder of each image.",
    ),
    click.option("--no-names", is_flag=True, help="Keep no names of images, only their numbers."),
    click.option(
        "--no-verify", is_flag=True, help="Do not decode to know the PSNR. Much faster at --effort 0."
    ),
)  # fmt: skip
