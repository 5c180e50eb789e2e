"""The table of blocks: what each letter of a pattern stands for.

To add a token mixer, write its layer in `layers/` and add a row to `MIXERS`. A layer that mixes
only tokens needs `metaformer`, which adds the MLP across channels. A layer that mixes channels too
needs a function like `gmlp_block`. `Block` describes the other fields of a row.
"""

from keras_mixers import layers
from keras_mixers.models import conv_mixer, mlp_mixer, vit
from keras_mixers.models.blocks import Block, metaformer, residual


def gmlp_block(a, i, x):
    """Block `i` of gMLP: `x + gating(norm(x))`. The gating mixes tokens and channels.

    Source: "Pay Attention to MLPs", arXiv 2105.08050.
    """
    gating = layers.SpatialGating(
        a.mlp_dim, a.activation, dropout_rate=a.dropout_rate, name="spatial_gating"
    )
    return residual(a, i, gating, x)


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
