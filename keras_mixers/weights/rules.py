"""A format: the keys of each role in a file, and how their arrays become the weight."""

import dataclasses
import re
from collections.abc import Callable

from keras_mixers.arguments import shown
from keras_mixers.weights.transforms import Transform, same


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
        words: for a report, what the weight has that the file's arrays do not; else empty.
    """

    role: str
    keys: tuple
    transform: Transform
    words: str = ""

    def of_block(self, block):
        """The rule with the number of a block."""
        keys = tuple(key.replace("{i}", block) for key in self.keys)
        return dataclasses.replace(self, role=self.role.replace("{i}", block), keys=keys)


def role_pattern(role):
    """`"blocks.3.norm1.gamma"` -> `("blocks.{i}.norm1.gamma", "3")`."""
    if not role.startswith("blocks."):
        return role, ""
    _, block, rest = role.split(".", 2)
    return f"blocks.{{i}}.{rest}", block


def key_pattern(key):
    """A key with `{i}` for the first of its parts that is a number, else the key."""
    return re.sub(r"(?<![^.])\d+(?![^.])", "{i}", key, count=1)


def rule(role, keys, transform=same, words=""):
    """A `Rule` for one key or several."""
    return Rule(role, (keys,) if isinstance(keys, str) else tuple(keys), transform, words)


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
        rules: at least one for each role that the format has a name for. If a role has several, a
            file has the keys of one of them.
        mark: a regular expression that matches the beginning of a key in every file of this format.
            Files of other formats have no such key, or have a key that `foreign` matches.
        foreign: a regular expression that matches the beginning of no key in files of this format.
            None if no file of another format has a key that `mark` matches.
        normalise: `{key: Entry}` -> `{key as the rules spell it: Entry}`.
        ignorable: key -> reason if its array is not a weight of the model, else None.
        optional: the roles of biases, with `{i}`, that some originals lack. They count as zero.
        positions: the method by which the original code resizes positions.
        no_role: the reason why a weight without a role keeps its values.
        own_rules: backbone -> the rules that come first when its weights are saved.
    """

    name: str
    mixers: frozenset
    rules: tuple
    mark: str
    normalise: Callable = lambda entries: entries
    ignorable: Callable = lambda key: None
    positions: str = "bicubic_antialias"
    no_role: str = "the layer has no role in published files"
    foreign: str | None = None
    optional: frozenset = frozenset()
    own_rules: Callable = lambda backbone: ()

    def prefix(self, key):
        """The text before a name that only this format has: `""`, or text that ends with a dot.

        None if the key does not have such a name.
        """
        found = re.search(rf"(?:^|\.)(?={self.mark})", key)
        return key[: found.end()] if found else None

    def recognise(self, keys):
        """Whether a file with these keys has this format."""
        if self.foreign and any(re.match(self.foreign, key) for key in keys):
            return False
        return any(self.prefix(key) == "" for key in keys)

    def for_role(self, role, first=()):
        """The rules of a role, with the number of its block; empty if it has no name.

        Args:
            role: the role.
            first: rules that come before the format's.
        """
        pattern, block = role_pattern(role)
        return [each.of_block(block) for each in (*first, *self.rules) if each.role == pattern]
