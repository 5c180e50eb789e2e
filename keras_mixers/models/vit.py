"""Vision Transformer, DeiT and DeiT-III.

"An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale", arXiv 2010.11929.
"Training data-efficient image transformers & distillation through attention", arXiv 2012.12877.
"DeiT III: Revenge of the ViT", arXiv 2204.07118.
"""

import os
from collections.abc import Callable

import keras

from keras_mixers import arguments
from keras_mixers.layers import MultiHeadSelfAttention
from keras_mixers.models import blocks
from keras_mixers.models.architecture import Architecture
from keras_mixers.models.assemble import assemble
from keras_mixers.models.published import filled, located, published


def _row(patch_size, hidden_dim, depth, num_heads, mlp_dim, **more):
    return {
        "patch_size": patch_size,
        "hidden_dim": hidden_dim,
        "depth": depth,
        "num_heads": num_heads,
        "mlp_dim": mlp_dim,
        "position_prefix": True,
        "distillation_token": False,
        "layer_scale_init": None,
        **more,
    }


_DISTILLED = {"distillation_token": True}
_DEIT3 = {"layer_scale_init": 1e-6, "position_prefix": False}

VARIANTS = {
    "Ti/16": _row(16, 192, 12, 3, 768),
    "S/32": _row(32, 384, 12, 6, 1536),
    "S/16": _row(16, 384, 12, 6, 1536),
    "S/8": _row(8, 384, 12, 6, 1536),
    "M/16": _row(16, 512, 12, 8, 2048),
    "B/32": _row(32, 768, 12, 12, 3072),
    "B/16": _row(16, 768, 12, 12, 3072),
    "B/8": _row(8, 768, 12, 12, 3072),
    "L/32": _row(32, 1024, 24, 16, 4096),
    "L/16": _row(16, 1024, 24, 16, 4096),
    "L/14": _row(14, 1024, 24, 16, 4096),
    "So400m/14": _row(14, 1152, 27, 16, 4304),
    "H/14": _row(14, 1280, 32, 16, 5120),
    "g/14": _row(14, 1408, 40, 16, 6144),
    "G/14": _row(14, 1664, 48, 16, 8192),
    "DeiT-Ti/16": _row(16, 192, 12, 3, 768),
    "DeiT-S/16": _row(16, 384, 12, 6, 1536),
    "DeiT-B/16": _row(16, 768, 12, 12, 3072),
    "DeiT-Ti/16-distilled": _row(16, 192, 12, 3, 768, **_DISTILLED),
    "DeiT-S/16-distilled": _row(16, 384, 12, 6, 1536, **_DISTILLED),
    "DeiT-B/16-distilled": _row(16, 768, 12, 12, 3072, **_DISTILLED),
    "DeiT3-S/16": _row(16, 384, 12, 6, 1536, **_DEIT3),
    "DeiT3-M/16": _row(16, 512, 12, 8, 2048, **_DEIT3),
    "DeiT3-B/16": _row(16, 768, 12, 12, 3072, **_DEIT3),
    "DeiT3-L/16": _row(16, 1024, 24, 16, 4096, **_DEIT3),
    "DeiT3-H/14": _row(14, 1280, 32, 16, 5120, **_DEIT3),
}


def transformer_block(a, i, x):
    """Block `i`: `x + attention(norm(x))`, then `x + mlp(norm(x))`."""
    attention = MultiHeadSelfAttention(
        a.num_heads,
        head_dim=a.head_dim,
        qkv_bias=a.qkv_bias,
        qk_norm=a.qk_norm,
        score=a.score,
        attention_dropout_rate=a.attention_dropout_rate,
        dropout_rate=a.dropout_rate,
        epsilon=a.epsilon,
        name="attention",
    )
    x = blocks.residual(a, i, attention, x)
    return blocks.residual(a, i, blocks.channel_mixing(a), x)


def check_heads(a):
    """Raise an error if the width of a token cannot be split into equal heads."""
    if a.head_dim is None:
        arguments.divides("num_heads", a.num_heads, "hidden_dim", a.hidden_dim)


BLOCK = blocks.Block("attention", transformer_block, check=check_heads, needs_positions=True)


