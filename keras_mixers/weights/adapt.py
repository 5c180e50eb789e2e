"""What can be done about an array of another size: the change, and whether it is exact."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from keras_mixers.weights import resize


@dataclasses.dataclass(frozen=True)
class Change:
    """How an array of the file's size becomes one of the model's.

    Attributes:
        what: in words, for the report.
        apply: our array of their size -> one of the slot's shape.
        exact: whether the model then computes what the original did; such need no asking.
    """

    what: str
    apply: Callable
    exact: bool = False


def change(slot, array_shape, context):
    """The `Change` that fits an array into a slot, or None where there is none.

    Args:
        slot: where it goes.
        array_shape: the file's, in our layout.
        context: a `Context`.
    """
    if slot.role == "positions":
        return positions(slot, array_shape, context)
    if slot.role == "patch_embed.kernel":
        return patch_kernel(slot, array_shape)
    if ".token_mixing.fc" in slot.role:
        return token_kernel(slot, array_shape, context)
    return None


@dataclasses.dataclass(frozen=True)
class Context:
    """The two sides of a load: the model's backbone, and the file's entries by normal name."""

    backbone: object
    named: dict
    form: object
    method: str

    def entry(self, role):
        """The file's entry for a role that has one key, or None."""
        found = self.form.for_slot(role)
        return self.named.get(found[0][0]) if found else None

    @property
    def file_prefix(self):
        """How many of the file's positions stand for prefix tokens, or None where unclear."""
        tokens = self.entry("positions").shape[-2]
        kinds = ("tokens.class", "tokens.distillation", "tokens.registers")
        prefix = sum(entry.shape[-2] for entry in map(self.entry, kinds) if entry)
        rows, columns = self.backbone.grid
        for fits in (lambda count: count == rows * columns, square):
            for candidate in (prefix, 0):
                if tokens > candidate and fits(tokens - candidate):
                    return candidate
        return None

    @property
    def folds(self):
        """Whether the class token must take its position with it, as the model gives it none."""
        layer, entry = self.backbone.positions, self.entry("positions")
        if "tokens.class" not in self.backbone.slots or not (layer and entry):
            return False
        return layer.num_prefix == 0 and self.file_prefix == 1


def square(count):
    """The side of a square of so many patches, or None."""
    side = math.isqrt(count)
    return side if side * side == count else None


def positions(slot, shape, context):
    """Another grid, or the prefix tokens with positions on one side and without on the other."""
    layer, theirs = slot.layer, context.file_prefix
    if shape[-1] != slot.shape[-1] or theirs is None:
        return None
    old_count, new_count = shape[1] - theirs, layer.grid[0] * layer.grid[1]
    side, mine = square(old_count), layer.num_prefix
    done, exact = [], True
    if theirs and not mine:
        done.append(
            "the class token's position added to it"
            if context.folds
            else "positions of prefix tokens left out"
        )
        exact = context.folds
    elif mine and not theirs:
        done.append("positions of zero for prefix tokens")
    elif mine != theirs:
        return None
    if old_count != new_count:
        if side is None:
            return None
        done.append(
            f"resized from {side} x {side} to {layer.grid[0]} x {layer.grid[1]} ({context.method})"
        )
        exact = False

    def apply(table):
        prefix, grid = table[0, :theirs], table[0, theirs:]
        if old_count != new_count:
            square_grid = grid.reshape(side, side, -1).astype("float32")
            grid = resize.positions(square_grid, layer.grid, context.method)
            grid = grid.reshape(new_count, -1)
        if mine != theirs:
            prefix = np.zeros((mine, grid.shape[-1]), "float32")
        return np.concatenate([prefix, grid])[None]

    return Change(", ".join(done), apply, exact)


def patch_kernel(slot, shape):
    """Another number of channels, another patch size, or both."""
    if shape[-1] != slot.shape[-1]:
        return None
    *new_patch, new_channels, _ = slot.shape
    *old_patch, old_channels, _ = shape
    done = []
    if new_channels != old_channels:
        done.append(f"from {old_channels} channels to {new_channels}")
    if new_patch != old_patch:
        done.append(
            f"from {old_patch[0]} x {old_patch[1]} pixels to {new_patch[0]} x"
            f" {new_patch[1]} by pseudo-inverse"
        )

    def apply(kernel):
        if new_channels != old_channels:
            kernel = resize.channels(kernel, new_channels)
        if new_patch != old_patch:
            kernel = resize.patch_kernel(kernel, new_patch)
        return kernel

    return Change(", ".join(done), apply)


def token_kernel(slot, shape, context):
    """A Mixer's weights across the tokens of another grid: an approximation."""
    axis = 1 if slot.role.endswith("fc2.kernel") else 0
    hidden = 1 - axis
    if len(shape) > 1 and shape[hidden] != slot.shape[hidden]:
        return None
    old, new = shape[axis], context.backbone.grid
    side = square(old)
    if slot.role.endswith("fc1.bias") or side is None:
        return None
    # A sum over more tokens would be larger by as much: the inputs' weights shrink.
    scale = old / (new[0] * new[1]) if slot.role.endswith("fc1.kernel") else 1.0
    return Change(
        f"from {side} x {side} tokens to {new[0]} x {new[1]} (approximate)",
        lambda array: scale * resize.across_tokens(array, axis, (side, side), new),
    )
