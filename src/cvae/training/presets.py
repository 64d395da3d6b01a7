"""Training recipes as data. Adding a model means adding a constant here."""

from __future__ import annotations

from dataclasses import replace

from cvae.training.preset import GridSizes, LosslessSizes, Preset

# In the order: what it is called and made for; the networks; the loss; the training; the coding.
# fmt: off

MNIST_CVAE = Preset(
    "mnist-cvae", "16 latents, the textbook CVAE: cross-entropy + KL", "mnist", (28, 28, 1),
    distortion="bce",
)
MNIST = Preset(
    "mnist", "16 latents, trained for coding: weighted squared error + KL", "mnist", (28, 28, 1),
    distortion_weight=25.0, epochs=120, learning_rate=2e-3, schedule="cosine", step_width=3.6,
)
FASHION = replace(
    MNIST, name="fashion", summary="the networks and recipe of mnist, for Fashion-MNIST",
    dataset="fashion_mnist",
)
MNIST_HQ = Preset(
    "mnist-hq",
    "96 latents from a linear codec and a network on top, for pictures close to the original",
    "mnist", (28, 28, 1),
    architecture="residual", latent_dim=96, refine=(48, 64),
    distortion_weight=195.0, epochs=30, learning_rate=2e-3, schedule="cosine", step_width=1.25,
)
FASHION_HQ = replace(
    MNIST_HQ, name="fashion-hq", dataset="fashion_mnist", latent_dim=128, distortion_weight=160.0,
    summary="the networks of mnist-hq with 128 latents, for Fashion-MNIST",
)
CIFAR = replace(
    MNIST_HQ, name="cifar",
    summary="the networks of mnist-hq with 192 latents, for CIFAR-10 in colour",
    dataset="cifar10", image_shape=(32, 32, 3), latent_dim=192, linear_step=0.4,
    distortion_weight=42.0, epochs=80, learning_rate=1e-3, augment=("flip",), step_width=1.0,
)
TILES = replace(
    CIFAR, name="tiles", dataset="tiles", latent_dim=128, epochs=60, augment=("flip", "shift"),
    summary="the networks of cifar with 128 latents, for the drawn 32x32 tiles of a game",
)

LINEAR_MNIST = Preset(
    "linear-mnist", "400 principal components: what a network has to beat", "mnist", (28, 28, 1),
    architecture="linear", latent_dim=400,
    step_width=0.6,  # the middle of the range in which codecs are compared
)
LINEAR_FASHION = replace(
    LINEAR_MNIST, name="linear-fashion", summary="400 principal components of Fashion-MNIST",
    dataset="fashion_mnist",
)
LINEAR_CIFAR = replace(
    LINEAR_MNIST, name="linear-cifar", summary="400 principal components of CIFAR-10",
    dataset="cifar10", image_shape=(32, 32, 3), step_width=0.5,
)
LINEAR_TILES = replace(
    LINEAR_CIFAR, name="linear-tiles", summary="400 principal components of the tiles",
    dataset="tiles",
)

