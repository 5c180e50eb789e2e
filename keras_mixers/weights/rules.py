"""What a format is: for each role the key it has there, and how an array crosses over and back."""

import dataclasses
import re
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class Transform:
    """How the arrays of a format become one of ours, and back: two inverse functions.

    Both get the weight, whose layer knows what a shape alone does not, such as the number of heads.
    """

    to_model: Callable  # (arrays, weight) -> array
    to_file: Callable  # (array, weight) -> arrays

    def expected_shapes(self, weight):
        """The shapes their arrays must have to fill a weight."""
        nothing = np.broadcast_to(np.float32(0), weight.shape)  # costs no memory
        return [array.shape for array in self.to_file(nothing, weight)]


def permuted(*axes):
    """One array with its axes in another order; `axes` lead from theirs to ours."""
    back = tuple(np.argsort(axes))
    return Transform(
        lambda arrays, _: arrays[0].transpose(axes), lambda array, _: [array.transpose(back)]
    )


same = Transform(lambda arrays, _: arrays[0], lambda array, _: [array])
linear = permuted(1, 0)  # (out, in) -> (in, out)
conv = permuted(2, 3, 1, 0)  # (out, in, h, w) -> (h, w, in, out)
depthwise = permuted(2, 3, 0, 1)  # (channels, 1, h, w) -> (h, w, channels, 1)


def head_shape(weight):
    """(heads, width of a head) of the attention a weight is in."""
    layer = weight.layer
    if hasattr(layer, "head_shape"):
        return layer.head_shape
    return layer.num_heads, layer.probe.shape[-1] // layer.num_heads


def split_heads(count):
    """`count` kernels (D, H, d) or biases (H, d) -> one fused (D, count H d) or (count H d,)."""

    def to_model(arrays, _):
        lead = arrays[0].shape[:-2]
        return np.concatenate([array.reshape(*lead, -1) for array in arrays], axis=-1)

    def to_file(array, weight):
        parts = np.split(array, count, axis=-1)
        return [part.reshape(*array.shape[:-1], *head_shape(weight)) for part in parts]

    return Transform(to_model, to_file)


joined_heads = Transform(  # (H, d, D) -> (H d, D)
    lambda arrays, _: arrays[0].reshape(-1, arrays[0].shape[-1]),
    lambda array, weight: [array.reshape(*head_shape(weight), array.shape[-1])],
)


def stacked(count, transform):
    """`count` arrays, each crossing by `transform`, side by side on our last axis."""
    return Transform(
        lambda arrays, weight: np.concatenate(
            [transform.to_model([a], weight) for a in arrays], axis=-1
        ),
        lambda array, weight: [
            transform.to_file(part, weight)[0] for part in np.split(array, count, axis=-1)
        ],
    )


def by_name(pairs):
    """`{name: entry}`; two keys of a file that mean the same are refused."""
    found = {}
    for name, entry in pairs:
        if name in found:
            raise ValueError(
                f"`source` must name each weight once. Received: {found[name].key!r} and"
                f" {entry.key!r}, which mean the same"
            )
        found[name] = entry
    return found


@dataclasses.dataclass(frozen=True)
class Rule:
    """A role of ours, `{i}` for the block, the format's keys for it, and how they cross."""

    role: str
    keys: tuple
    transform: Transform


def role_pattern(role):
    """`"blocks.3.norm1.gamma"` -> `("blocks.{i}.norm1.gamma", "3")`."""
    if not role.startswith("blocks."):
        return role, ""
    _, block, rest = role.split(".", 2)
    return f"blocks.{{i}}.{rest}", block


def rule(role, keys, transform=same):
    """A `Rule`, for one key or several."""
    return Rule(role, (keys,) if isinstance(keys, str) else tuple(keys), transform)


def pairs(role, key, names, kernel=None):
    """Rules for the weights of one layer: `{our name: their name}`, the kernel by `kernel`."""
    return [
        rule(f"{role}.{ours}", f"{key}.{theirs}", kernel if kernel and ours == "kernel" else same)
        for ours, theirs in names.items()
    ]


@dataclasses.dataclass(frozen=True)
class Format:
    """A way of naming weights.

    Attributes:
        name: for reports and errors.
        mixers: the kinds of block it has names for.
        rules: one for each role it has a name for.
        mark: a pattern that some key of every such file matches, and none of another format.
        normalise: `{key: Entry}` as `{the key that the rules use: Entry}`.
        ignorable: `key -> reason` for keys that are no weights of the model, or None.
        positions: how its origin resizes positions.
    """

    name: str
    mixers: frozenset
    rules: tuple
    mark: str
    normalise: Callable = lambda entries: entries
    ignorable: Callable = lambda key: None
    positions: str = "bicubic_antialias"

    def recognise(self, keys):
        """Whether a set of keys is this format's."""
        return any(re.search(self.mark, key) for key in keys)

    def for_role(self, role):
        """(keys, transform) of a role, or None where the format has no name for it."""
        pattern, block = role_pattern(role)
        for each in self.rules:
            if each.role == pattern:
                return tuple(key.replace("{i}", block) for key in each.keys), each.transform
        return None
