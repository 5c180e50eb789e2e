"""ConvMixer.

"Patches Are All You Need?", arXiv 2201.09792.
"""

import os
from collections.abc import Callable

import keras

from keras_mixers import arguments
from keras_mixers.layers import ConvMixerBlock, activations
from keras_mixers.models.architecture import Architecture
from keras_mixers.models.assemble import assemble
from keras_mixers.models.blocks import Block, as_grid
from keras_mixers.models.published import filled, located, published


def _row(hidden_dim, depth, kernel_size, patch_size, activation="gelu"):
    return {
        "hidden_dim": hidden_dim,
        "depth": depth,
        "kernel_size": kernel_size,
        "patch_size": patch_size,
        "activation": activation,
    }


VARIANTS = {
    "1536/20": _row(1536, 20, 9, 7),
    "768/32": _row(768, 32, 7, 7, activation="relu"),  # as its published weights were trained
    "1024/20": _row(1024, 20, 9, 14),
    "1024/12": _row(1024, 12, 8, 7),
    "512/16": _row(512, 16, 8, 7),
    "256/8-k5-p2": _row(256, 8, 5, 2),  # the two for CIFAR-10, on 32 x 32 images
    "256/8-k9-p1": _row(256, 8, 9, 1),
}


# The BatchNorms as published: PyTorch's epsilon, and its momentum of 0.1 in Keras's sense.
BATCH_NORM = {"epsilon": 1e-5, "momentum": 0.9}


def conv_mixer_stem(a, x):
    """`norm(activation(x))` on the grid of patches."""
    x = keras.layers.Activation(activations.get(a.activation), name="stem_activation")(x)
    return keras.layers.BatchNormalization(**BATCH_NORM, name="stem_norm")(x)


def conv_mixer_block(a, i, x):
    """Block `i`: `x + norm(activation(depthwise(x)))`, then `norm(activation(pointwise(x)))`."""
    block = ConvMixerBlock(
        a.kernel_size,
        a.activation,
        **BATCH_NORM,
        gradient_checkpointing=a.gradient_checkpointing,
        name=f"block_{i}_conv_mixer",
    )
    return block(as_grid(a, x, f"block_{i}_grid"))


BLOCK = Block(
    "ConvMixer block", conv_mixer_block, stem=conv_mixer_stem, ends_normalized=True, on_grid=True
)


def ConvMixer(
    variant: str,
    *,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    num_classes: int = 1000,
    weights: str | os.PathLike | None = None,
    patch_size: int | tuple[int, int] | None = None,
    hidden_dim: int | None = None,
    depth: int | None = None,
    kernel_size: int | tuple[int, int] | None = None,
    pool: str | None = "gap",
    activation: str | Callable | None = None,
    gradient_checkpointing: bool = False,
    dtype: str | keras.DTypePolicy | None = None,
    name: str = "conv_mixer",
) -> keras.Model:
    """A ConvMixer: patches, then blocks of a depthwise and a pointwise convolution.

    Shapes: `(N, H, W, C) -> (N, num_classes)`; see `num_classes` and `pool` for the others.

    Args:
        variant: a row of `variants("ConvMixer")`: hidden_dim/depth, as in `"768/32"`; the two for
            CIFAR-10 (`input_shape=(32, 32, 3), num_classes=10`) are `"256/8-k5-p2"` and
            `"256/8-k9-p1"`. What is `None` below is the row's.
        input_shape: (height, width, channels) of the images.
        num_classes: 0 for the pooled features, `(N, hidden_dim)`.
        weights: a name or training in `pretrained("ConvMixer")`, such as `"in1k"`; a file
            that `load_weights` reads, `"hf://owner/name"`, or `None` for random ones. They are
            resized to the model, which prints what was done; a head of other classes is left out.
        patch_size: pixels, an int or a (height, width) pair; must divide the image.
        hidden_dim: width of a token.
        depth: how many blocks.
        kernel_size: of the depthwise convolution, in tokens.
        pool: `"gap"` averages the tokens, `"map"` pools by attention with one head for 64
            channels, `None` keeps the sequence, `(N, T, ...)`.
        activation: `"gelu"`, `"relu"`, another of Keras's names, or a function.
        gradient_checkpointing: keep the inputs of blocks and of their halves alone in training, and
            compute the rest again on the way back: less memory, more time.
        dtype: a dtype or policy, such as `"mixed_bfloat16"`; `None` for Keras's default.
        name: of the model.

    Returns:
        A functional `keras.Model`.

    Raises:
        ValueError, TypeError: an argument will not do; the message says which, and what would.

    Example:
        >>> model = ConvMixer("256/8-k5-p2", input_shape=(32, 32, 3), depth=2, num_classes=10)
        >>> model.output_shape
        (None, 10)
    """
    sizes = published(
        VARIANTS,
        variant,
        BLOCK,
        patch_size=patch_size,
        hidden_dim=hidden_dim,
        depth=depth,
        kernel_size=kernel_size,
        activation=activation,
    )
    arguments.choice("pool", pool, ("gap", "map", None))  # a token has no place on the grid
    architecture = Architecture(
        **sizes,
        input_shape=input_shape,
        num_classes=num_classes,
        pool=pool,
        gradient_checkpointing=gradient_checkpointing,
    )
    source = located(weights, "ConvMixer", VARIANTS, variant, architecture)
    return filled(assemble(architecture, name, dtype), source)
