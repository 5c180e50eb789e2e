"""Map tokens to the image: the grid of patches, and the prefix tokens that precede them."""

import dataclasses
import numbers

import keras
import numpy as np

from keras_mixers import arguments
from keras_mixers.graph import layer_calls
from keras_mixers.layers import PatchEmbed, PrefixTokens
from keras_mixers.layers.patches import patch_grid
from keras_mixers.probe.collect import find_layers


@dataclasses.dataclass(frozen=True)
class TokenGrid:
    """How a sequence of tokens covers the image: prefix tokens first, then patches row by row.

    Attributes:
        rows, columns: size of the grid in patches.
        patch_size: (height, width) of a patch in pixels of the image that `PatchEmbed` receives.
        num_prefix: number of prefix tokens (class token, distillation token, registers).
    """

    rows: int
    columns: int
    patch_size: tuple[int, int]
    num_prefix: int = 0

    def patches(self, x: np.ndarray) -> np.ndarray:
        """The values of the patches as a grid: `(..., T) -> (..., rows, columns)`."""
        return x[..., self.num_prefix :].reshape(*x.shape[:-1], self.rows, self.columns)

    def token(self, query: tuple[int, int]) -> int:
        """The index in the sequence of the patch at `query`, a (row, column) of the grid.

        Raises:
            ValueError: if `query` is not a pair of integers or lies outside the grid.
        """
        is_pair = isinstance(query, (tuple, list)) and len(query) == 2
        if not is_pair or not all(
            isinstance(at, numbers.Integral) and not isinstance(at, bool) and 0 <= at < count
            for at, count in zip(query, (self.rows, self.columns), strict=True)
        ):
            raise ValueError(
                f"`query` must be (row, column) on the grid of {self.rows} x {self.columns}"
                f" patches, counted from 0. Received: query={arguments.shown(query)}"
            )
        row, column = query
        return self.num_prefix + row * self.columns + column


def token_grid(model: keras.Model, tokens: int | None = None) -> TokenGrid:
    """The grid of a model's patches.

    Args:
        model: functional or sequential model with one `PatchEmbed`.
        tokens: T, the length of a sequence in the model. The tokens that exceed the number of
            patches are the prefix. `None`: the prefix is what `PrefixTokens` adds.

    Raises:
        ValueError: if the model has no `PatchEmbed`, if it has several grids, or if `tokens` is
            smaller than the number of patches.

    Example:
        >>> from keras_mixers import ViT
        >>> token_grid(ViT("Ti/16", input_shape=(32, 48, 3), depth=1))
        TokenGrid(rows=2, columns=3, patch_size=(16, 16), num_prefix=1)
    """
    grids = {
        name: (patch_grid(node.input_tensors[0].shape[1:3], size), size)
        for name, node in find_layers(model, PatchEmbed).items()
        for size in [node.operation.patch_size]
    }
    if len(set(grids.values())) > 1:
        raise ValueError(
            f"`model` must have one grid of patches. Received: '{model.name}' with"
            f" {', '.join(f'{name}: {grid}' for name, (grid, _) in grids.items())}"
        )
    (rows, columns), patch_size = next(iter(grids.values()))
    if tokens is None:
        layers = [node.operation for node in layer_calls(model).values()]
        tokens = rows * columns
        tokens += sum(layer.num_prefix for layer in layers if isinstance(layer, PrefixTokens))
    num_prefix = arguments.integer("tokens", tokens) - rows * columns
    if num_prefix < 0:
        raise ValueError(
            f"`model` must keep one token for each of its {rows} x {columns} patches. Received:"
            f" '{model.name}', which has sequences of {tokens} tokens"
        )
    return TokenGrid(rows, columns, patch_size, num_prefix)


def check_one_stream(model):
    """Raise a ValueError unless the model has exactly one `PatchEmbed`."""
    stems = find_layers(model, PatchEmbed)
    if len(stems) > 1:
        raise ValueError(
            "`model` must have one stream of tokens, which begins at one PatchEmbed. Received:"
            f" '{model.name}' with {', '.join(stems)}"
        )


def grid_of(model, node):
    """The grid of the sequence `(N, T, D)` that a call receives."""
    return token_grid(model, node.input_tensors[0].shape[1])


def prefix_names(model, count):
    """Names of the `count` prefix tokens: "token 0", ... if `PrefixTokens` did not add them all."""
    names = []
    for node in layer_calls(model).values():
        tokens = node.operation
        if isinstance(tokens, PrefixTokens):
            names += ["class token"] * tokens.class_token
            names += ["distillation token"] * tokens.distillation_token
            names += [f"register {i}" for i in range(tokens.num_registers)]
    return names if len(names) == count else [f"token {i}" for i in range(count)]
