"""`cvae sample`: new images from a model's distribution of latents."""

from __future__ import annotations

import click

from cvae.cli import options
from cvae.cli.files import Gallery
from cvae.cli.talk import Talk


@click.command("sample")
@options.model()
@click.option(
    "-n", "--count", type=click.IntRange(min=1), default=16, show_default=True, metavar="N",
    help="How many images.",
)  # fmt: skip
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), metavar="SEED",
    help="The same seed gives the same images.  [default: another one each time, which is printed]",
)  # fmt: skip
@options.output(
    "An image file gets a grid of all, a folder a file for each image; `-` is the grid as PNG on "
    "stdout.  [default: MODEL_samples.png in the current folder]"
)
@options.force
@options.talk()
def command(
    model: str | None, count: int, seed: int | None, output: str | None, force: bool, talk: Talk
) -> None:
    """Draw new images from a model.

    The latents of a VAE come from its prior, N(0, I). Other models have none: there, each latent
    comes by itself from the distribution that was fitted to the training images. Such images look
    less like them.
    """
    import math
    import secrets

    from cvae import codec as codecs
    from cvae import sampling
    from cvae.models import registry

    codec = codecs.open_model(model or registry.DEFAULT)
    gallery = Gallery.at(output, f"{codec.name}_samples.png", "sample", count, force)
    if seed is None:
        seed = secrets.randbits(32)
    if not sampling.has_prior(codec):
        talk.say(
            f"{codec.name} is no VAE and has no prior: "
            "every latent is drawn by itself from the distribution fitted at export"
        )
    batches = sampling.sample_batches(codec, count, seed)
    columns = math.ceil(math.sqrt(count))
    gallery.write(batches, codec.image_shape, columns, talk, animated=False)
    talk.say(f"{count} images of {codec.name} -> {gallery.name}; --seed {seed} draws them again")
