"""Mix tokens by a gate: half of the channels, mixed across positions, multiply the other half."""

import functools
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_mixers import arguments
from keras_mixers.layers import activations, kernels
from keras_mixers.layers.base import Layer
from keras_mixers.layers.dense import Dense, parts
from keras_mixers.layers.dropout import Dropout
from keras_mixers.layers.norms import LayerNormalization
from keras_mixers.serialization import registered


@registered
class SpatialGating(Layer):
    """The gMLP block's branch: `fc2(u * spatial(norm(v)))` with `u, v = split(activation(fc1(x)))`.

    The layer mixes tokens and channels, so one residual around it is a whole block. `spatial` is a
    matrix across positions. Its kernel starts near zero and its bias at one, so the gate starts
    open.

    Shapes: `(N, T, D) -> (N, T, D)`. A built layer takes inputs of one T only.

    Args:
        mlp_dim: width of `fc1`, an even number; the gate has half of it.
        activation: a name or a function.
        dropout_rate: fraction of the gated units and of the outputs to drop in training.
        epsilon: added to the variance in the norm of the gate.

    Raises:
        ValueError: if `mlp_dim` is odd, or if T is unknown.

    Example:
        >>> SpatialGating(96)(keras.Input((10, 48))).shape
        (None, 10, 48)

    Source: "Pay Attention to MLPs", arXiv 2105.08050.
    """

    rank = 3
    mixes = frozenset(["channels", "tokens"])
    role = "spatial_gating"
    split_by = "mlp_dim"

    def __init__(
        self,
        mlp_dim: int,
        activation: str | Callable = "gelu",
        dropout_rate: float = 0.0,
        epsilon: float = 1e-5,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.mlp_dim = arguments.integer("mlp_dim", mlp_dim, minimum=2)
        if self.mlp_dim % 2:
            raise ValueError(
                "`mlp_dim` must be even, because one half gates the other. Received:"
                f" mlp_dim={arguments.shown(mlp_dim)}; use {mlp_dim + 1}, for example"
            )
        self.activation = activations.get(activation)
        self.dropout_rate = arguments.rate("dropout_rate", dropout_rate)
        self.epsilon = arguments.real("epsilon", epsilon, 0.0)
        dtype = self.dtype_policy
        self.fc1 = Dense(self.mlp_dim, dtype=dtype, name="fc1")
        self.norm = LayerNormalization(epsilon=self.epsilon, dtype=dtype, name="norm")
        self.dropout = Dropout(self.dropout_rate, dtype=dtype, name="dropout")

    def build(self, x_shape):
        batch, tokens, width = x_shape
        arguments.require_token_count(type(self).__name__, tokens)
        self.fix_token_count(tokens)
        self.spatial = Dense(
            tokens,
            kernel_initializer=keras.initializers.RandomNormal(stddev=1e-6),
            bias_initializer="ones",
            dtype=self.dtype_policy,
            name="spatial",
        )
        self.fc2 = Dense(width, dtype=self.dtype_policy, name="fc2")
        half = self.mlp_dim // 2
        self.fc1.build(x_shape)
        self.norm.build((batch, tokens, half))
        self.spatial.build((batch, half, tokens))
        self.fc2.build((batch, tokens, half))

    def split_axes(self):
        return {"fc1/kernel": 0, "fc1/parts": 2, "fc2/kernel": 0}

    def multiply_adds(self, x_shape):
        _, tokens, width = x_shape
        half = self.mlp_dim // 2
        return tokens * (width * self.mlp_dim + tokens * half + half * width)

    def call(self, x, training=None):
        activation = functools.partial(kernels.activate, self.activation, training=training)
        value, gate = parts(self.fc1, x, 2, activation)
        gate = ops.transpose(self.norm(gate), (0, 2, 1))
        gate = ops.transpose(self.spatial(gate), (0, 2, 1))
        x = self.fc2(self.dropout(value * gate, training=training))
        return self.dropout(x, training=training)
