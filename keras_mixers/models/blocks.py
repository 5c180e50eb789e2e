"""What a block is, and the parts that most blocks share.

`keras_mixers.models.mixers` has the table of all blocks.
"""

import dataclasses
from collections.abc import Callable

import keras

from keras_mixers.layers import ChannelMixing, Residual


@dataclasses.dataclass(frozen=True)
class Block:
    """A kind of block: what one letter of a pattern stands for.

    In the functions, `a` is the `Architecture` of the model and `i` is the number of the block.

    Attributes:
        meaning: the kind in words, for error messages.
        apply: `(a, i, x) -> x`, adds the layers of the block to the graph.
        check: `a -> None`, raises an error if this kind of block cannot have the sizes of `a`.
            `None` if all sizes are valid.
        stem: `(a, x) -> x`, adds layers between the grid of patches and the first block. A model
            uses only the stem of its first block. `None` for no layers.
        ends_normalized: whether the output of the block is normalized, so that the head needs no
            norm.
        on_grid: whether the block mixes neighbours on the grid of patches, where prefix tokens
            have no place.
        needs_positions: whether the block treats all tokens alike, so that only position
            embeddings tell it where a token is.
    """

    meaning: str
    apply: Callable
    check: Callable | None = None
    stem: Callable | None = None
    ends_normalized: bool = False
    on_grid: bool = False
    needs_positions: bool = False


def metaformer(mixer):
    """A block of any token mixer: `x + mixer(norm(x))`, then `x + mlp(norm(x))`.

    Args:
        mixer: `a -> layer`, a function that makes the token mixer of an `Architecture`. The
            layer's name becomes part of the names of its weights: `block_0_attention/...`.

    Returns:
        The function `(a, i, x) -> x` for `Block.apply`.

    Source: "MetaFormer Is Actually What You Need for Vision", arXiv 2111.11418.
    """

    def apply(a, i, x):
        x = residual(a, i, mixer(a), x)
        return residual(a, i, channel_mixing(a), x)

    return apply


def residual(a, i, mixer, x):
    """`x + mixer(norm(x))` in block `i`: `(N, T, D)` or `(N, rows, columns, D) -> (N, T, D)`."""
    x = as_tokens(a, x, f"block_{i}_tokens")
    branch = Residual(
        mixer,
        # 0 at the first block, and the full rate at the last.
        stochastic_depth_rate=a.stochastic_depth_rate * i / max(len(a.blocks) - 1, 1),
        layer_scale_init=a.layer_scale_init,
        epsilon=a.epsilon,
        gradient_checkpointing=a.gradient_checkpointing,
        normalization=a.normalization,
        name=f"block_{i}_{mixer.name}",
    )
    return branch(x)


def channel_mixing(a):
    """The MLP inside each token, which follows a mixer that mixes tokens only."""
    return ChannelMixing(
        a.mlp_dim,
        a.activation,
        gated=a.gated_mlp,
        dropout_rate=a.dropout_rate,
        use_bias="mlp" not in a.without_bias,
        inner_norm="mlp" in a.extra_norms,
        normalization=a.normalization,
        epsilon=a.epsilon,
        name="channel_mixing",
    )


def as_tokens(a, x, name):
    """Reshape a grid `(N, rows, columns, D)` to a sequence `(N, T, D)`; keep a sequence."""
    if len(x.shape) == 3:
        return x
    return keras.layers.Reshape((a.num_tokens, a.hidden_dim), name=name)(x)


def as_grid(a, x, name):
    """Reshape a sequence `(N, T, D)` to a grid `(N, rows, columns, D)`; keep a grid."""
    if len(x.shape) == 4:
        return x
    return keras.layers.Reshape((*a.grid, a.hidden_dim), name=name)(x)
