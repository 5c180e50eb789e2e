"""Fit an array of the file to a weight of another size, by one function for each kind of role."""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from keras_mixers.weights import resize
from keras_mixers.weights.context import PREFIX, times
from keras_mixers.weights.positions import MOST_TOKENS, plan_positions
from keras_mixers.weights.rules import role_pattern

# Pixels per side of a patch, and channels. Larger patch kernels are not changed, because the
# pseudo-inverse could take all memory.
MOST_PIXELS = 64


@dataclasses.dataclass(frozen=True)
class Change:
    """How an array of the file becomes one of the model's size.

    Attributes:
        words: the change as text for a report.
        apply: array in our layout with the file's size -> array with the weight's shape.
        exact: whether the model computes the same as the original. An exact change does not
            need `adapt=True`.
    """

    words: str
    apply: Callable
    exact: bool = False


def can_change(role):
    """Whether an array for a role may have another size than the weight; it is one array then."""
    return role_pattern(role)[0] in ADAPTATIONS


def find_change(weight, shape, context):
    """The `Change` that fits an array to a weight, or None if it needs none or cannot fit.

    Args:
        weight: the `WeightRole` to fill, whose role `can_change`.
        shape: the shape of the file's array in our layout.
        context: a `Context`.
    """
    pattern, _ = role_pattern(weight.role)
    return ADAPTATIONS[pattern](weight, shape, context)


def positions(weight, shape, context):
    """Change the grid, the prefix tokens that have positions, or both."""
    plan = plan_positions(context)
    return Change(plan.words, plan.apply, plan.exact) if plan and plan.needed else None


def prefix_token(weight, shape, context):
    """Add the token's position to the token if the model has no positions for prefix tokens.

    The blocks receive the same sum. Source: big_vision does so for the class token when it reads
    older files.
    """
    plan = plan_positions(context)
    table, part = context.entry("positions"), context.prefix_slices.get(weight.role)
    if not (plan and plan.prefix == "fold" and weight.shape == shape):
        return None
    if part.stop > plan.old_prefix:
        return None  # because this token has no position in the file
    return Change(
        "position added to the token",
        lambda token: token + np.asarray(table.read()[:, part], "float32"),
        exact=True,
    )


def patch_kernel(weight, shape, context):
    """Change the number of channels, the patch size, or both."""
    if len(shape) != 4 or shape[-1] != weight.shape[-1]:
        return None
    *new_patch, new_channels, _ = weight.shape
    *old_patch, old_channels, _ = shape
    if max(*old_patch, *new_patch, old_channels) > MOST_PIXELS:
        return None
    steps = []
    if new_channels != old_channels:
        step = functools.partial(resize.channels, count=new_channels)
        steps.append((f"from {old_channels} channels to {new_channels}", step))
    if new_patch != old_patch:
        step = functools.partial(resize.patch_kernel, patch_size=new_patch)
        sizes = f"from {times(old_patch)} pixels to {times(new_patch)}"
        steps.append((f"{sizes} by pseudo-inverse", step))
    if not steps:
        return None

    def apply(kernel):
        for _, step in steps:
            kernel = step(kernel)
        return kernel

    return Change(", ".join(words for words, _ in steps), apply)


def token_weight(weight, shape, context, axes, sums=False):
    """Resize a weight that has one step for each token, which is an approximation.

    Args:
        weight: the `WeightRole` to fill.
        shape: the shape of the file's array in our layout.
        context: a `Context`.
        axes: the axes that have one step for each token.
        sums: whether the layer sums over the first of them. Then the weights are scaled, because a
            sum over more tokens would be larger.
    """
    counts = {shape[axis] for axis in axes}
    if len(counts) > 1 or max(counts) > MOST_TOKENS:
        return None
    (count,) = counts
    old, new = context.grid_of(count), context.backbone.grid
    others = [np.delete(size, axes).tolist() for size in (shape, weight.shape)]
    if old is None or old == new or others[0] != others[1]:
        return None

    def apply(array):
        for axis in axes:
            array = resize.across_tokens(array, axis, old, new)
        return array * (count / (new[0] * new[1])) if sums else array

    return Change(f"from {times(old)} tokens to {times(new)} (approximate)", apply)


# {role: (weight, shape, context) -> Change or None}. The bias of token_mixing.fc1 is not here,
# because it does not depend on the number of tokens.
ADAPTATIONS = {
    "positions": positions,
    **dict.fromkeys(PREFIX, prefix_token),
    "patch_embed.kernel": patch_kernel,
    "blocks.{i}.token_mixing.fc1.kernel": functools.partial(token_weight, axes=(0,), sums=True),
    "blocks.{i}.token_mixing.fc2.kernel": functools.partial(token_weight, axes=(1,)),
    "blocks.{i}.token_mixing.fc2.bias": functools.partial(token_weight, axes=(0,)),
    "blocks.{i}.spatial_gating.spatial.kernel": functools.partial(
        token_weight, axes=(0, 1), sums=True
    ),
    "blocks.{i}.spatial_gating.spatial.bias": functools.partial(token_weight, axes=(0,)),
}
