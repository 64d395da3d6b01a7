"""`cvae sample`: new images from a model's distribution of latents."""

from __future__ import annotations

import click

from cvae.cli import kept, options
from cvae.cli.gallery import Gallery
from cvae.cli.talk import Talk, counted


@click.command("sample")
@options.output(
    "An image file gets a grid of all, or the one image; a folder a file for each; `-` is the grid as PNG on "
    "stdout.  [default: MODEL_samples.png in the current folder]"
)
@options.model()
@options.count("How many images.", 16, 1)
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), metavar="SEED",
    help="Seed for all random numbers.  [default: a new one, which is printed]",
)  # fmt: skip
@options.force
@options.talk()
def command(
    output: str | None, model: str, count: int, seed: int | None, force: bool, talk: Talk
) -> None:
    """Draw new images from a model.

    \b
      cvae sample                            -> mnist_samples.png, a grid
      cvae sample -n 100 --seed 1 -o new/    a file each

    The latents of a VAE come from its prior, N(0, I). Other models have no prior: each latent is
    drawn by itself from the distribution of the training images, which gives poorer images. Lossless
    models draw pixel by pixel.
    """
    import math
    import secrets

    from cvae import codec as codecs
    from cvae import sampling

    codec = codecs.open_model(model)
    sampling.check_one_size(codec)
    gallery = Gallery.at(output, f"{codec.name}_samples.png", "sample", count, force)
    kept.refuse_inputs(gallery.paths(), ())
    seed = secrets.randbits(32) if seed is None else seed
    if not (sampling.has_prior(codec) or codec.lossless):
        talk.say(
            f"{codec.name} is no VAE and has no prior: "
            "every latent is drawn by itself from the distribution fitted at export"
        )
    batches = sampling.sample_batches(codec, count, seed)
    columns = math.ceil(math.sqrt(count))
    them = "it" if count == 1 else "them"
    gallery.write(batches, codec.image_shape, columns, talk, animated=False)
    talk.say(
        f"{counted(count, 'image')} of {codec.name} -> {gallery.name}; --seed {seed} draws {them} again"
    )
