"""Hybrids: each block mixes tokens in the way that a letter names.

Sources of the blocks: attention (ViT, arXiv 2010.11929), token MLP (MLP-Mixer, arXiv 2105.01601),
ConvMixer (arXiv 2201.09792), pooling (MetaFormer, arXiv 2111.11418), Fourier transform (FNet, arXiv
2105.03824) and spatial gating (gMLP, arXiv 2105.08050).
"""

from collections.abc import Callable

import keras

from keras_mixers import arguments
from keras_mixers.arguments import MOST_BLOCKS
from keras_mixers.layers import Rotary
from keras_mixers.layers.position_embedding import KINDS
from keras_mixers.models.architecture import Architecture
from keras_mixers.models.assemble import assemble
from keras_mixers.models.image_model import ImageModel
from keras_mixers.models.mixers import LETTERS, MIXERS


def Hybrid(
    pattern: str,
    *,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    num_classes: int = 1000,
    patch_size: int | tuple[int, int] = 16,
    hidden_dim: int = 384,
    num_heads: int | None = None,
    mlp_dim: int | None = None,
    tokens_mlp_dim: int | None = None,
    kernel_size: int | tuple[int, int] = 5,
    head_dim: int | None = None,
    gated_mlp: bool = False,
    qkv_bias: bool = True,
    without_bias: tuple[str, ...] = (),
    qk_norm: bool = False,
    score: str = "scaled_dot",
    pool: str | None = "gap",
    pool_num_heads: int | None = None,
    pool_mlp_dim: int | None = None,
    pool_prefix: bool = False,
    position_embedding: str | None = "auto",
    rotary: Rotary | None = None,
    num_registers: int = 0,
    activation: str | Callable = "gelu",
    normalization: str = "layer",
    epsilon: float = 1e-6,
    extra_norms: tuple[str, ...] = (),
    final_norm: bool = True,
    layer_scale_init: float | None = None,
    dropout_rate: float = 0.0,
    attention_dropout_rate: float = 0.0,
    stochastic_depth_rate: float = 0.0,
    gradient_checkpointing: bool = False,
    dtype: str | keras.DTypePolicy | None = None,
    name: str = "hybrid",
) -> ImageModel:
    """Build a model from a pattern: one letter a block says how the block mixes tokens.

    `A` is self-attention, `M` an MLP across tokens, `P` an average of neighbours and `F` a Fourier
    transform. An MLP across channels follows each of them. `C` is a ConvMixer block and `G` is
    gMLP's spatial gating; both mix channels too.
    `Hybrid("A" * 12)` is a ViT, `Hybrid("M" * 8)` an MLP-Mixer and `Hybrid("C" * 8)` a ConvMixer.
    All patterns accept all arguments: the model ignores an argument for a letter that the pattern
    does not have.

    Shapes: `(N, H, W, C) -> (N, num_classes)`. `num_classes=0` and `pool=None` change the output's
    shape, as described below.

    Args:
        pattern: str, one letter a block, such as `"MMA"` (Mixer, Mixer, attention) or `"CM"`
            (ConvMixer, Mixer).
        input_shape: (height, width, channels) of the images.
        num_classes: int, number of classes. With 0 the model has no classifier and returns the
            pooled features, `(N, hidden_dim)`.
        patch_size: int or (height, width), in pixels. Must divide the image.
        hidden_dim: int, width of a token.
        num_heads: int, number of attention heads of `A` and of `pool="map"`. Must divide
            `hidden_dim`, except for `A` with a `head_dim`. `None` for one head per 64 channels.
        mlp_dim: int, hidden width of the MLP across channels, and of `G`, where it must be even.
            `None` for `4 * hidden_dim`.
        tokens_mlp_dim: int, hidden width of `M` across tokens. `None` for `hidden_dim / 2`.
        kernel_size: int or (height, width), size of the kernel of `C` in tokens.
        head_dim: int, width of a head of `A`; `None` for `hidden_dim / num_heads`.
        gated_mlp: bool, whether the MLP across channels is gated; with `activation="silu"` this is
            SwiGLU.
        qkv_bias: bool, whether queries, keys and values of `A` have biases.
        without_bias: layers that have no bias, some of `"patches"` (the projection of the patches),
            `"key"` (the keys of `A`, while queries and values have one), `"out"` (the output
            projection of `A`) and `"mlp"` (the MLP across channels).
        qk_norm: bool, whether `A` normalizes queries and keys.
        score: how `A` scores a key: `"scaled_dot"`, `"dot"`, `"bilinear"` or `"additive"`; see
            `MultiHeadSelfAttention`.
        pool: how to make one vector of the tokens. `"gap"` averages the patches, `"token"` adds a
            class token and selects it (not with `C` or `P`), `"map"` pools the patches by
            attention. `None` keeps the sequence, `(N, T, ...)`, and classifies each token.
        pool_num_heads: int, number of heads of `pool="map"`; `None` for `num_heads`.
        pool_mlp_dim: int, hidden width of the MLP of `pool="map"`; `None` for `mlp_dim`.
        pool_prefix: bool, whether `pool="map"` pools the prefix tokens too.
        position_embedding: `"learned"`, `"sincos2d"` (fixed sines and cosines, for a `hidden_dim`
            that is a multiple of 4 and at least 8), `None` for no positions, or `"auto"`. `"auto"`
            gives learned positions if the pattern has an `A` without `rotary`, because attention
            treats all tokens alike, and else none.
        rotary: a `keras_mixers.layers.Rotary`, by which `A` rotates queries and keys; `None` for no
            rotation.
        num_registers: int, number of register tokens. Must be 0 with `C` or `P`.
        activation: `"gelu"` (exact), `"gelu_tanh"`, `"quick_gelu"`, another name in
            `keras.activations`, or a function.
        normalization: `"layer"` for LayerNorm or `"rms"` for RMSNorm. The norms inside `G` and
            inside `pool="map"` stay LayerNorms.
        epsilon: float, added to the variance in these norms. The norm inside `G` and the BatchNorms
            of `C` keep their own epsilon.
        extra_norms: places of more norms, some of `"patches"` (the projected patches),
            `"embeddings"` (the tokens with their positions), `"attention"` (before the output
            projection of `A`) and `"mlp"` (the hidden units of the MLP across channels).
        final_norm: bool, whether there is a norm after the blocks. A last block `C` has none.
        layer_scale_init: float, initial value of LayerScale; `None` for no LayerScale. `C` has no
            LayerScale.
        dropout_rate: float, fraction of activations dropped in training. `C` has no dropout.
        attention_dropout_rate: float, fraction of attention weights of `A` dropped in training.
        stochastic_depth_rate: float, fraction of samples for which training drops a residual branch
            of the last block. The rate grows linearly from 0 at the first block. `C` has no
            stochastic depth.
        gradient_checkpointing: bool, whether training stores only the inputs of residual branches
            and of `C`, and recomputes activations in the backward pass: less memory, more time.
            Needs `dropout_rate=0` and `attention_dropout_rate=0`.
        dtype: dtype or policy, such as `"mixed_bfloat16"`; `None` for Keras's default policy.
        name: str, name of the model.

    Returns:
        A functional `keras.Model`, as an `ImageModel`.

    Raises:
        ValueError, TypeError: if an argument is invalid; the message names it.

    Example:
        >>> model = Hybrid("MMA", input_shape=(64, 64, 3), patch_size=8, hidden_dim=128,
        ...                num_heads=4, num_classes=10)
        >>> model.output_shape
        (None, 10)
    """
    arguments.choice("position_embedding", position_embedding, ("auto", *KINDS, None))
    blocks = [MIXERS[letter] for letter in check_pattern(pattern)]
    if position_embedding == "auto":
        needed = rotary is None and any(block.needs_positions for block in blocks)
        position_embedding = "learned" if needed else None
    architecture = Architecture(
        blocks=blocks,
        input_shape=input_shape,
        num_classes=num_classes,
        patch_size=patch_size,
        hidden_dim=hidden_dim,
        pool=pool,
        pool_num_heads=pool_num_heads,
        pool_mlp_dim=pool_mlp_dim,
        pool_prefix=pool_prefix,
        position_embedding=position_embedding,
        rotary=rotary,
        class_token=pool == "token",
        num_registers=num_registers,
        num_heads=num_heads,
        head_dim=head_dim,
        gated_mlp=gated_mlp,
        qkv_bias=qkv_bias,
        without_bias=without_bias,
        qk_norm=qk_norm,
        score=score,
        mlp_dim=mlp_dim,
        tokens_mlp_dim=tokens_mlp_dim,
        kernel_size=kernel_size,
        activation=activation,
        normalization=normalization,
        epsilon=epsilon,
        extra_norms=extra_norms,
        final_norm=final_norm,
        layer_scale_init=layer_scale_init,
        dropout_rate=dropout_rate,
        attention_dropout_rate=attention_dropout_rate,
        stochastic_depth_rate=stochastic_depth_rate,
        gradient_checkpointing=gradient_checkpointing,
    )
    check_prefix_tokens(pattern, pool, num_registers)
    return assemble(architecture, name, dtype)


