"""Where tokens stand on the image: the grid of patches, and the tokens before them."""

import dataclasses
import numbers

import keras

from keras_mixers import arguments
from keras_mixers.graph import layer_calls
from keras_mixers.layers import PatchEmbed, PrefixTokens
from keras_mixers.layers.patch_embed import patch_grid
from keras_mixers.probe.collect import find_layers


@dataclasses.dataclass(frozen=True)
class TokenGrid:
    """How a sequence of tokens lies over the image: prefix tokens, then patches row by row.

    Attributes:
        rows, columns: of patches.
        patch_size: (height, width) of a patch in pixels, as `PatchEmbed` gets the image.
        num_prefix: how many tokens stand before the patches (class, distillation, registers).
    """

    rows: int
    columns: int
    patch_size: tuple[int, int]
    num_prefix: int = 0

    def patches(self, x):
        """The patches' part of an array, on the grid: `(..., T) -> (..., rows, columns)`."""
        return x[..., self.num_prefix :].reshape(*x.shape[:-1], self.rows, self.columns)

    def token(self, query):
        """The number of the token at `query`, a (row, column) of the grid.

        Raises:
            ValueError: it lies outside.
        """
        is_pair = isinstance(query, (tuple, list)) and len(query) == 2
        if not is_pair or not all(
            isinstance(at, numbers.Integral) and not isinstance(at, bool) and 0 <= at < count
            for at, count in zip(query, (self.rows, self.columns), strict=True)
        ):
            raise ValueError(
                f"`query` must be (row, column) on the grid of {self.rows} x {self.columns}"
                f" patches, counted from 0. Received: query={query!r}"
            )
        row, column = query
        return self.num_prefix + row * self.columns + column


def token_grid(model: keras.Model, tokens: int | None = None) -> TokenGrid:
    """The grid of a model's patches.

    Args:
        model: functional or sequential, with one `PatchEmbed`.
        tokens: T, the length of a sequence in it; what is more than the patches is the prefix.
            `None`: the prefix is what `PrefixTokens` adds.

    Raises:
        ValueError: the model has no `PatchEmbed` or several grids, or a sequence is shorter.

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
            f"`model` must keep its {rows} x {columns} patches apart. Received: '{model.name}',"
            f" which has sequences of {tokens} tokens"
        )
    return TokenGrid(rows, columns, patch_size, num_prefix)


def grid_of(model, node):
    """The grid of the sequence `(N, T, D)` that a call gets."""
    return token_grid(model, node.input_tensors[0].shape[1])


def prefix_names(model, count):
    """What the tokens before the patches are called, where `PrefixTokens` made them."""
    names = []
    for node in layer_calls(model).values():
        tokens = node.operation
        if isinstance(tokens, PrefixTokens):
            names += ["class token"] * tokens.class_token
            names += ["distillation token"] * tokens.distillation_token
            names += [f"register {i}" for i in range(tokens.num_registers)]
    return names if len(names) == count else [f"token {i}" for i in range(count)]
