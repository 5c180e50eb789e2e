"""Mix tokens by an average of their neighbours, without weights."""

from typing import Any

from keras import ops

from keras_mixers import arguments
from keras_mixers.layers.base import Layer
from keras_mixers.serialization import registered


@registered
class PoolMixing(Layer):
    """PoolFormer's token mixer: `average(neighbours of x) - x`. It has no weights.

    The layer subtracts x because the residual adds x again. At the border, the average contains
    only the neighbours inside the grid.

    Shapes: `(N, T, D) -> (N, T, D)`, with `T = rows * columns`.

    Args:
        grid: (rows, columns) of the tokens, or an int for a square.
        pool_size: side of the neighbourhood in tokens, an int or a (height, width) pair.

    Raises:
        ValueError: if the number of tokens is not `rows * columns`.

    Example:
        >>> PoolMixing((2, 5))(keras.Input((10, 48))).shape
        (None, 10, 48)

    Source: "MetaFormer Is Actually What You Need for Vision", arXiv 2111.11418.
    """

    rank = 3
    mixes = frozenset(["tokens"])
    role = "pool_mixing"

    def __init__(
        self, grid: int | tuple[int, int], pool_size: int | tuple[int, int] = 3, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.grid = arguments.pair("grid", grid)
        self.pool_size = arguments.pair("pool_size", pool_size)

    def build(self, x_shape):
        if x_shape[1] != self.grid[0] * self.grid[1]:
            raise ValueError(
                "rows * columns of `grid` must be the number of tokens. Received:"
                f" grid={self.grid} for an input of {x_shape[1]} tokens"
            )
        self.fix_token_count(x_shape[1])

    def call(self, x):
        width = x.shape[-1]
        image = ops.reshape(x, (-1, *self.grid, width))
        average = ops.average_pool(
            image, self.pool_size, strides=1, padding="same", data_format="channels_last"
        )
        return ops.reshape(average - image, (-1, self.grid[0] * self.grid[1], width))
