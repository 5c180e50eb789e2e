"""Vision Transformer, in the forms of its published families.

"An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale", arXiv 2010.11929.
`vit_variants` has the families and their papers.
"""

import os
from collections.abc import Callable

import keras

from keras_mixers import arguments
from keras_mixers.layers import MultiHeadSelfAttention, Rotary
from keras_mixers.models import blocks
from keras_mixers.models.architecture import Architecture
from keras_mixers.models.assemble import assemble
from keras_mixers.models.image_model import ImageModel
from keras_mixers.models.published import FROM_VARIANT, filled, located, published
from keras_mixers.models.vit_variants import VARIANTS


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
        key_bias="key" not in a.without_bias,
        out_bias="out" not in a.without_bias,
        inner_norm="attention" in a.extra_norms,
        normalization=a.normalization,
        rotary=a.rotary,
        grid=a.grid if a.rotary else None,
        num_prefix=a.num_prefix if a.rotary else 0,
        name="attention",
    )
    x = blocks.residual(a, i, attention, x)
    return blocks.residual(a, i, blocks.channel_mixing(a), x)


def check_heads(a):
    """Raise an error if the width of a token cannot be split into heads."""
    if a.head_dim is None:
        arguments.divides("num_heads", a.num_heads, "hidden_dim", a.hidden_dim)
    head_dim = a.head_dim or a.hidden_dim // a.num_heads
    if a.rotary and head_dim % 4:
        raise ValueError(
            "`head_dim` must be a multiple of 4 with `rotary`, because one half of the pairs of"
            f" channels rotates by the row and one by the column. Received: head_dim={head_dim}"
        )


