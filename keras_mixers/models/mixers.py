"""The table of blocks: what each letter of a pattern stands for.

To add a token mixer, write its layer in `layers/` and add a row here.
"""

from keras_mixers import layers
from keras_mixers.models import blocks, conv_mixer, mlp_mixer, vit
from keras_mixers.models.blocks import Block


def metaformer(mixer):
    """A block of any token mixer: `x + mixer(norm(x))`, then `x + mlp(norm(x))`.

    Args:
        mixer: `a -> layer`, makes the layer that mixes the tokens of an `Architecture`.

    Returns:
        A function for `Block.apply`.

    Source: "MetaFormer Is Actually What You Need for Vision", arXiv 2111.11418.
    """

    def apply(a, i, x):
        x = blocks.residual(a, i, mixer(a), x)
        return blocks.residual(a, i, blocks.channel_mixing(a), x)

    return apply


def gmlp_block(a, i, x):
    """Block `i` of gMLP: `x + gating(norm(x))`; the gating mixes tokens and channels.

    Source: "Pay Attention to MLPs", arXiv 2105.08050.
    """
    gating = layers.SpatialGating(
        a.mlp_dim, a.activation, dropout_rate=a.dropout_rate, name="spatial_gating"
    )
    return blocks.residual(a, i, gating, x)


def check_gmlp(a):
    """Raise an error if the gate cannot halve `mlp_dim`, or has too many weights."""
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
    "F": Block(
        "Fourier transform", metaformer(lambda a: layers.FourierMixing(name="fourier_mixing"))
    ),
    "G": Block("spatial gating", gmlp_block, check=check_gmlp),
}
# The letters in words, for error messages and for programs that read a pattern.
LETTERS = {letter: block.meaning for letter, block in MIXERS.items()}
