"""One token picked out of the sequence."""

import keras

from keras_mixers import arguments
from keras_mixers.layers.base import PACKAGE, Layer


@keras.saving.register_keras_serializable(PACKAGE)
class SelectToken(Layer):
    """The token at `index`: `x[:, index]`.

    Shapes: `(N, T, D) -> (N, D)`.

    Args:
        index: 0 for the class token, 1 for a distillation token behind it.

    Raises:
        ValueError: there is no such token.

    Example:
        >>> SelectToken(0)(keras.Input((10, 48))).shape
        (None, 48)
    """

    rank = 3

    def __init__(self, index=0, **kwargs):
        super().__init__(**kwargs)
        self.index = arguments.integer("index", index, minimum=0)

    def compute_output_shape(self, x_shape):
        tokens = x_shape[1]
        if tokens is not None and self.index >= tokens:
            raise ValueError(
                f"`index` must be below the number of tokens. Received: index={self.index} for an"
                f" input of {tokens} tokens"
            )
        return (x_shape[0], x_shape[-1])

    def call(self, x):
        return x[:, self.index]
