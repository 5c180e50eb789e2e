"""The names of ConvMixer's authors, which are the numbers of a flat torch Sequential."""

import re

from keras_mixers.weights.formats import timm
from keras_mixers.weights.rules import Format, by_name


def as_timm(entries):
    """Replace the numbers by timm's names.

    The stem has numbers 0 and 2, the blocks have 3 and higher, the head has the last number.
    """
    residuals = (re.match(r"(\d+)\.0\.fn\.", key) for key in entries)
    blocks = {int(found[1]) for found in residuals if found}

    def renamed(key):
        found = re.fullmatch(r"(\d+)\.(.+)", key)
        if not found:
            return key
        number, rest = int(found[1]), found[2]
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
        r"\d+\.0\.fn\.",
        as_timm,
        timm.ignorable,
    ),
)
