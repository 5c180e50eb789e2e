"""Hybrids: a token mixer of one's choice in each block.

Their parts: attention (ViT, arXiv 2010.11929), token MLP (MLP-Mixer, arXiv 2105.01601), ConvMixer
(arXiv 2201.09792), pooling (MetaFormer, arXiv 2111.11418), spatial gating (gMLP, arXiv 2105.08050).
"""

from collections.abc import Callable

import keras

from keras_mixers import arguments
from keras_mixers.arguments import MOST_BLOCKS
from keras_mixers.layers.position_embedding import KINDS
from keras_mixers.models.architecture import Architecture
from keras_mixers.models.assemble import assemble
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
    qkv_bias: bool = True,
    qk_norm: bool = False,
    score: str = "scaled_dot",
    pool: str | None = "gap",
    position_embedding: str | None = "auto",
    num_registers: int = 0,
    activation: str | Callable = "gelu",
    epsilon: float = 1e-6,
    layer_scale_init: float | None = None,
    dropout_rate: float = 0.0,
    attention_dropout_rate: float = 0.0,
    stochastic_depth_rate: float = 0.0,
    gradient_checkpointing: bool = False,
    dtype: str | keras.DTypePolicy | None = None,
    name: str = "hybrid",
) -> keras.Model:
    """A model whose blocks mix tokens each in a way of its own, one letter a block.

    `A` self-attention, `M` an MLP across tokens, `P` an average of neighbours, each followed by an
    MLP across channels; `C` a ConvMixer block; `G` gMLP's spatial gating, which mixes both.
    `Hybrid("A" * 12)` is a ViT, `Hybrid("M" * 8)` an MLP-Mixer, `Hybrid("C" * 8)` a ConvMixer.
    One set of arguments serves all patterns: what belongs to a letter that the pattern does not
    have is not used.

    Shapes: `(N, H, W, C) -> (N, num_classes)`; see `num_classes` and `pool` for the others.

    Args:
        pattern: the letters, such as `"MMA"` (Mixer then attention) or `"CM"` (ConvMixer then
            Mixer).
        input_shape: (height, width, channels) of the images.
        num_classes: 0 for the pooled features, `(N, hidden_dim)`.
        patch_size: pixels, an int or a (height, width) pair; must divide the image.
        hidden_dim: width of a token.
        num_heads: of `A`; must divide `hidden_dim`. `None` for one in 64 channels.
        mlp_dim: hidden width across channels, and of `G`. `None` for `4 * hidden_dim`.
        tokens_mlp_dim: hidden width across tokens of `M`. `None` for `hidden_dim / 2`.
        kernel_size: of `C`, in tokens.
        head_dim: width of a head of `A`; `None` for `hidden_dim / num_heads`.
        qkv_bias: whether queries, keys and values of `A` have biases.
        qk_norm: whether `A` normalises queries and keys.
        score: how `A` scores; see `MultiHeadSelfAttention`.
        pool: `"gap"` averages the patches, `"token"` adds a class token and reads it (not with `C`
            or `P`), `"map"` pools by attention, `None` keeps the sequence, `(N, T, ...)`.
        position_embedding: `"learned"`, `"sincos2d"`, `None`, or `"auto"`: learned where the
            pattern has an `A`, which alone cannot tell one place from another, else none.
        num_registers: how many register tokens (not with `C` or `P`).
        activation: `"gelu"` (exact), `"gelu_tanh"`, another of Keras's names, or a function.
        epsilon: of the LayerNorms, but for the one inside `G`, which keeps its own.
        layer_scale_init: where LayerScale begins (not in `C`); `None` for no LayerScale.
        dropout_rate: share of activations dropped in training; `C` drops none.
        attention_dropout_rate: share of attention weights dropped in training.
        stochastic_depth_rate: share of samples dropped from the last block's branches in training,
            growing linearly from 0 at the first block; `C` drops none.
        gradient_checkpointing: keep the inputs of blocks and of their halves alone in training, and
            compute the rest again on the way back: less memory, more time.
        dtype: a dtype or policy, such as `"mixed_bfloat16"`; `None` for Keras's default.
        name: of the model.

    Returns:
        A functional `keras.Model`.

    Raises:
        ValueError, TypeError: an argument will not do; the message says which, and what would.

    Example:
        >>> model = Hybrid("MMA", input_shape=(64, 64, 3), patch_size=8, hidden_dim=128,
        ...                num_heads=4, num_classes=10)
        >>> model.output_shape
        (None, 10)
    """
    arguments.choice("position_embedding", position_embedding, ("auto", *KINDS, None))
    blocks = [MIXERS[letter] for letter in check_pattern(pattern)]
    if position_embedding == "auto":
        needed = any(block.needs_positions for block in blocks)
        position_embedding = "learned" if needed else None
    architecture = Architecture(
        blocks=blocks,
        input_shape=input_shape,
        num_classes=num_classes,
        patch_size=patch_size,
        hidden_dim=hidden_dim,
        pool=pool,
        position_embedding=position_embedding,
        class_token=pool == "token",
        num_registers=num_registers,
        num_heads=num_heads,
        head_dim=head_dim,
        qkv_bias=qkv_bias,
        qk_norm=qk_norm,
        score=score,
        mlp_dim=mlp_dim,
        tokens_mlp_dim=tokens_mlp_dim,
        kernel_size=kernel_size,
        activation=activation,
        epsilon=epsilon,
        layer_scale_init=layer_scale_init,
        dropout_rate=dropout_rate,
        attention_dropout_rate=attention_dropout_rate,
        stochastic_depth_rate=stochastic_depth_rate,
        gradient_checkpointing=gradient_checkpointing,
    )
    check_prefix_tokens(pattern, pool, num_registers)
    return assemble(architecture, name, dtype)


def check_pattern(pattern):
    """The pattern, if each of its letters is in the table."""
    meaning = ", ".join(f"{letter} {what}" for letter, what in LETTERS.items())
    expected = f"`pattern` must be one letter a block ({meaning}), at most {MOST_BLOCKS} of them."
    if not isinstance(pattern, str):
        raise TypeError(f"{expected} Received: pattern={pattern!r}")
    unknown = "".join(sorted(set(pattern) - set(LETTERS)))
    if unknown or not 0 < len(pattern) <= MOST_BLOCKS:
        shown = pattern if len(pattern) <= 40 else pattern[:40] + "..."
        wrong = f"unknown: {unknown!r}" if unknown else f"{len(pattern)} letters"
        raise ValueError(f"{expected} Received: pattern={shown!r} ({wrong})")
    return pattern


def check_prefix_tokens(pattern, pool, num_registers):
    """Refuse prefix tokens where blocks mix the grid of patches."""
    on_grid = sorted(letter for letter in set(pattern) if MIXERS[letter].on_grid)
    if on_grid and (pool == "token" or num_registers):
        raise ValueError(
            f"`pool` and registers may not add tokens where the letters {on_grid} mix the grid"
            f" of patches, in which such tokens have no place. Received: pool={pool!r},"
            f" pattern={pattern!r}, num_registers={num_registers}; pool='gap' with"
            " num_registers=0 adds none"
        )
