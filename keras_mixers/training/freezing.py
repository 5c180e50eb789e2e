"""Freeze the first layers of a backbone for fine-tuning, by Keras's own `trainable`."""

import math
import re

from keras_mixers import arguments
from keras_mixers.graph import graph_layers, is_functional
from keras_mixers.weights.roles import index_weights

HEAD = ("head", "head_distillation", "pre_logits")
AFTER_BLOCKS = ("norm", "fc_norm", "pool")


def number_or_all(name, value):
    """A number of blocks, or `"all"`."""
    if value == "all":
        return value
    if isinstance(value, str):
        received = arguments.received(**{name: value})
        raise ValueError(f"`{name}` must be None, 'all' or a number of blocks. {received}")
    return arguments.count(name, value)


def freeze(model, frozen_blocks):
    """Set `trainable` of each layer that has a role in the backbone or the head.

    A frozen model around the backbone is unfrozen first, because Keras asks it first.

    Args:
        model: a functional model with a `PatchEmbed`; the backbone may be a nested model.
        frozen_blocks: the stem and this number of blocks are frozen, and all else trains; 0 for no
            frozen layer; `"all"` freezes the norm and the pooling after the blocks too.

    Returns:
        Whether a block trains.

    Raises:
        ValueError: if the model has fewer blocks or would have no weights to train.
    """
    index = index_weights(model)
    depth = len(index.mixers)
    if frozen_blocks != "all" and frozen_blocks > depth:
        raise ValueError(
            f"`frozen_blocks` must be 'all' or at most {depth}, the blocks of the model. Received:"
            f" frozen_blocks={frozen_blocks}"
        )
    first = depth + 1 if frozen_blocks == "all" else frozen_blocks or -1
    places = layer_places(model, index, depth)
    mine = {id(layer) for layer, _ in places}
    others = [layer for layer in graph_layers(model) if id(layer) not in mine]
    if all(place < first for _, place in places) and not any(map(has_trainable, others)):
        raise ValueError(
            "`frozen_blocks` must leave a layer to train, such as the head of a model with"
            f" num_classes. Received: frozen_blocks={frozen_blocks!r} for model {model.name!r}"
        )
    set_trainable(model, places, first)
    return first < depth


def set_trainable(model, places, first):
    """Freeze the layers before the place `first`, and unfreeze the others and the models around."""
    for container in containers(model, {id(layer) for layer, _ in places}):
        if not container.trainable:
            container.trainable = True
    for layer, place in places:
        layer.trainable = place >= first


def layer_places(model, index, depth):
    """`[(layer, place)]` for the layers whose weights have a role; see `place_of`."""
    places = {id(weight.variable): place_of(weight.role, depth) for weight in index.roles.values()}
    found = []
    for layer in graph_layers(model):
        inside = [places[id(variable)] for variable in layer.weights if id(variable) in places]
        found += [(layer, min(inside))] if inside else []
    return found


def place_of(role, depth):
    """The place of a weight: -1 in the stem, i in block i, `depth` after the blocks, inf: head."""
    if block := re.match(r"blocks\.(\d+)\.", role):
        return int(block[1])
    part = role.split(".")[0]
    return math.inf if part in HEAD else depth if part in AFTER_BLOCKS else -1


def has_trainable(layer):
    """Whether a layer has a weight that trains."""
    return any(variable.trainable for variable in layer.weights)


def containers(model, layers):
    """Yield the models, nested ones after those around them, that contain some of the layers."""
    if any(id(layer) in layers for layer in graph_layers(model)):
        yield model
        for layer in model.layers:
            if is_functional(layer):
                yield from containers(layer, layers)
