"""The two sides of a load: the model's weights by role, and the file's arrays by name."""

import dataclasses
import functools
import math

from keras_mixers.weights.entries import Entry
from keras_mixers.weights.roles import Backbone
from keras_mixers.weights.rules import Format, Rule, key_pattern, role_pattern
from keras_mixers.weights.transforms import zeros

ABSENT = "zero, because the original has no such bias"

# The roles of the prefix tokens, in the order of the token sequence.
PREFIX = ("tokens.class", "tokens.distillation", "tokens.registers")


@dataclasses.dataclass(frozen=True)
class Context:
    """The facts about the model and the file that one load needs.

    Attributes:
        backbone: the model's weights by role.
        named: the file's arrays, `{key as the format's rules spell it: Entry}`.
        form: the format of the file.
        method: how to resize positions.
        adapts: whether the caller allows changes that are not exact.
        file_grid: (rows, columns) of the patches if the file states them, else None.
    """

    backbone: Backbone
    named: dict[str, Entry]
    form: Format
    method: str
    adapts: bool
    file_grid: tuple[int, int] | None

    def rule(self, role):
        """The `Rule` by which the file has a role, or None if the format has no name for it.

        If the file has all keys of no rule, it is the rule of which the file has the most keys.
        """
        if self.is_absent(role):
            return Rule(role, (), zeros, ABSENT)
        rules = self.form.for_role(role)
        return max(rules, key=lambda rule: share(rule.keys, self.named), default=None)

    def is_absent(self, role):
        """Whether a role is a bias that the original lacks: no block of the file has it."""
        pattern, _ = role_pattern(role)
        if pattern not in self.form.optional:
            return False
        keys = {key for rule in self.form.rules if rule.role == pattern for key in rule.keys}
        return not keys & self.patterns

    @functools.cached_property
    def patterns(self):
        """The keys of the file with `{i}` for the number of the block."""
        return {key_pattern(key) for key in self.named}

    def entry(self, role):
        """The file's entry for a role that has one key, or None."""
        found = self.rule(role)
        return self.named.get(found.keys[0]) if found and found.keys else None

    def has_layer(self, role):
        """Whether the file has the kernel or the bias of a layer."""
        return bool(self.entry(f"{role}.kernel") or self.entry(f"{role}.bias"))

    def grid_of(self, count):
        """(rows, columns) of the file's `count` patches, or None if they are unknown.

        If the file states its grid, no other grid is right. If it does not, the choices are a
        square and the model's grid, in this order with `adapt` and in the reverse order without it.

        Raises:
            ValueError: if the file states a grid that does not have `count` patches.
        """
        rows, columns = self.backbone.grid
        if self.file_grid and math.prod(self.file_grid) != count:
            raise ValueError(
                "`source` must have as many tokens as the grid that it states. Received: a grid of"
                f" {times(self.file_grid)} and weights for {count} tokens"
            )
        if self.file_grid:
            return self.file_grid
        if count == rows * columns and not (self.adapts and square(count)):
            return rows, columns
        return square(count)

    @property
    def prefix_slices(self):
        """`{role: slice}`: where each prefix token of the file lies in its token sequence."""
        slices, start = {}, 0
        for role in PREFIX:
            entry = self.entry(role)
            if entry and len(entry.shape) == 3 and entry.shape[0] == 1:
                slices[role] = slice(start, start + entry.shape[1])
                start += entry.shape[1]
        return slices


def share(keys, found):
    """The share of some keys that were found."""
    return sum(key in found for key in keys) / len(keys)


def square(count):
    """(side, side) if `count` patches form a square, else None."""
    side = math.isqrt(count)
    return (side, side) if side * side == count else None


def times(sizes):
    """`"4 x 6"` for `(4, 6)`."""
    return " x ".join(map(str, sizes))
