"""Fit position embeddings to another grid or other prefix tokens: a plan, and how to apply it."""

import dataclasses

import numpy as np

from keras_mixers.weights import resize
from keras_mixers.weights.context import square, times

# A larger table is not resized, because this could take all memory.
MOST_TOKENS = 2**16

PREFIX_WORDS = {
    "drop": "positions of prefix tokens dropped",
    "fold": "positions of prefix tokens added to the tokens",
    "zeros": "zero positions for prefix tokens that have none",
}


@dataclasses.dataclass(frozen=True)
class PositionPlan:
    """How the file's table of positions becomes the model's.

    Attributes:
        old_grid: (rows, columns) of the file.
        new_grid: (rows, columns) of the model.
        old_prefix: number of prefix tokens that have a position in the file.
        new_prefix: number of prefix tokens that have a position in the model.
        prefix: what happens to the positions of prefix tokens. `"keep"`: nothing. `"drop"`: they
            are left out. `"fold"`: they are added to the prefix tokens, which have no positions in
            the model. `"zeros"`: the model has more of them, and the others become zero.
        method: how to resize the grid.
    """

    old_grid: tuple[int, int]
    new_grid: tuple[int, int]
    old_prefix: int
    new_prefix: int
    prefix: str
    method: str

    @property
    def resizes(self):
        return self.old_grid != self.new_grid

    @property
    def needed(self):
        """Whether the model's table differs from the file's."""
        return self.resizes or self.prefix != "keep"

    @property
    def exact(self):
        """Whether the model computes the same as the original."""
        return not self.resizes and self.prefix != "drop"

    @property
    def words(self):
        """The plan as text for a report."""
        done = [PREFIX_WORDS[self.prefix]] if self.prefix in PREFIX_WORDS else []
        if self.resizes:
            sizes = f"from {times(self.old_grid)} to {times(self.new_grid)}"
            done.append(f"resized {sizes} ({self.method})")
        return ", ".join(done)

    def apply(self, table):
        """The file's table `(1, T, D)` as the model's."""
        prefix, grid = table[0, : self.old_prefix], table[0, self.old_prefix :]
        if self.resizes:
            grid = resize.positions(grid.reshape(*self.old_grid, -1), self.new_grid, self.method)
            grid = grid.reshape(-1, table.shape[-1])
        if self.prefix in ("drop", "fold"):
            prefix = prefix[:0]
        elif self.prefix == "zeros":
            prefix = np.pad(prefix, ((0, self.new_prefix - self.old_prefix), (0, 0)))
        return np.concatenate([prefix, grid])[None]


def plan_positions(context):
    """The `PositionPlan` of a load, or None if one side has no table or the tables cannot fit."""
    weight, entry = context.backbone.roles.get("positions"), context.entry("positions")
    if not (weight and entry) or len(entry.shape) != 3:
        return None
    tables, tokens, width = entry.shape
    old_prefix = prefix_count(tokens, context)
    if tables != 1 or width != weight.shape[-1] or old_prefix is None:
        return None
    new_grid, new_prefix = weight.layer.grid, weight.layer.num_prefix
    old_grid = context.grid_of(tokens - old_prefix)
    prefix = prefix_change(old_prefix, new_prefix, context)
    if old_grid is None or prefix is None or tokens - old_prefix > MOST_TOKENS:
        return None
    return PositionPlan(old_grid, new_grid, old_prefix, new_prefix, prefix, context.method)


def prefix_count(tokens, context):
    """How many of the file's `tokens` positions belong to prefix tokens, or None if unclear.

    A file has a position for each of its prefix tokens, for its class token or for none of them.
    The right case leaves as many positions as the file's grid has patches; the model's grid, if the
    file states none. If no case does, it leaves a square number.
    """
    slices = context.prefix_slices
    prefix = max((part.stop for part in slices.values()), default=0)
    class_token = slices.get("tokens.class", slice(0, 0)).stop
    rows, columns = context.file_grid or context.backbone.grid
    patches = {count: tokens - count for count in (prefix, class_token, 0) if count < tokens}
    as_in_grid = [count for count, rest in patches.items() if rest == rows * columns]
    as_square = [count for count, rest in patches.items() if square(rest)]
    return next(iter(as_in_grid + as_square), None)


def prefix_change(old_prefix, new_prefix, context):
    """`PositionPlan.prefix`, or None if the prefix positions of both sides cannot match."""
    tokens_in_model = all(role in context.backbone.roles for role in context.prefix_slices)
    if old_prefix == new_prefix:
        return "keep"
    if not new_prefix:
        return "fold" if tokens_in_model else "drop"
    # The first prefix token has the first position on both sides.
    return "zeros" if old_prefix < new_prefix and (tokens_in_model or not old_prefix) else None