def ViT(
    variant: str,
    *,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    num_classes: int = 1000,
    weights: str | os.PathLike[str] | None = None,
    patch_size: int | tuple[int, int] | None = None,
    hidden_dim: int | None = None,
    depth: int | None = None,
    num_heads: int | None = None,
    mlp_dim: int | None = None,
    head_dim: int | None = None,
    qkv_bias: bool = True,
    qk_norm: bool = False,
    score: str = "scaled_dot",
    pool: str | None = "token",
    norm_after_pool: bool = False,
    representation_size: int | None = None,
    position_embedding: str | None = "learned",
    position_prefix: bool | None = None,
    class_token: bool | None = None,
    distillation_token: bool | None = None,
    num_registers: int = 0,
    activation: str | Callable = "gelu",
    epsilon: float = 1e-6,
    layer_scale_init: float | None = None,
    dropout_rate: float = 0.0,
    attention_dropout_rate: float = 0.0,
    stochastic_depth_rate: float = 0.0,
    gradient_checkpointing: bool = False,
    dtype: str | keras.DTypePolicy | None = None,
    name: str = "vit",
) -> keras.Model:
    """Build a Vision Transformer: patches, then blocks of self-attention and an MLP.

    Shapes: `(N, H, W, C) -> (N, num_classes)`. `num_classes=0` and `pool=None` change the output's
    shape, as described below.

    Args:
        variant: name of a row of `variants("ViT")`, such as `"S/16"` or `"DeiT3-B/16"`. The row
            has `patch_size`, `hidden_dim`, `depth`, `num_heads`, `mlp_dim`, `position_prefix`,
            `distillation_token` and `layer_scale_init`. The builder uses the row's value where
            such an argument is `None`.
        input_shape: (height, width, channels) of the images.
        num_classes: int, number of classes. With 0 the model has no classifier and returns the
            pooled features, `(N, hidden_dim)` or `(N, representation_size)`.
        weights: weights to load: a name or a training in `pretrained("ViT")`, such as
            `"augreg_in21k_ft_in1k"`, the path of a file that `load_weights` reads, or
            `"hf://owner/name"`. `None` gives random weights. The builder resizes weights that have
            another size than the model, skips a head with another number of classes, and prints
            what it changed.
        patch_size: int or (height, width), in pixels. Must divide the image.
        hidden_dim: int, width of a token.
        depth: int, number of blocks.
        num_heads: int, number of attention heads. Must divide `hidden_dim` if `head_dim` is `None`
            or `pool` is `"map"`.
        mlp_dim: int, hidden width of the MLP.
        head_dim: int, width of a head; `None` for `hidden_dim / num_heads`.
        qkv_bias: bool, whether queries, keys and values have biases.
        qk_norm: bool, whether to normalize queries and keys.
        score: `"scaled_dot"`, `"dot"`, `"bilinear"` or `"additive"`; see `MultiHeadSelfAttention`.
        pool: how to make one vector of the tokens. `"token"` selects the class token, `"gap"`
            averages the patches, `"map"` pools the patches by attention. `None` keeps the sequence,
            `(N, T, ...)`, with its prefix tokens, and classifies each token.
        norm_after_pool: bool, for `pool="gap"`: whether to normalize the average (as timm does)
            instead of each token before the average (as big_vision does).
        representation_size: int, width of a tanh layer before the classifier, as in models
            pre-trained on ImageNet-21k; `None` for no such layer. Must be `None` with `pool=None`
            and with a distillation token.
        position_embedding: `"learned"`, `"sincos2d"` (fixed sines and cosines, for a `hidden_dim`
            that is a multiple of 4 and at least 8), or `None` for no positions.
        position_prefix: bool, whether prefix tokens have positions too. False in the DeiT-III
            variants, True in all others.
        class_token: bool, whether there is a class token; `None` for a class token if `pool` is
            `"token"`.
        distillation_token: bool, whether there is a distillation token, which has a second
            classifier, `"head_distillation"`. The model returns the mean of both classifiers. Needs
            `pool="token"`.
        num_registers: int, number of register tokens.
        activation: `"gelu"` (exact, as in timm), `"gelu_tanh"` (as in Flax), another name in
            `keras.activations`, or a function.
        epsilon: float, added to the variance in all norms.
        layer_scale_init: float, initial value of LayerScale. `None` gives 1e-6 in the DeiT-III
            variants and no LayerScale in all others.
        dropout_rate: float, fraction of activations dropped in training.
        attention_dropout_rate: float, fraction of attention weights dropped in training.
        stochastic_depth_rate: float, fraction of samples for which training drops a residual branch
            of the last block. The rate grows linearly from 0 at the first block.
        gradient_checkpointing: bool, whether training stores only the inputs of residual branches
            and recomputes activations in the backward pass: less memory, more time. Needs
            `dropout_rate=0` and `attention_dropout_rate=0`.
        dtype: dtype or policy, such as `"mixed_bfloat16"`; `None` for Keras's default policy.
        name: str, name of the model.

    Returns:
        A functional `keras.Model`.

    Raises:
        ValueError, TypeError: if an argument is invalid; the message names it.
        OSError: if the file of `weights` does not exist or cannot be downloaded. `load_weights`
            lists the errors for a file that does not fit.

    Example:
        >>> model = ViT("Ti/16", input_shape=(32, 32, 3), patch_size=4, depth=2, num_classes=10)
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
        num_heads=num_heads,
        mlp_dim=mlp_dim,
        position_prefix=position_prefix,
        distillation_token=distillation_token,
        layer_scale_init=layer_scale_init,
    )
    architecture = Architecture(
        **sizes,
        input_shape=input_shape,
        num_classes=num_classes,
        pool=pool,
        norm_after_pool=norm_after_pool,
        representation_size=representation_size,
        position_embedding=position_embedding,
        class_token=pool == "token" if class_token is None else class_token,
        num_registers=num_registers,
        head_dim=head_dim,
        qkv_bias=qkv_bias,
        qk_norm=qk_norm,
        score=score,
        activation=activation,
        epsilon=epsilon,
        dropout_rate=dropout_rate,
        attention_dropout_rate=attention_dropout_rate,
        stochastic_depth_rate=stochastic_depth_rate,
        gradient_checkpointing=gradient_checkpointing,
    )
    source = located(weights, "ViT", VARIANTS, variant, architecture)
    return filled(assemble(architecture, name, dtype), source)
