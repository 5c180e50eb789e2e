"""Select one token of a sequence."""

from typing import Any

from keras_mixers import arguments
from keras_mixers.layers.base import Layer
from keras_mixers.serialization import registered


@registered
class SelectToken(Layer):
    """`x[:, index]`: the token that the classifier reads.

    Shapes: `(N, T, D) -> (N, D)`.

    Args:
        index: 0 for the class token, 1 for a distillation token after it.

    Raises:
        ValueError: if the input has no token at `index`.

    Example:
        >>> SelectToken(0)(keras.Input((10, 48))).shape
        (None, 48)

    Source: "An Image is Worth 16x16 Words", arXiv 2010.11929, equation 4.
    """

    rank = 3

    def __init__(self, index: int = 0, **kwargs: Any):
        super().__init__(**kwargs)
        self.index = arguments.integer("index", index, minimum=0)

    def compute_output_shape(self, x_shape):
        self._check(x_shape[1])
        return (x_shape[0], x_shape[-1])

    def call(self, x):
        # An eager call does not compute the output shape, and JAX would clamp the index.
        self._check(x.shape[1])
        return x[:, self.index]

    def _check(self, tokens):
        if tokens is not None and self.index >= tokens:
            raise ValueError(
                f"`index` must be below the number of tokens. Received: index={self.index} for an"
                f" input of {tokens} tokens"
            )
