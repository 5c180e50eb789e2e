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
    """Refuse a number of heads that does not divide the width of a token."""
    if a.head_dim is None:
        arguments.divides("num_heads", a.num_heads, "hidden_dim", a.hidden_dim)


BLOCK = blocks.Block("attention", transformer_block, check=check_heads, needs_positions=True)


def ViT(
    variant: str,
    *,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    num_classes: int = 1000,
    weights: str | os.PathLike | None = None,
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
    """A Vision Transformer: patches, then blocks of self-attention and an MLP.

    Shapes: `(N, H, W, C) -> (N, num_classes)`; see `num_classes` and `pool` for the others.

    Args:
        variant: a row of `variants("ViT")`, such as `"S/16"` or `"DeiT3-B/16"`. What is `None`
            below is the row's.
        input_shape: (height, width, channels) of the images.
        num_classes: 0 for the pooled features, `(N, hidden_dim)`.
        weights: a name or training in `pretrained("ViT")`, such as `"augreg_in21k_ft_in1k"`; a file
            that `load_weights` reads, `"hf://owner/name"`, or `None` for random ones. They are
            resized to the model, which prints what was done; a head of other classes is left out.
        patch_size: pixels, an int or a (height, width) pair; must divide the image.
        hidden_dim: width of a token.
        depth: how many blocks.
        num_heads: of the attention; must divide `hidden_dim`.
        mlp_dim: hidden width of the MLP.
        head_dim: width of a head; `None` for `hidden_dim / num_heads`.
        qkv_bias: whether queries, keys and values have biases.
        qk_norm: whether to normalise queries and keys.
        score: `"scaled_dot"`, `"dot"`, `"bilinear"` or `"additive"`; see `MultiHeadSelfAttention`.
        pool: `"token"` reads the class token, `"gap"` averages the patches, `"map"` pools them by
            attention, `None` keeps the sequence, `(N, T, ...)`, prefix tokens included.
        norm_after_pool: with `"gap"`, normalise the average (timm) rather than each token first
            (big_vision).
        representation_size: width of a tanh layer before the classifier, as the ImageNet-21k
            pre-training has; `None` for none.
        position_embedding: `"learned"`, `"sincos2d"` or `None`.
        position_prefix: whether prefix tokens get positions too; True but for DeiT-III.
        class_token: whether there is one; `None` for where `pool` reads it.
        distillation_token: whether there is one, with a head of its own (`"head_distillation"`);
            the model gives the mean of both heads.
        num_registers: how many register tokens.
        activation: `"gelu"` (exact, as in timm), `"gelu_tanh"` (as in Flax), another of Keras's
            names, or a function.
        epsilon: of all norms.
        layer_scale_init: where LayerScale begins; `None` for no LayerScale, but for DeiT-III.
        dropout_rate: share of activations dropped in training.
        attention_dropout_rate: share of attention weights dropped in training.
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
