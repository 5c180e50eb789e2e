"""MLP-Mixer.

"MLP-Mixer: An all-MLP Architecture for Vision", arXiv 2105.01601.
"""

import os
from collections.abc import Callable

import keras

from keras_mixers import arguments
from keras_mixers.layers import TokenMixing
from keras_mixers.models import blocks
from keras_mixers.models.architecture import Architecture
from keras_mixers.models.assemble import assemble
from keras_mixers.models.published import filled, located, published


def _row(patch_size, hidden_dim, depth, tokens_mlp_dim, channels_mlp_dim):
    return {
        "patch_size": patch_size,
        "hidden_dim": hidden_dim,
        "depth": depth,
        "tokens_mlp_dim": tokens_mlp_dim,
        "channels_mlp_dim": channels_mlp_dim,
    }


VARIANTS = {
    "S/32": _row(32, 512, 8, 256, 2048),
    "S/16": _row(16, 512, 8, 256, 2048),
    "B/32": _row(32, 768, 12, 384, 3072),
    "B/16": _row(16, 768, 12, 384, 3072),
    "L/32": _row(32, 1024, 24, 512, 4096),
    "L/16": _row(16, 1024, 24, 512, 4096),
    "H/14": _row(14, 1280, 32, 640, 5120),
}


def mixer_block(a, i, x):
    """Block `i`: `x + token_mlp(norm(x))`, then `x + channel_mlp(norm(x))`."""
    token_mixing = TokenMixing(
        a.tokens_mlp_dim, a.activation, dropout_rate=a.dropout_rate, name="token_mixing"
    )
    x = blocks.residual(a, i, token_mixing, x)
    return blocks.residual(a, i, blocks.channel_mixing(a), x)


BLOCK = blocks.Block("token MLP", mixer_block)


def MLPMixer(
    variant: str,
    *,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    num_classes: int = 1000,
    weights: str | os.PathLike | None = None,
    patch_size: int | tuple[int, int] | None = None,
    hidden_dim: int | None = None,
    depth: int | None = None,
    tokens_mlp_dim: int | None = None,
    channels_mlp_dim: int | None = None,
    pool: str | None = "gap",
    activation: str | Callable = "gelu",
    epsilon: float = 1e-6,
    layer_scale_init: float | None = None,
    dropout_rate: float = 0.0,
    stochastic_depth_rate: float = 0.0,
    gradient_checkpointing: bool = False,
    dtype: str | keras.DTypePolicy | None = None,
    name: str = "mlp_mixer",
) -> keras.Model:
    """An MLP-Mixer: patches, then blocks of one MLP across tokens and one across channels.

    Shapes: `(N, H, W, C) -> (N, num_classes)`; see `num_classes` and `pool` for the others.

    Args:
        variant: a row of `variants("MLPMixer")`, such as `"B/16"`. What is `None` below is the
            row's.
        input_shape: (height, width, channels) of the images.
        num_classes: 0 for the pooled features, `(N, hidden_dim)`.
        weights: a name or training in `pretrained("MLPMixer")`, such as
            `"goog_in21k_ft_in1k"`; a file that `load_weights` reads, `"hf://owner/name"`, or
            `None` for random ones. They are resized to the model, which prints what was done; a
            head of other classes is left out.
        patch_size: pixels, an int or a (height, width) pair; must divide the image.
        hidden_dim: width of a token.
        depth: how many blocks.
        tokens_mlp_dim: hidden width of the MLP across tokens.
        channels_mlp_dim: hidden width of the MLP across channels.
        pool: `"gap"` averages the tokens after the norm, `"map"` pools by attention with one head
            for 64 channels, `"token"` adds a class token and reads it, `None` keeps the sequence,
            `(N, T, ...)`.
        activation: `"gelu"` (exact, as in timm), `"gelu_tanh"` (as in Flax), another of Keras's
            names, or a function.
        epsilon: of all norms.
        layer_scale_init: where LayerScale begins; `None` for no LayerScale.
        dropout_rate: share of activations dropped in training.
        stochastic_depth_rate: share of samples dropped from the last block's branches in training,
            growing linearly from 0 at the first block.
        gradient_checkpointing: keep the inputs of blocks and of their halves alone in training, and
            compute the rest again on the way back: less memory, more time.
        dtype: a dtype or policy, such as `"mixed_bfloat16"`; `None` for Keras's default.
        name: of the model.

    Returns:
        A functional `keras.Model`.

    Raises:
        ValueError, TypeError: an argument will not do; the message says which, and what would.

    Example:
        >>> model = MLPMixer("S/32", input_shape=(32, 32, 3), patch_size=8, depth=2, num_classes=10)
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
        tokens_mlp_dim=tokens_mlp_dim,
        channels_mlp_dim=channels_mlp_dim,
    )
    # Checked here because an error must name the argument that the user gave.
    sizes["mlp_dim"] = arguments.integer("channels_mlp_dim", sizes.pop("channels_mlp_dim"))
    architecture = Architecture(
        **sizes,
        input_shape=input_shape,
        num_classes=num_classes,
        pool=pool,
        class_token=pool == "token",
        activation=activation,
        epsilon=epsilon,
        layer_scale_init=layer_scale_init,
        dropout_rate=dropout_rate,
        stochastic_depth_rate=stochastic_depth_rate,
        gradient_checkpointing=gradient_checkpointing,
    )
    source = located(weights, "MLPMixer", VARIANTS, variant, architecture)
    return filled(assemble(architecture, name, dtype), source)
