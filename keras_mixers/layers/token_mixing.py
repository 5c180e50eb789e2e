"""Tokens mixed by an MLP across positions, the same for every channel."""

from collections.abc import Callable

from keras import ops

from keras_mixers import arguments
from keras_mixers.layers import activations, kernels
from keras_mixers.layers.base import Layer
from keras_mixers.layers.dense import Dense, mlp
from keras_mixers.layers.dropout import Dropout
from keras_mixers.serialization import registered


@registered
class TokenMixing(Layer):
    """The MLP of MLP-Mixer across tokens: `transpose(fc2(activation(fc1(transpose(x)))))`.

    Shapes: `(N, T, D) -> (N, T, D)`; `fc1.kernel` is `(T, tokens_mlp_dim)`: a column is one hidden
    unit's weight for each position. T is fixed once built.

    Args:
        tokens_mlp_dim: hidden width across tokens.
        activation: a name (`"gelu"` is the exact form, `"gelu_tanh"` Flax's) or a function.
        dropout_rate: share of hidden units and of outputs dropped in training.

    Raises:
        ValueError: the token count is unknown.

    Example:
        >>> TokenMixing(32)(keras.Input((10, 48))).shape
        (None, 10, 48)

    Source: "MLP-Mixer: An all-MLP Architecture for Vision", arXiv 2105.01601.
    """

    rank = 3
    mixes = frozenset(["tokens"])
    role = "token_mixing"

    def __init__(
        self,
        tokens_mlp_dim: int,
        activation: str | Callable = "gelu",
        dropout_rate: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.tokens_mlp_dim = arguments.integer("tokens_mlp_dim", tokens_mlp_dim)
        self.activation = activations.get(activation)
        self.dropout_rate = arguments.rate("dropout_rate", dropout_rate)
        self.fc1 = Dense(self.tokens_mlp_dim, dtype=self.dtype_policy, name="fc1")
        self.dropout = Dropout(self.dropout_rate, dtype=self.dtype_policy, name="dropout")

    def build(self, x_shape):
        batch, tokens, width = x_shape
        arguments.known_tokens(type(self).__name__, tokens)
        self.hold_tokens(tokens)
        self.fc2 = Dense(tokens, dtype=self.dtype_policy, name="fc2")
        self.fc1.build((batch, width, tokens))
        self.fc2.build((batch, width, self.tokens_mlp_dim))

    def multiply_adds(self, x_shape):
        _, tokens, width = x_shape
        return 2 * tokens * self.tokens_mlp_dim * width

    def call(self, x, training=None):
        x = ops.transpose(x, (0, 2, 1))
        x = mlp(x, self.fc1, self.activation, self.dropout, self.fc2, training)
        x = self.dropout(x, training=training)
        return ops.transpose(x, (0, 2, 1))

    def hidden(self, x):
        """The hidden units of each channel: `(N, T, D) -> (N, tokens_mlp_dim, D)`."""
        hidden = self.fc1(ops.transpose(x, (0, 2, 1)))
        return ops.transpose(kernels.activate(self.activation, hidden, False), (0, 2, 1))
