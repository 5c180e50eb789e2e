"""The class probabilities that a figure shows."""

from keras_mixers.graph import layer_calls
from keras_mixers.models.outputs import kind_of_output, probabilities
from keras_mixers.probe.collect import collect, to_numpy
from keras_mixers.probe.scale import scale_checked


def is_classifier(model):
    """Whether a model ends in logits or in a softmax."""
    return kind_of_output(model) is not None


def predict(model, images, batch_size):
    """The class probabilities that a classifier predicts: `(N, H, W, C) -> (N, num_classes)`."""
    last = list(layer_calls(model))[-1]
    with scale_checked():  # because the figures also call a probe with the same images
        (outputs,) = collect(model, images, [last], None, batch_size).values()
    return to_numpy(probabilities(model, outputs))
