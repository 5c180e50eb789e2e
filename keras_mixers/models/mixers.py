"""The token mixers that a pattern's letters stand for: a new one is a row here."""

import dataclasses
from collections.abc import Callable

from keras_mixers import layers

# ConvMixer's BatchNorms, as published: PyTorch's epsilon, and its momentum of 0.1 in Keras's sense.
BATCH_NORM = {"epsilon": 1e-5, "momentum": 0.9}


@dataclasses.dataclass(frozen=True)
class Mixer:
    """What a letter stands for.

    Attributes:
        meaning: in words, for errors.
        layer: its class.
        arguments: what the class takes, from an `Architecture`.
        on_grid: whether it moves over the grid of patches, where prefix tokens have no place.
        is_block: whether the layer is a whole block, with norms and residual of its own.
    """

    meaning: str
    layer: type
    arguments: Callable
    on_grid: bool = False
    is_block: bool = False

    def make(self, architecture, name):
        """The layer for one block."""
        return self.layer(**self.arguments(architecture), name=name)


def named(*names):
    """The fields of an `Architecture` that a layer takes under the same names."""
    return lambda a: {name: getattr(a, name) for name in names}


ATTENTION = ("num_heads", "head_dim", "qkv_bias", "qk_norm", "score", "epsilon")
MIXERS = {
    "A": Mixer(
        "attention",
        layers.MultiHeadSelfAttention,
        named(*ATTENTION, "attention_dropout_rate", "dropout_rate"),
    ),
    "M": Mixer(
        "token MLP", layers.TokenMixing, named("tokens_mlp_dim", "activation", "dropout_rate")
    ),
    "C": Mixer(
        "ConvMixer block",
        layers.ConvMixerBlock,
        lambda a: named("kernel_size", "activation", "gradient_checkpointing")(a) | BATCH_NORM,
        on_grid=True,
        is_block=True,
    ),
    "P": Mixer("pooling", layers.PoolMixing, named("grid"), on_grid=True),
    "G": Mixer(
        "spatial gating", layers.SpatialGating, named("mlp_dim", "activation", "dropout_rate")
    ),
}
LETTERS = {letter: mixer.meaning for letter, mixer in MIXERS.items()}
GRID_LETTERS = {letter for letter, mixer in MIXERS.items() if mixer.on_grid}
