"""Pool a sequence of tokens into one vector by attention (the MAP head)."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_mixers import arguments
from keras_mixers.layers.attention import attend_heads, sequence_shape
from keras_mixers.layers.base import Layer
from keras_mixers.layers.channel_mixing import ChannelMixing
from keras_mixers.layers.dense import Dense, parts
from keras_mixers.layers.norms import LayerNormalization
from keras_mixers.serialization import registered


@registered
class AttentionPooling(Layer):
    """A learned probe attends to the tokens: `y = attend(probe, x)`, then `y + mlp(norm(y))`.

    Shapes: `(N, T, D) -> (N, D)`.

    Args:
        num_heads: number of heads; it must divide D.
        mlp_dim: hidden width of the MLP.
        activation: activation of the MLP, a name or a function.
        epsilon: added to the variance in the norm.

    Raises:
        ValueError: if `num_heads` does not divide D.

    Example:
        >>> AttentionPooling(num_heads=3, mlp_dim=96)(keras.Input((10, 48))).shape
        (None, 48)

    Source: "Scaling Vision Transformers", arXiv 2106.04560; "Set Transformer", arXiv 1810.00825,
    calls the probe a seed vector.
    """

    rank = 3
    split_by = "num_heads"

    def __init__(
        self,
        num_heads: int,
        mlp_dim: int,
        activation: str | Callable = "gelu",
        epsilon: float = 1e-6,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_heads = arguments.integer("num_heads", num_heads)
        self.mlp_dim = arguments.integer("mlp_dim", mlp_dim)
        self.mlp = ChannelMixing(
            self.mlp_dim, activation=activation, dtype=self.dtype_policy, name="mlp"
        )
        self.activation = self.mlp.activation
        self.epsilon = arguments.real("epsilon", epsilon, 0.0)
        self.norm = LayerNormalization(epsilon=self.epsilon, dtype=self.dtype_policy, name="norm")

    def compute_output_shape(self, x_shape):
        return (x_shape[0], x_shape[-1])

    def build(self, x_shape):
        width = x_shape[-1]
        arguments.divides("num_heads", self.num_heads, "D", width)
        self.probe = self.add_weight(
            shape=(1, 1, width), initializer="glorot_uniform", name="probe"
        )
        # Glorot's limit for each of two matrices, because Keras would treat them as one.
        limit = (6.0 / (2 * width)) ** 0.5
        self.query = Dense(width, dtype=self.dtype_policy, name="query")
        self.key_value = Dense(
            2 * width,
            kernel_initializer=keras.initializers.RandomUniform(-limit, limit),
            dtype=self.dtype_policy,
            name="key_value",
        )
        self.out = Dense(width, dtype=self.dtype_policy, name="out")
        for part in (self.query, self.key_value, self.out, self.norm, self.mlp):
            part.build(x_shape)

    def split_axes(self):
        return {
            "query/kernel": 1,
            "query/bias": 0,
            "key_value/kernel": 0,
            "key_value/parts": 2,
            "out/kernel": 0,
        }

    def multiply_adds(self, x_shape):
        _, tokens, width = x_shape
        # The query is computed once for all images, but counts for each image like the rest.
        attention = (2 + 2 * tokens) * width**2 + 2 * tokens * width
        return attention + self.mlp.multiply_adds((None, width))

    def call(self, x):
        batch, tokens = sequence_shape(x)
        width = x.shape[-1]
        heads = (self.num_heads, width // self.num_heads)
        # All images share the probe, so its query is computed once and repeated over the batch.
        query = ops.reshape(self.query(ops.cast(self.probe, x.dtype)), (1, 1, *heads))
        query = ops.broadcast_to(query, (ops.shape(x)[0], 1, *heads))
        key, value = (
            ops.reshape(part, (batch, tokens, *heads)) for part in parts(self.key_value, x, 2)
        )
        y = self.out(ops.reshape(attend_heads(query, key, value), (-1, width)))
        return y + self.mlp(self.norm(y))
