"""The architectures that published names stand for: a builder, a variant and arguments."""

import csv
import dataclasses
import functools
import json
import pathlib
from typing import Any

FILE = pathlib.Path(__file__).with_name("architectures.csv")
DEFAULT_SIZE = 224  # pixels, of the builders


@dataclasses.dataclass(frozen=True)
class PublishedArchitecture:
    """What a name without its tag stands for.

    Attributes:
        name: timm's name, such as `"vit_small_patch14_dinov2"`.
        family: the builder, `"ViT"`, `"MLPMixer"` or `"ConvMixer"`.
        variant: the row of the builder's table.
        size: height and width of the images, in pixels.
        arguments: the builder's arguments that differ from its row and its defaults.
    """

    name: str
    family: str
    variant: str
    size: int
    arguments: dict[str, Any]


@functools.cache
def architectures():
    """All architectures: `{name: PublishedArchitecture}`."""
    with FILE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {row["architecture"]: architecture(row) for row in rows}


def architecture(row):
    """The `PublishedArchitecture` of a row of the file."""
    size = int(row["size"])
    given = json.loads(row["arguments"] or "{}")
    arguments = {
        name: tuple(value) if isinstance(value, list) else value for name, value in given.items()
    }
    if size != DEFAULT_SIZE:
        arguments["input_shape"] = (size, size, 3)
    return PublishedArchitecture(
        row["architecture"], row["family"], row["variant"], size, arguments
    )
