"""Find out whether a model returns logits, probabilities or neither."""

import keras
import numpy as np

from keras_mixers.graph import layer_calls
from keras_mixers.probe.collect import collect
from keras_mixers.probe.scale import scale_checked


def kind_of_output(model):
    """`"logits"`, `"probabilities"`, or `None` for features, tokens or several outputs.

    Logits come from a `Dense` layer without an activation, or from the average of such layers.
    Probabilities come from a softmax.
    """
    if len(model.outputs) != 1 or len(model.outputs[0].shape) != 2:
        return None
    last = list(layer_calls(model).values())[-1]
    layer = last.operation
    activation = getattr(layer, "activation", None)
    if isinstance(layer, keras.layers.Softmax) or activation is keras.activations.softmax:
        return "probabilities"
    if isinstance(layer, keras.layers.Average):
        layers = [node.operation for node in last.parent_nodes]
    else:
        layers = [layer]
    linear = keras.activations.linear
    dense = all(isinstance(each, keras.layers.Dense) for each in layers)
    return "logits" if dense and all(each.activation is linear for each in layers) else None


def predict(model, images, batch_size):
    """The class probabilities that a classifier predicts: `(N, H, W, C) -> (N, num_classes)`."""
    last = list(layer_calls(model))[-1]
    with scale_checked():  # because the figures also call a probe with the same images
        (scores,) = collect(model, images, [last], None, batch_size).values()
    if kind_of_output(model) == "probabilities":
        return scores
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return scores / scores.sum(axis=1, keepdims=True)