FASHION_AE = Preset(
    "fashion-ae", "a plain convolutional autoencoder, pooling down to 4x4x128, for Fashion-MNIST",
    "fashion_mnist", (28, 28, 1),
    architecture="autoencoder", latent_dim=128,
    analysis=("conv 32", "pool", "conv 64", "pool", "conv 128", "pool"),
    synthesis=(
        "conv 128", "up", "conv 64", "up", "conv 32 valid", "up", "conv 32", "conv 1 sigmoid",
    ),
    schedule="plateau", patience=10, step_width=0.6,
)
FASHION_DAE = replace(
    FASHION_AE, name="fashion-dae", latent_dim=32,
    summary="the networks of fashion-ae with dropout, trained to take away noise",
    analysis=("conv 32", "pool", "conv 64", "pool", "conv 128", "pool", "drop 0.25"),
    synthesis=(
        "conv 128", "drop 0.25", "up", "conv 64", "up", "conv 32 valid", "up", "conv 32",
        "conv 1 sigmoid",
    ),
    noise=0.3, batch_size=32, epochs=60, schedule="cosine", dropout_share=0.4,
)
MNIST_AE = Preset(
    "mnist-ae", "a small convolutional autoencoder, 4x4x8 latents, cross-entropy",
    "mnist", (28, 28, 1), architecture="autoencoder", latent_dim=128,
    analysis=("conv 16 valid", "pool", "conv 8", "pool", "conv 8 /2"),
    synthesis=("conv 8", "up", "conv 8", "up", "conv 16 valid", "up", "conv 1 sigmoid"),
    distortion="bce", step_width=1.0,
)
CIFAR10 = Preset(
    "cifar10",
    "convolutions of stride 2 and 256 latents, squared error + a perceptual loss, in colour",
    "cifar10", (32, 32, 3),
    architecture="autoencoder", latent_dim=256,
    analysis=("conv 32 /2 norm", "conv 64 /2 norm", "conv 128 /2 norm", "dense 256"),
    synthesis=(
        "grid 128", "tconv 128 *2 norm", "tconv 64 *2 norm", "tconv 32 *2 norm", "tconv 3 sigmoid",
    ),
    perceptual_weight=5.0, batch_size=32, epochs=60, schedule="cosine",
    augment=("flip", "shift", "brightness", "contrast"), step_width=0.3,
)
PHOTO_VAE = Preset(
    "photo-vae",
    "a VAE of 64 latents for colour images of any --size divisible by 64, to draw samples from",
    "photos", (512, 512, 3),
    architecture="vae", latent_dim=64,
    analysis=(
        "conv 32 /2 norm", "conv 64 /2 norm", "conv 128 /2 norm", "conv 128 /2 norm",
        "conv 256 /2 norm", "conv 256 /2 norm", "drop 0.2",
    ),
    synthesis=(
        "grid 256", "tconv 256 *2 norm", "tconv 128 *2 norm", "tconv 128 *2 norm",
        "tconv 64 *2 norm", "tconv 32 *2 norm", "tconv 32 *2 norm", "conv 3 sigmoid",
    ),
    batch_size=16, epochs=100, patience=20, schedule="plateau", augment=("flip",),
)
PHOTO_DAE = Preset(
    "photo-dae", "takes noise out of photos of any size; a U-Net, no codec",
    "photos", (384, 384, 3), architecture="denoiser", latent_dim=0, filters=(32, 64, 128),
    noise=0.4, batch_size=16, epochs=200, schedule="cosine", patience=200,
    augment=("flip",), crop=64, passes=24,
)

PHOTO = Preset(
    "photo", "a codec for photographs of any size, one model for all qualities",
    "photos", (192, 192, 3),
    architecture="grid", latent_dim=320, filters=(64, 128, 144), refine=(144, 96, 48),
    batch_size=16, epochs=200, learning_rate=5e-4, fine_tuning=0.4, precision="auto", schedule="cosine",
    warmup=1000, average=0.9998, augment=("flip",), crop=192, steps=500,
)

LOSSLESS_MNIST = Preset(
    "lossless-mnist", "every pixel back: a network that knows the pixels before each", "mnist",
    (28, 28, 1),
    architecture="lossless", lossless=LosslessSizes(6, 6, hidden=(192, 128, 96)),
    batch_size=4096, epochs=60, learning_rate=2e-3, schedule="cosine", warmup=200, steps=500,
)
LOSSLESS_FASHION = replace(
    LOSSLESS_MNIST, name="lossless-fashion", dataset="fashion_mnist",
    summary="the network of lossless-mnist, for Fashion-MNIST",
)
LOSSLESS_CIFAR = replace(
    LOSSLESS_MNIST, name="lossless-cifar", dataset="cifar10", image_shape=(32, 32, 3),
    summary="every pixel back, for CIFAR-10 in colour",
    lossless=LosslessSizes(4, 4, predicts=True, placed=False, hidden=(512, 192, 96)),
    batch_size=2048, epochs=45, learning_rate=3e-3, augment=("flip",),
)
LOSSLESS_TILES = replace(
    LOSSLESS_CIFAR, name="lossless-tiles", dataset="tiles", epochs=10,
    lossless=LosslessSizes(4, 4, predicts=True, hidden=(192, 96, 64)),
    summary="every pixel back, for the drawn 32x32 tiles of a game",
)
LOSSLESS_PHOTO = replace(
    LOSSLESS_CIFAR, name="lossless-photo", dataset="photos", image_shape=(96, 96, 3),
    summary="every pixel back, for photographs of any size",
    architecture="lossless-any", crop=96, batch_size=4096, epochs=40, learning_rate=2e-3, average=0.999,
    lossless=LosslessSizes(
        4, 4, predicts=True, placed=False, hidden=(384, 160, 96), pictures=16, halved=0.4
    ),
)
LOSSLESS = replace(
    LOSSLESS_PHOTO, name="lossless", dataset="own",
    summary="the network of lossless-photo for pictures of your own, as they are",
    lossless=replace(LOSSLESS_PHOTO.lossless, halved=0.0), epochs=30,
)

