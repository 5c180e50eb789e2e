"""Learned tokens in front of the patches: class token, distillation token, registers."""

from typing import Any

import keras
from keras import ops

from keras_mixers import arguments
from keras_mixers.layers.base import Layer
from keras_mixers.serialization import registered


@registered
class PrefixTokens(Layer):
    """Prepend learned tokens to the patches: `[class, distillation, registers, patches]`.

    Shapes: `(N, T, D) -> (N, num_prefix + T, D)`.

    Args:
        class_token: whether to add the token whose output the classifier reads ("An Image is Worth
            16x16 Words", arXiv 2010.11929).
        distillation_token: whether to add the token that learns from a teacher (DeiT, arXiv
            2012.12877).
        num_registers: number of registers, tokens that no output reads ("Vision Transformers Need
            Registers", arXiv 2309.16588).

    Raises:
        ValueError: if the arguments add no token.

    Example:
        >>> PrefixTokens(num_registers=4)(keras.Input((196, 192))).shape
        (None, 201, 192)
    """

    rank = 3

    def __init__(
        self,
        class_token: bool = True,
        distillation_token: bool = False,
        num_registers: int = 0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.class_token = arguments.flag("class_token", class_token)
        self.distillation_token = arguments.flag("distillation_token", distillation_token)
        self.num_registers = arguments.integer("num_registers", num_registers, minimum=0)
        if not self.num_prefix:
            raise ValueError(
                "`PrefixTokens` must add a token: class_token=True, distillation_token=True or"
                " num_registers of 1 or more. Received: class_token=False,"
                " distillation_token=False, num_registers=0"
            )

    @property
    def num_prefix(self):
        """The number of tokens that this layer adds."""
        return self.class_token + self.distillation_token + self.num_registers

    def compute_output_shape(self, x_shape):
        batch, tokens, width = x_shape
        return (batch, None if tokens is None else self.num_prefix + tokens, width)

    def build(self, x_shape):
        counts = {
            "class": int(self.class_token),
            "distillation": int(self.distillation_token),
            "registers": self.num_registers,
        }
        # Random values, because registers that start equal would always stay equal.
        self.tokens = [
            self.add_weight(
                shape=(1, count, x_shape[-1]),
                initializer=keras.initializers.RandomNormal(stddev=0.02),
                name=name,
            )
            for name, count in counts.items()
            if count
        ]

    def call(self, x):
        batch, _, width = ops.shape(x)
        prefix = [
            ops.broadcast_to(ops.cast(token, x.dtype), (batch, token.shape[1], width))
            for token in self.tokens
        ]
        return ops.concatenate([*prefix, x], axis=1)
