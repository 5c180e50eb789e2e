"""What can be done about an array of another size: the change, and whether it is exact."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from keras_mixers.weights import resize

PREFIX = ("tokens.class", "tokens.distillation", "tokens.registers")
# What a file may declare and still be resized: above any published size, and small to compute.
MOST_TOKENS = 2**16
MOST_PIXELS = 64  # of a patch's side


@dataclasses.dataclass(frozen=True)
class Change:
    """How an array of the file's size becomes one of the model's.

    Attributes:
        what: in words, for the report.
        apply: our array of their size -> one of the weight's shape.
        exact: whether the model then computes what the original did; such need no asking.
    """

    what: str
    apply: Callable
    exact: bool = False


def change(weight, array_shape, context):
    """The `Change` that fits an array into a weight, or None where there is none.

    Args:
        weight: where it goes.
        array_shape: the file's, in our layout.
        context: a `Context`.
    """
    if weight.role == "positions":
        return positions(weight, array_shape, context)
    if weight.role in PREFIX and context.folds and weight.shape == array_shape:
        return folded(weight, context)
    if weight.role == "patch_embed.kernel":
        return patch_kernel(weight, array_shape)
    if ".token_mixing.fc" in weight.role:
        return token_kernel(weight, array_shape, context)
    return None


@dataclasses.dataclass(frozen=True)
class Context:
    """The two sides of a load: the model's backbone, and the file's entries by normal name."""

    backbone: object
    named: dict
    form: object
    method: str
    adapts: bool  # whether the caller asked for it
    file_grid: tuple | None  # (rows, columns) where the file says so

    def entry(self, role):
        """The file's entry for a role that has one key, or None."""
        found = self.form.for_role(role)
        return self.named.get(found[0][0]) if found else None

    def has(self, role):
        """Whether the file has any weight of a layer."""
        return bool(self.entry(f"{role}.kernel") or self.entry(f"{role}.bias"))

    def grid_of(self, count):
        """(rows, columns) of so many patches of the file: what it says, else a square, or None.

        Where nothing is to be adapted the file's grid is taken to be the model's.
        """
        mine = self.backbone.grid
        if self.file_grid and self.file_grid[0] * self.file_grid[1] == count:
            return self.file_grid
        if count == mine[0] * mine[1] and not (self.adapts and square(count)):
            return mine
        return square(count)

    @property
    def prefix_places(self):
        """`{role: (first, end)}`: where each of the file's prefix tokens stands in its sequence."""
        places, end = {}, 0
        for role in PREFIX:
            entry = self.entry(role)
            if entry and len(entry.shape) == 3:
                places[role] = (end, end + entry.shape[1])
                end += entry.shape[1]
        return places

    @property
    def file_prefix(self):
        """How many of the file's positions stand for prefix tokens, or None where unclear."""
        tokens = self.entry("positions").shape[-2]
        prefix = max((end for _, end in self.prefix_places.values()), default=0)
        rows, columns = self.backbone.grid
        for fits in (lambda count: count == rows * columns, square):
            for candidate in (prefix, 0):
                if tokens > candidate and fits(tokens - candidate):
                    return candidate
        return None

    @property
    def folds(self):
        """Whether prefix tokens must take their positions with them: the model gives them none."""
        layer, entry = self.backbone.positions, self.entry("positions")
        if not (layer and entry and self.prefix_places) or len(entry.shape) != 3:
            return False
        here = all(role in self.backbone.roles for role in self.prefix_places)
        return here and layer.num_prefix == 0 and bool(self.file_prefix)


def square(count):
    """(side, side) of a square of so many patches, or None."""
    side = math.isqrt(count)
    return (side, side) if side * side == count else None


def folded(weight, context):
    """A prefix token with the position that the file keeps apart: what the blocks see is the same.

    Source: big_vision does so for the class token when it reads older files.
    """
    table = context.entry("positions")
    first, end = context.prefix_places[weight.role]
    return Change(
        "its position added",
        lambda token: token + np.asarray(table.read()[:, first:end], "float32"),
        exact=True,
    )


def positions(weight, shape, context):
    """Another grid, or the prefix tokens with positions on one side and without on the other."""
    layer, theirs = weight.layer, context.file_prefix
    if len(shape) != 3 or shape[-1] != weight.shape[-1] or theirs is None:
        return None
    old_count, mine = shape[1] - theirs, layer.num_prefix
    old_grid = context.grid_of(old_count)
    if old_grid is None or old_count > MOST_TOKENS or (mine != theirs and mine and theirs):
        return None
    done, exact = [], True
    if theirs and not mine:
        exact = context.folds
        done.append(
            "positions of prefix tokens added to them"
            if exact
            else "positions of prefix tokens left out"
        )
    elif mine and not theirs:
        done.append("positions of zero for prefix tokens")
    if old_grid != layer.grid:
        done.append(f"resized from {times(old_grid)} to {times(layer.grid)} ({context.method})")
        exact = False
    if not done:
        return None

    def apply(table):
        prefix, grid = table[0, :theirs], table[0, theirs:]
        if old_grid != layer.grid:
            grid = resize.positions(grid.reshape(*old_grid, -1), layer.grid, context.method)
            grid = grid.reshape(-1, table.shape[-1])
        if mine != theirs:
            prefix = np.zeros((mine, grid.shape[-1]), "float32")
        return np.concatenate([prefix, grid])[None]

    return Change(", ".join(done), apply, exact)


def times(sizes):
    """`4 x 6`."""
    return " x ".join(map(str, sizes))


def patch_kernel(weight, shape):
    """Another number of channels, another patch size, or both."""
    if len(shape) != 4 or shape[-1] != weight.shape[-1]:
        return None
    *new_patch, new_channels, _ = weight.shape
    *old_patch, old_channels, _ = shape
    if max(*old_patch, *new_patch, old_channels) > MOST_PIXELS:
        return None
    done = []
    if new_channels != old_channels:
        done.append(f"from {old_channels} channels to {new_channels}")
    if new_patch != old_patch:
        done.append(f"from {times(old_patch)} pixels to {times(new_patch)} by pseudo-inverse")
    if not done:
        return None

    def apply(kernel):
        if new_channels != old_channels:
            kernel = resize.channels(kernel, new_channels)
        if new_patch != old_patch:
            kernel = resize.patch_kernel(kernel, new_patch)
        return kernel

    return Change(", ".join(done), apply)


def token_kernel(weight, shape, context):
    """A Mixer's weights across the tokens of another grid: an approximation."""
    if weight.role.endswith("fc1.bias") or len(shape) != len(weight.shape):
        return None
    axis = 1 if weight.role.endswith("fc2.kernel") else 0
    old, new = context.grid_of(shape[axis]), context.backbone.grid
    hidden_fits = len(shape) == 1 or shape[1 - axis] == weight.shape[1 - axis]
    if old is None or old == new or not hidden_fits or shape[axis] > MOST_TOKENS:
        return None
    # A sum over more tokens would be larger by as much: the inputs' weights shrink.
    scale = shape[axis] / (new[0] * new[1]) if weight.role.endswith("fc1.kernel") else 1.0
    return Change(
        f"from {times(old)} tokens to {times(new)} (approximate)",
        lambda array: scale * resize.across_tokens(array, axis, old, new),
    )
