"""`cvae sample`: new images from a model's distribution of latents."""

from __future__ import annotations

import click

from cvae.cli import common, gallery
from cvae.cli.common import Talk


@click.command("sample")
@common.model_option
@click.option(
    "-n",
    "--count",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    metavar="N",
    help="How many images.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    metavar="SEED",
    help="The same seed gives the same images.  [default: another one each time, which is printed]",
)
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    help="A name with the ending of an image gives one grid, a folder a file for each image, `-` the "
    "grid as PNG on stdout.  [default: MODEL_samples.png in the current folder]",
)
@common.file_options
def command(
    model: str | None,
    count: int,
    seed: int | None,
    output: str | None,
    force: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Draw new images from a model.

    The latents of a VAE come from its prior, N(0, I). Other models have none: of those, and of
    linear codecs, each latent comes from the distribution that was fitted to the training images,
    by itself, which gives images that look less like them.
    """
    import math
    import secrets

    from cvae import codec as codecs
    from cvae import sampling as generate
    from cvae.models import registry

    codec = codecs.open_model(model or registry.DEFAULT)
    place = gallery.place(output, f"{codec.name}_samples.png", "sample", count, force)
    talk = Talk(quiet, verbose)
    if seed is None:
        seed = secrets.randbits(32)
    if not generate.has_prior(codec):
        talk.say(
            f"{codec.name} is no VAE and has no prior: "
            "every latent is drawn by itself from the distribution fitted at export"
        )
    batches = generate.sample_batches(codec, count, seed)
    gallery.write(place, batches, codec.image_shape, math.ceil(math.sqrt(count)), talk)
    talk.say(f"{count} images of {codec.name} -> {place.name}; --seed {seed} draws them again")
