"""Mix the channels of each token by an MLP: plain or gated, and with a norm inside or without."""

import math
from collections.abc import Callable
from typing import Any

from keras_mixers import arguments
from keras_mixers.layers import activations, kernels
from keras_mixers.layers.base import Layer
from keras_mixers.layers.dense import Dense, mlp, parts
from keras_mixers.layers.dropout import Dropout
from keras_mixers.layers.norms import NORMALIZATIONS
from keras_mixers.serialization import registered


@registered
class ChannelMixing(Layer):
    """The same MLP for each token: `fc2(activation(fc1(x)))`.

    Shapes: `(N, T, D) -> (N, T, D)`, or with any other leading axes.

    Args:
        mlp_dim: hidden width.
        activation: a name or a function; `"gelu"` is the exact GELU, `"gelu_tanh"` is Flax's.
        gated: whether to compute `fc2(activation(a) * b)` with `a, b = split(fc1(x))`. `fc1` then
            has the width 2 mlp_dim. With `activation="silu"` this is SwiGLU ("GLU Variants Improve
            Transformer", arXiv 2002.05202).
        dropout_rate: fraction of the hidden units and of the outputs to drop in training.
        use_bias: whether `fc1` and `fc2` have biases.
        inner_norm: whether to normalize the hidden units before `fc2` (sub-LN: "Foundation
            Transformers", arXiv 2210.06423).
        normalization: the kind of the inner norm, `"layer"` or `"rms"`.
        epsilon: added to the variance in the inner norm.

    Example:
        >>> ChannelMixing(96)(keras.Input((10, 48))).shape
        (None, 10, 48)
        >>> swiglu = ChannelMixing(64, activation="silu", gated=True)

    Source: "Attention Is All You Need", arXiv 1706.03762, section 3.3. The name is MLP-Mixer's,
    arXiv 2105.01601.
    """

    mixes = frozenset(["channels"])
    role = "channel_mixing"
    split_by = "mlp_dim"

    def __init__(
        self,
        mlp_dim: int,
        activation: str | Callable = "gelu",
        gated: bool = False,
        dropout_rate: float = 0.0,
        use_bias: bool = True,
        inner_norm: bool = False,
        normalization: str = "layer",
        epsilon: float = 1e-6,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.mlp_dim = arguments.integer("mlp_dim", mlp_dim)
        self.activation = activations.get(activation)
        self.gated = arguments.flag("gated", gated)
        self.dropout_rate = arguments.rate("dropout_rate", dropout_rate)
        self.use_bias = arguments.flag("use_bias", use_bias)
        self.inner_norm = arguments.flag("inner_norm", inner_norm)
        self.normalization = arguments.choice("normalization", normalization, NORMALIZATIONS)
        self.epsilon = arguments.real("epsilon", epsilon, 0.0)

        dtype = self.dtype_policy
        units = self.mlp_dim * (2 if self.gated else 1)
        self.fc1 = Dense(units, use_bias=self.use_bias, dtype=dtype, name="fc1")
        self.dropout = Dropout(self.dropout_rate, dtype=dtype, name="dropout")
        if self.inner_norm:
            self.norm = NORMALIZATIONS[self.normalization](
                epsilon=self.epsilon, dtype=dtype, name="norm"
            )

    def build(self, x_shape):
        self.fc2 = Dense(x_shape[-1], use_bias=self.use_bias, dtype=self.dtype_policy, name="fc2")
        hidden_shape = (*x_shape[:-1], self.mlp_dim)
        self.fc1.build(x_shape)
        self.fc2.build(hidden_shape)
        if self.inner_norm:
            self.norm.build(hidden_shape)

    def split_axes(self):
        if self.gated:
            return {"fc1/kernel": 0, "fc1/parts": 2, "fc2/kernel": 0}
        return {"fc1/kernel": 1, "fc1/bias": 0, "fc2/kernel": 0}

    def multiply_adds(self, x_shape):
        products = 3 if self.gated else 2
        return products * math.prod(x_shape[1:]) * self.mlp_dim

    def call(self, x, training=None):
        if self.gated or self.inner_norm:
            x = self.dropout(self.hidden(x, training), training=training)
            x = self.fc2(self.norm(x, training=training) if self.inner_norm else x)
        else:
            x = mlp(x, self.fc1, self.activation, self.dropout, self.fc2, training)
        return self.dropout(x, training=training)

    def hidden(self, x, training=None):
        """The hidden units of each token, before any norm: `(..., D) -> (..., mlp_dim)`."""
        if not self.gated:
            return kernels.activate(self.activation, self.fc1(x), training)
        gate, x = parts(self.fc1, x, 2)
        return kernels.activate(self.activation, gate, training) * x