OWN = replace(
    CIFAR, name="own", summary="the networks of cifar for colour images of your own",
    dataset="own", latent_dim=128, patience=30, epochs=60, augment=("shift",),
)
OWN_GREY = replace(
    MNIST_HQ, name="own-grey", summary="the networks of mnist-hq for grey images of your own",
    dataset="own", patience=30, epochs=60, augment=("shift",),
)
LINEAR_OWN = replace(
    LINEAR_TILES, name="linear", summary="up to 400 principal components of images of your own",
    dataset="own",
)

# Trains in seconds on a few hundred 8x8 images; only for tests.
TINY = Preset(
    "tiny", "for tests only: 8x8 images, 4 latents", "mnist", (8, 8, 1),
    latent_dim=4, filters=(4, 8), dense=16,
    distortion_weight=30.0, batch_size=32, epochs=30, learning_rate=1e-2, schedule="cosine",
)
TINY_HQ = replace(
    TINY, name="tiny-hq", summary="for tests only: 8x8 images, 40 latents, residual",
    architecture="residual", latent_dim=40, refine=(8, 8), distortion_weight=200.0,
    learning_rate=2e-3, epochs=8, augment=("flip", "shift"), step_width=1.0,
)
TINY_AE = replace(
    TINY, name="tiny-ae", summary="for tests only: 8x8 images, 16 components of a grid of latents",
    architecture="autoencoder", latent_dim=16,
    analysis=("conv 8 norm", "pool", "conv 8 /2 norm", "drop 0.1"),
    synthesis=("conv 8", "up", "tconv 8 *2 norm", "conv 1 sigmoid"),
    noise=0.1, epochs=8, schedule="plateau", dropout_share=0.7, patience=3,
    augment=("brightness", "contrast"), step_width=0.4,
)
TINY_VAE = replace(
    TINY_AE, name="tiny-vae", summary="for tests only: 8x8 images, 4 latents, layers of its own",
    architecture="vae", latent_dim=4,
    synthesis=("grid 8", "tconv 8 *2 norm", "tconv 8 *2", "tconv 1 sigmoid"),
    noise=0.0, augment=(), step_width=2.0,
)
TINY_DAE = replace(
    TINY, name="tiny-dae", summary="for tests only: takes noise out of images of any size",
    architecture="denoiser", latent_dim=0, noise=0.3, crop=4, epochs=8, patience=100,
)
TINY_GRID = replace(
    PHOTO, name="tiny-grid", summary="for tests only: photos of any size with thin networks",
    image_shape=(64, 64, 3), latent_dim=8, filters=(4, 8, 8), refine=(8, 8, 4),
    grid=GridSizes((4, 4), ((8, 8), (8, 8)), features=8, hyper=4, hyper_sees=6, hyper_hidden=8),
    batch_size=2, epochs=2, precision="float32", warmup=1, average=0.9, crop=64, steps=3,
)
TINY_LOSSLESS = replace(
    TINY, name="tiny-lossless", summary="for tests only: 8x8 images, every pixel back",
    architecture="lossless", lossless=LosslessSizes(2, 2, hidden=(8, 8, 8), pictures=8),
    batch_size=64, epochs=2, warmup=1, steps=5,
)
TINY_LOSSLESS_ANY = replace(
    TINY_LOSSLESS, name="tiny-lossless-any", summary="for tests only: pictures of any size",
    image_shape=(16, 16, 3), architecture="lossless-any", crop=16,
    lossless=LosslessSizes(2, 2, predicts=True, placed=False, hidden=(8, 8, 8), pictures=4),
)

PRESETS = {
    preset.name: preset
    for preset in (
        MNIST, MNIST_HQ, MNIST_CVAE, FASHION, FASHION_HQ, CIFAR, TILES,
        LINEAR_MNIST, LINEAR_FASHION, LINEAR_CIFAR, LINEAR_TILES,
        FASHION_AE, FASHION_DAE, MNIST_AE, CIFAR10, PHOTO_VAE, PHOTO_DAE, PHOTO,
        LOSSLESS_MNIST, LOSSLESS_FASHION, LOSSLESS_CIFAR, LOSSLESS_TILES, LOSSLESS_PHOTO, LOSSLESS,
        OWN, OWN_GREY, LINEAR_OWN, TINY, TINY_HQ, TINY_AE, TINY_VAE, TINY_DAE, TINY_GRID,
        TINY_LOSSLESS, TINY_LOSSLESS_ANY,
    )
}
# fmt: on
