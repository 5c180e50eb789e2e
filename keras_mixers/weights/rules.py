"""A format: the keys of each role in a file, and the transforms in both directions."""

import dataclasses
import re
from collections.abc import Callable

import numpy as np

from keras_mixers.arguments import shown


@dataclasses.dataclass(frozen=True)
class Transform:
    """How the arrays of a file become one array of a model, and back.

    The two functions are inverses. Both receive the `WeightRole`, because its layer knows facts
    that shapes do not show, such as the number of heads.

    Attributes:
        to_model: (arrays, weight) -> array.
        to_file: (array, weight) -> arrays.
    """

    to_model: Callable
    to_file: Callable

    def expected_shapes(self, weight):
        """The shapes that a file's arrays must have to fill a weight."""
        array = np.broadcast_to(np.float32(0), weight.shape)  # takes no memory
        return [array.shape for array in self.to_file(array, weight)]


def permuted(*axes):
    """Transpose one array; `axes` is the order from the file to the model."""
    back = tuple(np.argsort(axes))
    return Transform(
        lambda arrays, _: arrays[0].transpose(axes), lambda array, _: [array.transpose(back)]
    )


same = Transform(lambda arrays, _: arrays[0], lambda array, _: [array])
linear = permuted(1, 0)  # (out, in) -> (in, out)
conv = permuted(2, 3, 1, 0)  # (out, in, h, w) -> (h, w, in, out)
depthwise = permuted(2, 3, 0, 1)  # (channels, 1, h, w) -> (h, w, channels, 1)


def head_shape(weight):
    """(H, d): the number of heads and their width in the attention layer of a weight."""
    layer = weight.layer
    if hasattr(layer, "head_shape"):
        return layer.head_shape
    return layer.num_heads, layer.probe.shape[-1] // layer.num_heads


def split_heads(count):
    """Fuse a file's `count` kernels (D, H, d) into (D, count H d), or biases (H, d) likewise."""

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
    """Transform `count` arrays each by `transform` and concatenate them on the last axis."""
    return Transform(
        lambda arrays, weight: np.concatenate(
            [transform.to_model([array], weight) for array in arrays], axis=-1
        ),
        lambda array, weight: [
            transform.to_file(part, weight)[0] for part in np.split(array, count, axis=-1)
        ],
    )


def by_name(pairs):
    """`{name: entry}` of (name, entry) pairs.

    Raises:
        ValueError: if two keys of a file get the same name.
    """
    found = {}
    for name, entry in pairs:
        if name in found:
            raise ValueError(
                f"`source` must name each weight once. Received: {shown(found[name].key)} and"
                f" {shown(entry.key)}, which mean the same weight"
            )
        found[name] = entry
    return found


@dataclasses.dataclass(frozen=True)
class Rule:
    """Where the weight of one role is in a file.

    Attributes:
        role: the role, with `{i}` for the number of the block.
        keys: the keys of the file's arrays, also with `{i}`.
        transform: how these arrays become the weight.
    """

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
    """A `Rule` for one key or several."""
    return Rule(role, (keys,) if isinstance(keys, str) else tuple(keys), transform)


def pairs(role, key, names, kernel=None):
    """Rules for the weights of one layer.

    Args:
        role: the role of the layer.
        key: the key of the layer in the file.
        names: `{weight's name in the model: its name in the file}`.
        kernel: the kernel's transform; other weights are the same on both sides.
    """
    return [
        rule(f"{role}.{name}", f"{key}.{in_file}", kernel if kernel and name == "kernel" else same)
        for name, in_file in names.items()
    ]


@dataclasses.dataclass(frozen=True)
class Format:
    """One way of naming weights.

    Attributes:
        name: for reports and errors.
        mixers: the roles of the token mixers that the format has names for.
        rules: one for each role that the format has a name for.
        mark: a regular expression that matches the beginning of a key in every file of this format,
            and of no key in files of other formats.
        normalise: `{key: Entry}` -> `{key as the rules spell it: Entry}`.
        ignorable: key -> reason if its array is not a weight of the model, else None.
        positions: the method by which the original code resizes positions.
        no_role: the reason why a weight without a role keeps its values.
    """

    name: str
    mixers: frozenset
    rules: tuple
    mark: str
    normalise: Callable = lambda entries: entries
    ignorable: Callable = lambda key: None
    positions: str = "bicubic_antialias"
    no_role: str = "the layer has no role in published files"

    def prefix(self, key):
        """The text before a name that only this format has: `""`, or text that ends with a dot.

        None if there is no such name in the key.
        """
        found = re.search(rf"(?:^|\.)(?={self.mark})", key)
        return key[: found.end()] if found else None

    def recognise(self, keys):
        """Whether a file with these keys has this format."""
        return any(self.prefix(key) == "" for key in keys)

    def for_role(self, role):
        """(keys, transform) of a role, or None if the format has no name for it."""
        pattern, block = role_pattern(role)
        for each in self.rules:
            if each.role == pattern:
                return tuple(key.replace("{i}", block) for key in each.keys), each.transform
        return None
