"""The published tables of all families."""

import copy

from keras_mixers import arguments
from keras_mixers.models import conv_mixer, mlp_mixer, vit

TABLES = {
    "ViT": vit.VARIANTS,
    "MLPMixer": mlp_mixer.VARIANTS,
    "ConvMixer": conv_mixer.VARIANTS,
}


def variants(family: str) -> dict[str, dict]:
    """The published variants of a family: `{name: {argument: value}}`.

    Args:
        family: `"ViT"`, `"MLPMixer"` or `"ConvMixer"`.

    Raises:
        ValueError: there is no such family.

    Example:
        >>> variants("MLPMixer")["S/32"]["hidden_dim"]
        512
    """
    return copy.deepcopy(TABLES[arguments.choice("family", family, TABLES)])
