"""The table of blocks: what each letter of a pattern stands for. A new token mixer is a row."""

from keras_mixers import layers
from keras_mixers.models import blocks, conv_mixer, mlp_mixer, vit
from keras_mixers.models.blocks import Block


def metaformer(mixer):
    """The block around a token mixer: `x + mixer(norm(x))`, then `x + mlp(norm(x))`.

    Args:
        mixer: a function from an `Architecture` to the layer that mixes the tokens.

    Source: "MetaFormer Is Actually What You Need for Vision", arXiv 2111.11418.
    """

    def apply(a, i, x):
        x = blocks.residual(a, i, mixer(a), x)
        return blocks.residual(a, i, blocks.channel_mixing(a), x)

    return apply


def gmlp_block(a, i, x):
    """GMLP's block, "Pay Attention to MLPs", arXiv 2105.08050: its mixer mixes channels too."""
    gating = layers.SpatialGating(
        a.mlp_dim, a.activation, dropout_rate=a.dropout_rate, name="spatial_gating"
    )
    return blocks.residual(a, i, gating, x)


def check_gmlp(a):
    """Refuse a width that the gate cannot halve, and a matrix of too many tokens by tokens."""
    a.check_product(("tokens", a.num_tokens), ("tokens", a.num_tokens))
    if a.mlp_dim % 2:
        raise ValueError(
            f"`mlp_dim` must be even for spatial gating (letter 'G'). Received: mlp_dim={a.mlp_dim}"
        )


MIXERS = {
    "A": vit.BLOCK,
    "M": mlp_mixer.BLOCK,
    "C": conv_mixer.BLOCK,
    "P": Block(
        "pooling",
        metaformer(lambda a: layers.PoolMixing(a.grid, name="pool_mixing")),
        on_grid=True,
    ),
    "G": Block("spatial gating", gmlp_block, check=check_gmlp),
}
LETTERS = {letter: block.meaning for letter, block in MIXERS.items()}
