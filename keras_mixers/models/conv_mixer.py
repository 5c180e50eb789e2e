"""ConvMixer.

"Patches Are All You Need?", arXiv 2201.09792.
"""

import os
from collections.abc import Callable

import keras

from keras_mixers import arguments
from keras_mixers.layers import ConvMixerBlock, activations
from keras_mixers.layers.activation import Activation
from keras_mixers.layers.norms import BatchNormalization
from keras_mixers.models.architecture import Architecture
from keras_mixers.models.assemble import assemble
from keras_mixers.models.blocks import Block, as_grid
from keras_mixers.models.image_model import ImageModel
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
    "256/8-k5-p2": _row(256, 8, 5, 2),  # this and the next for CIFAR-10, 32 x 32 pixels
    "256/8-k9-p1": _row(256, 8, 9, 1),
}


# As published: PyTorch's default epsilon, and its default momentum of 0.1, which is 0.9 in Keras.
BATCH_NORM = {"epsilon": 1e-5, "momentum": 0.9}


def conv_mixer_stem(a, x):
    """`norm(activation(x))` on the grid of patches."""
    x = Activation(activations.get(a.activation), name="stem_activation")(x)
    return BatchNormalization(**BATCH_NORM, name="stem_norm")(x)


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
    weights: str | os.PathLike[str] | None = None,
    patch_size: int | tuple[int, int] | None = None,
    hidden_dim: int | None = None,
    depth: int | None = None,
    kernel_size: int | tuple[int, int] | None = None,
    pool: str | None = "gap",
    activation: str | Callable | None = None,
    gradient_checkpointing: bool = False,
    dtype: str | keras.DTypePolicy | None = None,
    name: str = "conv_mixer",
) -> ImageModel:
    """Build a ConvMixer: patches, then blocks of a depthwise and a pointwise convolution.

    Shapes: `(N, H, W, C) -> (N, num_classes)`. `num_classes=0` and `pool=None` change the output's
    shape, as described below.

    Args:
        variant: name of a row of `variants("ConvMixer")`: hidden_dim/depth, such as `"768/32"`.
            `"256/8-k5-p2"` and `"256/8-k9-p1"` are for CIFAR-10, with `input_shape=(32, 32, 3)` and
            `num_classes=10`. The row has `patch_size`, `hidden_dim`, `depth`, `kernel_size` and
            `activation`. The builder uses the row's value where such an argument is `None`.
        input_shape: (height, width, channels) of the images.
        num_classes: int, number of classes. With 0 the model has no classifier and returns the
            pooled features, `(N, hidden_dim)`.
        weights: weights to load: a name or a training in `pretrained("ConvMixer")`, such as
            `"in1k"`, the path of a file that `load_weights` reads, or `"hf://owner/name"`. `None`
            gives random weights. The builder resizes weights that have another size than the model,
            skips a head with another number of classes, and prints what it changed.
        patch_size: int or (height, width), in pixels. Must divide the image.
        hidden_dim: int, width of a token.
        depth: int, number of blocks.
        kernel_size: int or (height, width), size of the depthwise kernel in tokens.
        pool: how to make one vector of the tokens. `"gap"` averages the tokens, `"map"` pools them
            by attention with one head for 64 channels. `None` keeps the sequence, `(N, T, ...)`,
            and classifies each token.
        activation: `"gelu"`, `"relu"`, another name in `keras.activations`, or a function.
        gradient_checkpointing: bool, whether training stores only the inputs of blocks and
            recomputes activations in the backward pass: less memory, more time.
        dtype: dtype or policy, such as `"mixed_bfloat16"`; `None` for Keras's default policy.
        name: str, name of the model.

    Returns:
        A functional `keras.Model`, as an `ImageModel`.

    Raises:
        ValueError, TypeError: if an argument is invalid; the message names it.
        OSError: if the file of `weights` does not exist or cannot be downloaded. `load_weights`
            lists the errors for a file that does not fit.

    Example:
        >>> model = ConvMixer("256/8-k5-p2", input_shape=(32, 32, 3), depth=2, num_classes=10)
        >>> model.output_shape
        (None, 10)
    """
    sizes = published(
        VARIANTS,
        variant,
        BLOCK,
        {},
        patch_size=patch_size,
        hidden_dim=hidden_dim,
        depth=depth,
        kernel_size=kernel_size,
        activation=activation,
    )
    # No "token", because a class token has no place on the grid.
    arguments.choice("pool", pool, ("gap", "map", None))
    architecture = Architecture(
        **sizes,
        input_shape=input_shape,
        num_classes=num_classes,
        pool=pool,
        gradient_checkpointing=gradient_checkpointing,
    )
    source = located(weights, "ConvMixer", VARIANTS, variant, architecture)
    return filled(assemble(architecture, name, dtype), *source)
