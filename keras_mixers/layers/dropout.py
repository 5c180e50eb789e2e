"""Dropout whose draws survive a file."""

import keras

from keras_mixers.layers.base import SavesSeedState
from keras_mixers.serialization import registered


@registered
class Dropout(SavesSeedState, keras.layers.Dropout):
    """Keras's Dropout; a saved one goes on with the draws it would have had.

    Shapes: any, kept.

    Args:
        rate: share of values dropped in training, in [0, 1]; the others are divided by the share
            kept.
        noise_shape: see `keras.layers.Dropout`.
        seed: of the draws; `None` for one from Keras's global seed.

    Example:
        >>> Dropout(0.1)(keras.Input((10, 48))).shape
        (None, 10, 48)

    Source: "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", Journal of Machine
    Learning Research 15 (2014).
    """
