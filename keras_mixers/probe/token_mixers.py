"""Find the calls that mix tokens, or that may mix them.

A layer declares what it mixes by the class attribute `mixes`. Keras's own layers and operations
declare nothing, so those that keep tokens apart are listed here. Everything else may mix tokens.
"""

import math

import keras

from keras_mixers.graph import is_functional, layer_calls
from keras_mixers.layers import MultiHeadSelfAttention, PatchEmbed
from keras_mixers.probe.collect import find_layers, mixer_of
from keras_mixers.probe.token_order import disordered_calls

# These layers compute each token from the same token of their inputs, if the number of tokens does
# not change. At inference dropout and noise do nothing, and BatchNormalization scales channels.
TOKENWISE = {
    keras.layers.Activation,
    keras.layers.ActivityRegularization,
    keras.layers.Add,
    keras.layers.AlphaDropout,
    keras.layers.Average,
    keras.layers.BatchNormalization,
    keras.layers.Dense,
    keras.layers.Dropout,
    keras.layers.ELU,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.Identity,
    keras.layers.LeakyReLU,
    keras.layers.Maximum,
    keras.layers.Minimum,
    keras.layers.Multiply,
    keras.layers.Normalization,
    keras.layers.PReLU,
    keras.layers.ReLU,
    keras.layers.Rescaling,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.Subtract,
}
# These layers normalize over `axis`, which must be the axis of the channels.
NORMS = {
    keras.layers.LayerNormalization,
    keras.layers.RMSNormalization,
    keras.layers.UnitNormalization,
}
# These layers join sequences or channels, or select tokens.
MOVES = {keras.layers.Concatenate, keras.layers.Cropping1D}
# Names of classes, because Keras has no public name for the class of an operation.
TOKENWISE_OPERATIONS = {
    *("Add", "Cast", "Divide", "Multiply", "Negative", "Subtract", "TrueDivide"),
    *("Elu", "Gelu", "LeakyRelu", "Relu", "Sigmoid", "Silu", "Softplus", "Tanh"),
}


def other_token_mixers(model, followed):
    """The calls between the patches and the head that mix tokens, or that may mix them.

    The head begins after the last call that returns tokens.

    Args:
        model: a functional model with a `PatchEmbed`.
        followed: names of calls to leave out.

    Returns:
        `{name: layer}`. For a `Residual` the layer is its mixer.
    """
    calls = list(layer_calls(model).items())
    stem = next(iter(find_layers(model, PatchEmbed)))
    first = [name for name, _ in calls].index(stem) + 1
    last = max(i for i, (_, node) in enumerate(calls) if len(node.output_tensors[0].shape) > 2)
    sides = calls[first - 1][1].output_tensors[0].shape[1:-1]
    between = dict(calls[first : last + 1])
    patches = None if None in sides else math.prod(sides)
    disordered = disordered_calls(between, patches, followed)
    return {
        name: mixer_of(node.operation)
        for name, node in between.items()
        if name in disordered
        or not ((name in followed and computes_attention(node)) or keeps_tokens_apart(node))
    }


def keeps_tokens_apart(node):
    """Whether a call is known to compute each token from that token only."""
    layer = mixer_of(node.operation)
    if not declares_nothing(layer):
        return "tokens" not in layer.mixes
    if is_functional(layer):
        inner = layer_calls(layer).values()
        return all(keeps_tokens_apart(each) and keeps_token_count(each) for each in inner)

    kind = type(layer)  # not isinstance, because a subclass may compute something else
    operation = "" if isinstance(layer, keras.layers.Layer) else kind.__name__
    inputs, output = [x.shape for x in node.input_tensors], node.output_tensors[0].shape
    if kind in TOKENWISE or operation in TOKENWISE_OPERATIONS:
        return all(shape[:-1] == output[:-1] for shape in inputs)
    if kind in NORMS:
        axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
        return {axis % len(output) for axis in axes} == {len(output) - 1}
    if kind is keras.layers.Reshape or operation == "Reshape":
        return inputs[0][-1] == output[-1]
    if operation == "GetItem":  # a slice that keeps the shape can only reverse an axis
        return inputs[0] != output
    return kind in MOVES or operation == "Concatenate"


def keeps_token_count(node):
    """Whether a call returns as many tokens as each of its inputs has."""
    count = node.output_tensors[0].shape[1:-1]
    return all(x.shape[1:-1] == count for x in node.input_tensors)


def computes_attention(node):
    """Whether the attention weights of a call describe its output.

    They may not if a subclass has another `call` and does not declare `mixes`.
    """
    layer = mixer_of(node.operation)
    return type(layer).call is MultiHeadSelfAttention.call or not declares_nothing(layer)


def declares_nothing(layer):
    """Whether a layer does not say what it mixes.

    A custom subclass of a layer of this package may compute something else than that layer, so it
    declares `mixes` itself.
    """
    if "mixes" in vars(layer):
        return False
    owner = next((kind for kind in type(layer).__mro__ if "mixes" in vars(kind)), None)
    return owner is None or (in_package(owner) and not in_package(type(layer)))


def is_custom(layer):
    """Whether a layer is neither of Keras nor of this package."""
    return not type(layer).__module__.startswith("keras.") and not in_package(type(layer))


def in_package(kind):
    """Whether a class is defined in this package."""
    return kind.__module__.startswith("keras_mixers.")
