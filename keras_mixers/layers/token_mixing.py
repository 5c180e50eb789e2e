"""Mix tokens by an MLP across positions, which all channels share."""

from collections.abc import Callable
from typing import Any

from keras import ops

from keras_mixers import arguments
from keras_mixers.layers import activations, kernels
from keras_mixers.layers.base import Layer
from keras_mixers.layers.dense import Dense, mlp_across_tokens
from keras_mixers.layers.dropout import Dropout
from keras_mixers.serialization import registered


@registered
class TokenMixing(Layer):
    """The MLP of MLP-Mixer across tokens: `transpose(fc2(activation(fc1(transpose(x)))))`.

    Shapes: `(N, T, D) -> (N, T, D)`. A built layer takes inputs of one T only. `fc1.kernel` has the
    shape `(T, tokens_mlp_dim)`; each column holds one hidden unit's weights for all positions.

    Args:
        tokens_mlp_dim: hidden width across tokens.
        activation: a name or a function; `"gelu"` is the exact GELU, `"gelu_tanh"` is Flax's.
        dropout_rate: fraction of the hidden units and of the outputs to drop in training.

    Raises:
        ValueError: if T is unknown.

    Example:
        >>> TokenMixing(32)(keras.Input((10, 48))).shape
        (None, 10, 48)

    Source: "MLP-Mixer: An all-MLP Architecture for Vision", arXiv 2105.01601.
    """

    rank = 3
    mixes = frozenset(["tokens"])
    role = "token_mixing"
    split_by = "tokens_mlp_dim"

    def __init__(
        self,
        tokens_mlp_dim: int,
        activation: str | Callable = "gelu",
        dropout_rate: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.tokens_mlp_dim = arguments.integer("tokens_mlp_dim", tokens_mlp_dim)
        self.activation = activations.get(activation)
        self.dropout_rate = arguments.rate("dropout_rate", dropout_rate)
        self.fc1 = Dense(self.tokens_mlp_dim, dtype=self.dtype_policy, name="fc1")
        self.dropout = Dropout(self.dropout_rate, dtype=self.dtype_policy, name="dropout")

    def build(self, x_shape):
        batch, tokens, width = x_shape
        arguments.require_token_count(type(self).__name__, tokens)
        self.fix_token_count(tokens)
        self.fc2 = Dense(tokens, dtype=self.dtype_policy, name="fc2")
        self.fc1.build((batch, width, tokens))
        self.fc2.build((batch, width, self.tokens_mlp_dim))

    def split_axes(self):
        return {"fc1/kernel": 1, "fc1/bias": 0, "fc2/kernel": 0}

    def multiply_adds(self, x_shape):
        _, tokens, width = x_shape
        return 2 * tokens * self.tokens_mlp_dim * width

    def call(self, x, training=None):
        x = mlp_across_tokens(x, self.fc1, self.activation, self.dropout, self.fc2, training)
        return self.dropout(x, training=training)

    def hidden(self, x):
        """The hidden units of each channel: `(N, T, D) -> (N, tokens_mlp_dim, D)`."""
        hidden = self.fc1(ops.transpose(x, (0, 2, 1)))
        return ops.transpose(kernels.activate(self.activation, hidden, False), (0, 2, 1))
