"""A row of a family's published table, with what the caller would have otherwise."""

import types

from keras_mixers import arguments


def published(table, variant, **overrides):
    """A variant's row with everything that is not `None` in `overrides` put in its place."""
    arguments.choice("variant", variant, table)
    given = {name: value for name, value in overrides.items() if value is not None}
    return types.SimpleNamespace(**{**table[variant], **given})