def check_pattern(pattern):
    """Check that a pattern has only letters of the table, and return it."""
    letters = ", ".join(f"{letter} {meaning}" for letter, meaning in LETTERS.items())
    expected = f"`pattern` must be one letter a block ({letters}), at most {MOST_BLOCKS} letters."
    if not isinstance(pattern, str):
        raise TypeError(f"{expected} Received: pattern={arguments.shown(pattern)}")
    unknown = "".join(sorted(set(pattern) - set(LETTERS)))
    if unknown or not 0 < len(pattern) <= MOST_BLOCKS:
        shown = pattern if len(pattern) <= 40 else pattern[:40] + "..."
        wrong = f"unknown: {unknown!r}" if unknown else f"{len(pattern)} letters"
        raise ValueError(f"{expected} Received: pattern={shown!r} ({wrong})")
    return pattern


def check_prefix_tokens(pattern, pool, num_registers):
    """Raise an error if there are prefix tokens and a block that mixes neighbours on the grid."""
    on_grid = sorted(letter for letter in set(pattern) if MIXERS[letter].on_grid)
    if on_grid and (pool == "token" or num_registers):
        raise ValueError(
            "`pool` must not be 'token' and `num_registers` must be 0 with the letters"
            f" {on_grid}, because class and register tokens have no place on their grid of patches."
            f" {arguments.received(pattern=pattern, pool=pool, num_registers=num_registers)}"
        )
