"""Models that return chosen logits, and datasets that make them do so."""

import keras
import numpy as np


def identity(classes, activation=None, **compiled):
    """A model whose logits are its images `(1, 1, classes)`."""
    dense = keras.layers.Dense(
        classes, activation, use_bias=False, kernel_initializer="identity", name="logits"
    )
    model = keras.Sequential([keras.Input((1, 1, classes)), keras.layers.Flatten(), dense])
    if compiled:
        model.compile(**compiled)
    return model


def batches(logits, labels, size=2):
    """The dataset that gives a model of `identity` these logits."""
    images = np.asarray(logits, "float32")[:, None, None, :]
    starts = range(0, len(images), size)
    return [(images[i : i + size], labels[i : i + size]) for i in starts]
