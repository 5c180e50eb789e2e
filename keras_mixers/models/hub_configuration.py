"""What the config.json of a repository on the Hugging Face hub says about its model."""

import dataclasses
import json
import pathlib
from typing import Any

from keras_mixers import arguments
from keras_mixers.models.timm_configuration import from_timm
from keras_mixers.models.transformers_configuration import from_transformers
from keras_mixers.weights import hub


@dataclasses.dataclass(frozen=True)
class Selection:
    """What a name selects: a builder, its variant and arguments, and `weights` of the builder."""

    family: str
    variant: str
    arguments: dict[str, Any]
    weights: str | None


def configured(name):
    """The `Selection` of `"hf://owner/name@revision/file"`; downloads its config.json.

    Raises:
        ValueError: if config.json is not the JSON of a model that a builder can make; the message
            names the field.
    """
    repository, revision, _ = hub.parts(name)
    config = read_json(hub.download(repository, "config.json", revision))
    if "architecture" in config:
        return Selection(*from_timm(config), name)
    if "model_type" in config:
        return Selection(*from_transformers(config), name)
    raise ValueError(
        "config.json must state `architecture` (timm) or `model_type` (transformers). Received:"
        f" {arguments.shown(sorted(config))} in the file of {arguments.shown(name)}"
    )


def read_json(path):
    """The object in a JSON file.

    Raises:
        ValueError: if the file holds anything else.
    """
    try:
        content = json.loads(pathlib.Path(path).read_bytes())
    except ValueError as error:
        raise ValueError(f"config.json must be JSON. Received: '{path}': {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"config.json must hold an object. Received: {arguments.shown(content)}")
    return content
