"""The backbones of a search for fine-tuning: what each is, what it costs, and its weights."""

import collections
import dataclasses
from typing import Any

import keras

from keras_mixers import arguments
from keras_mixers.models import count_flops, create_model
from keras_mixers.models.abstract import abstract_weights
from keras_mixers.models.architecture import image_shape
from keras_mixers.preprocessing import Preprocessing
from keras_mixers.tuning.footprint import Footprint, footprint
from keras_mixers.weights import pretrained

SET_BY_SPACE = {"num_classes"}  # of the arguments of `create_model`
# The most bytes of weights in memory. The backbone that was last used is kept in any case.
CACHED_BYTES = 2**31


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A published architecture with the arguments and weights that the user chose.

    Attributes:
        model: the name that `create_model` takes.
        pretrained: whether its published weights are loaded.
        weights: `{"weights": path}` if the weights are those of a file, else empty.
        arguments: the other arguments of `create_model`.
        preprocessing: how to prepare an image, at the size and with the channels of the input.
        cost: `{"params": ..., "flops": ...}`.
        footprint: the memory of a training step.
    """

    model: str
    pretrained: bool
    weights: dict[str, Any]
    arguments: dict[str, Any]
    preprocessing: Preprocessing
    cost: dict[str, int]
    footprint: Footprint

    def random(self):
        """A model with random weights."""
        return create_model(self.model, pretrained=False, **self.arguments)

    def features(self):
        """A model without a head, with the weights of the file."""
        options = {**self.arguments, **self.weights, "num_classes": 0}
        return create_model(self.model, pretrained=self.pretrained, **options)


def read_backbones(value, input_shape, num_classes, model_arguments):
    """Check the argument `backbones`: `{name: Backbone}`.

    Args:
        value: a name of a model, a list of names, or `{name: arguments}`.
        input_shape: of each model that has no other.
        num_classes: of each model.
        model_arguments: arguments of all models.

    Raises:
        ValueError, TypeError: if a name or an argument is invalid; the message names it.
    """
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        if len(set(value)) < len(value):
            raise ValueError(
                "`backbones` must have each name once. For variations of a model, pass a dict."
                f" {arguments.received(backbones=value)}"
            )
        value = {name: {} for name in value}
    if not isinstance(value, dict) or not value:
        raise TypeError(
            "`backbones` must be a list of names, or a dict, {name: {argument: value}}."
            f" {arguments.received(backbones=value)}"
        )
    found = {}
    for name, given in value.items():
        if not isinstance(given, dict):
            raise TypeError(
                "`backbones` must have a dict of arguments for each name. Received:"
                f" {arguments.shown(name)}: {arguments.shown(given)}"
            )
        common = {"input_shape": input_shape, "num_classes": num_classes, **model_arguments}
        try:
            found[arguments.text("backbones", name)] = read_backbone(name, given, common)
        except (ValueError, TypeError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"`backbones`, {arguments.shown(name)}: {error}") from error
    return found


def read_backbone(name, given, common):
    """Check the arguments of one backbone and count its cost without weights."""
    taken = sorted(SET_BY_SPACE & given.keys())
    if taken:
        raise ValueError(
            "`backbones` must not have arguments that the space sets itself. Received:"
            f" {', '.join(taken)}"
        )
    options = {**common, **given}
    model = arguments.text("model", options.pop("model", name))
    stated = options.pop("preprocessing", None)
    weights = {"weights": options.pop("weights")} if "weights" in options else {}
    load_published = arguments.flag("pretrained", options.pop("pretrained", True)) and not weights
    options["input_shape"] = image_shape("input_shape", options["input_shape"])
    with abstract_weights():
        abstract = create_model(model, pretrained=False, **options)
        cost = {"params": abstract.count_params(), "flops": count_flops(abstract)}
        memory = footprint(abstract)
    return Backbone(
        model,
        load_published,
        weights,
        options,
        fitted(stated or published_preprocessing(model, weights), options["input_shape"]),
        cost,
        memory,
    )


def published_preprocessing(model, weights):
    """The preprocessing of a published checkpoint.

    Raises:
        ValueError: if the weights are not those of a published checkpoint.
    """
    rows = pretrained()
    row = rows.get(model) or next((r for r in rows.values() if r.architecture == model), None)
    if row is None or weights:
        raise ValueError(
            "`preprocessing` must be given for weights that are not in km.pretrained(), as in"
            " {'preprocessing': km.Preprocessing(...)}. Received: none for"
            f" {arguments.shown(weights.get('weights', model))}"
        )
    return row.preprocessing


def fitted(preprocessing, input_shape):
    """A preprocessing for images of this shape. Grey images get as many channels as it has."""
    if not isinstance(preprocessing, Preprocessing):
        raise TypeError(
            "`preprocessing` must be km.Preprocessing(...)."
            f" {arguments.received(preprocessing=preprocessing)}"
        )
    *size, channels = input_shape
    per_channel = {
        name: (value,) * channels
        for name in ("mean", "std")
        if not isinstance(value := getattr(preprocessing, name), tuple)
    }
    found = dataclasses.replace(preprocessing, size=tuple(size), **per_channel)
    found.check_channels(channels)
    return found


class BackboneWeights:
    """The weights of backbones, each read once from its file, the last used ones kept in memory."""

    def __init__(self):
        self.kept = collections.OrderedDict()  # {name: {path of a variable: array}}

    def model_of(self, name, backbone):
        """A new model with the weights of its file and a random head."""
        model = backbone.random()
        if not (backbone.pretrained or backbone.weights):
            return model
        values = self.values_of(name, backbone)
        variables = {variable.path: variable for variable in model.variables}
        for path, value in values.items():
            variables[path].assign(value)
        return model

    def values_of(self, name, backbone):
        """`{path of a variable: array}` for the weights of the backbone's file."""
        if name not in self.kept:
            self.kept[name] = {
                variable.path: keras.ops.convert_to_numpy(variable)
                for variable in backbone.features().weights
            }
        self.kept.move_to_end(name)
        while len(self.kept) > 1 and self.size() > CACHED_BYTES:
            self.kept.popitem(last=False)
        return self.kept[name]

    def size(self):
        """Bytes of the weights in memory."""
        return sum(value.nbytes for values in self.kept.values() for value in values.values())
