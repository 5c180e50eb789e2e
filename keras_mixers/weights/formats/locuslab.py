"""The names of ConvMixer's authors: a flat torch Sequential, numbered."""

import re

from keras_mixers.weights.formats import timm
from keras_mixers.weights.rules import Format, by_name


def as_timm(entries):
    """Numbers as timm's names: 0 and 2 the stem, 3 and on the blocks, the last the head."""
    entries = timm.unwrapped(entries)
    blocks = {int(key.split(".")[0]) for key in entries if ".fn." in key}

    def renamed(key):
        number, rest = re.fullmatch(r"(\d+)\.(.+)", key).groups() if key[0].isdigit() else (-1, key)
        number = int(number)
        if number in (0, 2):
            return f"stem.{key}"
        if number in blocks:
            return f"blocks.{number - 3}.{rest}"
        return f"head.{rest}" if number == max(blocks) + 3 else key

    return by_name((renamed(key), entry) for key, entry in entries.items())


FORMATS = (
    Format(
        "locuslab ConvMixer",
        frozenset({"conv_mixer"}),
        timm.CONV_MIXER,
        r"^(module\.)?\d+\.0\.fn\.",
        as_timm,
        timm.ignorable,
    ),
)
