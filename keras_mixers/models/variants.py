"""Looking up a published variant in a family's table."""

import copy
import types

from keras_mixers import arguments


def published(table, variant, **overrides):
    """A variant's row with everything that is not `None` in `overrides` put in its place."""
    arguments.choice("variant", variant, table)
    given = {name: value for name, value in overrides.items() if value is not None}
    return types.SimpleNamespace(**{**table[variant], **given})


def variants(family):
    """The published variants of a family: `{name: {argument: value}}`.

    Args:
        family: `"ViT"`, `"MLPMixer"` or `"ConvMixer"`.

    Raises:
        ValueError: there is no such family.

    Example:
        >>> variants("MLPMixer")["S/32"]["hidden_dim"]
        512
    """
    from keras_mixers.models import conv_mixer, mlp_mixer, vit

    tables = {
        "ViT": vit.VARIANTS,
        "MLPMixer": mlp_mixer.VARIANTS,
        "ConvMixer": conv_mixer.VARIANTS,
    }
    return copy.deepcopy(tables[arguments.choice("family", family, tables)])