# The defaults of those arguments for which None is a value. `Architecture` has the others.
DEFAULTS = {"pool": "token", "position_embedding": "learned"}

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
    gated_mlp: bool | None = None,
    qkv_bias: bool | None = None,
    without_bias: tuple[str, ...] | None = None,
    qk_norm: bool = False,
    score: str = "scaled_dot",
    pool: str | None = FROM_VARIANT,
    pool_num_heads: int | None = None,
    pool_mlp_dim: int | None = None,
    pool_prefix: bool | None = None,
    representation_size: int | None = None,
    position_embedding: str | None = FROM_VARIANT,
    position_prefix: bool | None = None,
    rotary: Rotary | None = FROM_VARIANT,
    class_token: bool | None = None,
    distillation_token: bool | None = None,
    num_registers: int | None = None,
    activation: str | Callable | None = None,
    normalization: str | None = None,
    epsilon: float | None = None,
    extra_norms: tuple[str, ...] | None = None,
    final_norm: bool | None = None,
    norm_after_pool: bool | None = None,
    layer_scale_init: float | None = FROM_VARIANT,
    dropout_rate: float = 0.0,
    attention_dropout_rate: float = 0.0,
    stochastic_depth_rate: float = 0.0,
    gradient_checkpointing: bool = False,
    dtype: str | keras.DTypePolicy | None = None,
    name: str = "vit",
) -> ImageModel:
    """Build a Vision Transformer: patches, then blocks of self-attention and an MLP.

    Shapes: `(N, H, W, C) -> (N, num_classes)`. `num_classes=0` and `pool=None` change the output's
    shape, as described below.

    An argument that is not given has the value in the variant's row. If the row does not have the
    argument, the default that is described below applies.

    Args:
        variant: name of a row of `variants("ViT")`, such as `"S/16"` or `"DINOv2-B/14"`.
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
        gated_mlp: bool, whether the MLP is gated. With `activation="silu"` this is SwiGLU. False by
            default.
        qkv_bias: bool, whether queries, keys and values have biases. True by default.
        without_bias: layers that have no bias, some of `"patches"` (the projection of the patches),
            `"key"` (the keys, while queries and values have one), `"out"` (the output projection
            of attention) and `"mlp"`. None by default.
        qk_norm: bool, whether to normalize queries and keys.
        score: `"scaled_dot"`, `"dot"`, `"bilinear"` or `"additive"`; see `MultiHeadSelfAttention`.
        pool: how to make one vector of the tokens. `"token"`, the default, selects the class token,
            `"gap"` averages the patches, `"map"` pools the patches by attention. `None` keeps the
            sequence, `(N, T, ...)`, with its prefix tokens, and classifies each token.
        pool_num_heads: int, number of heads of `pool="map"`; `num_heads` by default.
        pool_mlp_dim: int, hidden width of the MLP of `pool="map"`; `mlp_dim` by default.
        pool_prefix: bool, whether `pool="map"` pools the prefix tokens too. False by default.
        representation_size: int, width of a tanh layer before the classifier, as in models
            pre-trained on ImageNet-21k; `None` for no such layer. Must be `None` with `pool=None`
            and with a distillation token.
        position_embedding: `"learned"`, the default, `"sincos2d"` (fixed sines and cosines, for a
            `hidden_dim` that is a multiple of 4 and at least 8), or `None` for no such positions.
        position_prefix: bool, whether prefix tokens have positions too.
        rotary: a `keras_mixers.layers.Rotary`, by which attention rotates queries and keys. `None`,
            the default, for no rotation.
        class_token: bool, whether there is a class token; `None` for a class token if `pool` is
            `"token"`.
        distillation_token: bool, whether there is a distillation token, which has a second
            classifier, `"head_distillation"`. The model returns the mean of both classifiers. Needs
            `pool="token"`.
        num_registers: int, number of register tokens. 0 by default.
        activation: `"gelu"` (exact, as in timm, the default), `"gelu_tanh"` (as in Flax),
            `"quick_gelu"` (as in OpenAI's CLIP), another name in `keras.activations`, or a
            function.
        normalization: `"layer"` for LayerNorm, the default, or `"rms"` for RMSNorm. The norm inside
            `pool="map"` stays a LayerNorm.
        epsilon: float, added to the variance in all norms. 1e-6 by default.
        extra_norms: places of more norms, some of `"patches"` (the projected patches),
            `"embeddings"` (the tokens with their positions), `"attention"` (before the output
            projection of attention) and `"mlp"` (the hidden units of the MLP). None by default.
        final_norm: bool, whether there is a norm after the blocks. True by default.
        norm_after_pool: bool, for `pool="gap"`: whether to normalize the average (as timm does)
            instead of each token before the average (as big_vision does). False by default.
        layer_scale_init: float, initial value of LayerScale. `None`, the default, for no
            LayerScale.
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
        A functional `keras.Model`, as an `ImageModel`.

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
        DEFAULTS,
        patch_size=patch_size,
        hidden_dim=hidden_dim,
        depth=depth,
        num_heads=num_heads,
        mlp_dim=mlp_dim,
        gated_mlp=gated_mlp,
        qkv_bias=qkv_bias,
        without_bias=without_bias,
        pool=pool,
        pool_num_heads=pool_num_heads,
        pool_mlp_dim=pool_mlp_dim,
        pool_prefix=pool_prefix,
        position_embedding=position_embedding,
        position_prefix=position_prefix,
        rotary=rotary,
        class_token=class_token,
        distillation_token=distillation_token,
        num_registers=num_registers,
        activation=activation,
        normalization=normalization,
        epsilon=epsilon,
        extra_norms=extra_norms,
        final_norm=final_norm,
        norm_after_pool=norm_after_pool,
        layer_scale_init=layer_scale_init,
    )
    if pool is not FROM_VARIANT and norm_after_pool is None:
        sizes["norm_after_pool"] = pool == "gap" and sizes.get("norm_after_pool", False)
    if class_token is None:
        sizes["class_token"] = pool == "token" or sizes.get("class_token", sizes["pool"] == "token")
    architecture = Architecture(
        **sizes,
        input_shape=input_shape,
        num_classes=num_classes,
        representation_size=representation_size,
        head_dim=head_dim,
        qk_norm=qk_norm,
        score=score,
        dropout_rate=dropout_rate,
        attention_dropout_rate=attention_dropout_rate,
        stochastic_depth_rate=stochastic_depth_rate,
        gradient_checkpointing=gradient_checkpointing,
    )
    source = located(weights, "ViT", VARIANTS, variant, architecture)
    return filled(assemble(architecture, name, dtype), *source)
