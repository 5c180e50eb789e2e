"""Add positions to tokens: a learned table, or sines and cosines of row and column."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mixers import arguments
from keras_mixers.layers.base import Layer
from keras_mixers.serialization import registered

KINDS = ("learned", "sincos2d")


@registered
class PositionEmbedding(Layer):
    """Add a vector for each position: `x + positions`.

    Shapes: `(N, T, D) -> (N, T, D)`, with `T = num_prefix + rows * columns`.

    A model can call this layer before or after it adds the prefix tokens. Before (`num_prefix=0`),
    only the patches get positions, as in DeiT-III and big_vision. After, the prefix tokens get
    positions too, as in the original ViT.

    Args:
        grid: (rows, columns) of the patches, or an int for a square.
        num_prefix: number of tokens before the patches.
        kind: `"learned"`, or `"sincos2d"` for fixed sines and cosines of column and row. These have
            D/4 frequencies from 1 to 1/10000, are zero for prefix tokens, and need no weights.

    Raises:
        ValueError: if the number of tokens is not `num_prefix + rows * columns`.
        ValueError: if `kind` is `"sincos2d"` and D is not a multiple of 4, or is below 8.

    Example:
        >>> PositionEmbedding((4, 6))(keras.Input((24, 192))).shape
        (None, 24, 192)

    Source: "An Image is Worth 16x16 Words", arXiv 2010.11929; `"sincos2d"`: "Better plain ViT
    baselines for ImageNet-1k", arXiv 2205.01580.
    """

    rank = 3

    def __init__(
        self, grid: int | tuple[int, int], num_prefix: int = 0, kind: str = "learned", **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.grid = arguments.pair("grid", grid)
        self.num_prefix = arguments.integer("num_prefix", num_prefix, minimum=0)
        self.kind = arguments.choice("kind", kind, KINDS)

    def build(self, x_shape):
        _, tokens, width = x_shape
        expected = self.num_prefix + self.grid[0] * self.grid[1]
        if tokens != expected:
            raise ValueError(
                "`num_prefix` + rows * columns of `grid` must be the number of tokens. Received:"
                f" grid={self.grid} and num_prefix={self.num_prefix}, so {expected} tokens, for an"
                f" input of {tokens}"
            )
        self.fix_token_count(tokens)
        if self.kind == "learned":
            self.table = self.add_weight(
                shape=(1, tokens, width),
                initializer=keras.initializers.RandomNormal(stddev=0.02),
                name="table",
            )
        else:
            prefix = np.zeros((self.num_prefix, width), "float32")
            self.table = np.concatenate([prefix, sincos2d(self.grid, width)])[None]

    def call(self, x):
        return x + ops.cast(self.table, x.dtype)


def sincos2d(grid, width):
    """Fixed positions `(rows * columns, width)`: sin and cos of the column, then of the row.

    Raises:
        ValueError: if `width` is not a multiple of 4, or is below 8.
    """
    if width % 4 or width < 8:
        raise ValueError(
            "D, the width of the tokens, must be a multiple of 4, at least 8, for 'sincos2d'"
            f" positions. Received: D={width}"
        )
    frequencies = 1.0 / 10_000 ** (np.arange(width // 4) / (width // 4 - 1))
    row, column = np.mgrid[: grid[0], : grid[1]].reshape(2, -1, 1) * frequencies
    table = [np.sin(column), np.cos(column), np.sin(row), np.cos(row)]
    return np.concatenate(table, axis=1).astype("float32")
