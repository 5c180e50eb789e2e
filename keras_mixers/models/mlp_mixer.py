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
from keras_mixers.models.image_model import ImageModel
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
    weights: str | os.PathLike[str] | None = None,
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
) -> ImageModel:
    """Build an MLP-Mixer: patches, then blocks of an MLP across tokens and one across channels.

    Shapes: `(N, H, W, C) -> (N, num_classes)`. `num_classes=0` and `pool=None` change the output's
    shape, as described below.

    Args:
        variant: name of a row of `variants("MLPMixer")`, such as `"B/16"`. The row has
            `patch_size`, `hidden_dim`, `depth`, `tokens_mlp_dim` and `channels_mlp_dim`. The
            builder uses the row's value where such an argument is `None`.
        input_shape: (height, width, channels) of the images.
        num_classes: int, number of classes. With 0 the model has no classifier and returns the
            pooled features, `(N, hidden_dim)`.
        weights: weights to load: a name or a training in `pretrained("MLPMixer")`, such as
            `"goog_in21k_ft_in1k"`, the path of a file that `load_weights` reads, or
            `"hf://owner/name"`. `None` gives random weights. The builder resizes weights that have
            another size than the model, skips a head with another number of classes, and prints
            what it changed.
        patch_size: int or (height, width), in pixels. Must divide the image.
        hidden_dim: int, width of a token.
        depth: int, number of blocks.
        tokens_mlp_dim: int, hidden width of the MLP across tokens.
        channels_mlp_dim: int, hidden width of the MLP across channels.
        pool: how to make one vector of the tokens. `"gap"` averages the normalized tokens, `"map"`
            pools them by attention with one head for 64 channels, `"token"` adds a class token and
            selects it. `None` keeps the sequence, `(N, T, ...)`, and classifies each token.
        activation: `"gelu"` (exact, as in timm), `"gelu_tanh"` (as in Flax), another name in
            `keras.activations`, or a function.
        epsilon: float, added to the variance in all norms.
        layer_scale_init: float, initial value of LayerScale; `None` for no LayerScale.
        dropout_rate: float, fraction of activations dropped in training.
        stochastic_depth_rate: float, fraction of samples for which training drops a residual branch
            of the last block. The rate grows linearly from 0 at the first block.
        gradient_checkpointing: bool, whether training stores only the inputs of residual branches
            and recomputes activations in the backward pass: less memory, more time. Needs
            `dropout_rate=0`.
        dtype: dtype or policy, such as `"mixed_bfloat16"`; `None` for Keras's default policy.
        name: str, name of the model.

    Returns:
        A functional `keras.Model`, as an `ImageModel`.

    Raises:
        ValueError, TypeError: if an argument is invalid; the message names it.
        OSError: if the file of `weights` does not exist or cannot be downloaded. `load_weights`
            lists the errors for a file that does not fit.

    Example:
        >>> model = MLPMixer("S/32", input_shape=(32, 32, 3), patch_size=8, depth=2, num_classes=10)
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
    return filled(assemble(architecture, name, dtype), *source)
