"""Dropout that saves the state of its seed generator."""

from typing import Any

import keras

from keras_mixers.layers.base import SavesSeedState, explicit_seed
from keras_mixers.serialization import registered


@registered
class Dropout(SavesSeedState, keras.layers.Dropout):
    """Keras's Dropout, which also saves the state of its seed generator.

    Training that resumes from a file then drops the same values as without the interruption.

    Shapes: any shape; the output has the same.

    Args:
        rate: fraction of the values to drop in training, in [0, 1]. The other values are divided by
            `1 - rate`.
        noise_shape: see `keras.layers.Dropout`.
        seed: seed of the random numbers; `None` to derive one from Keras's global seed.

    Example:
        >>> Dropout(0.1)(keras.Input((10, 48))).shape
        (None, 10, 48)

    Source: "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", Journal of Machine
    Learning Research 15 (2014).
    """

    mixes = frozenset()  # so that tools know that the layer keeps tokens apart

    def __init__(
        self, rate: float, noise_shape: Any = None, seed: int | None = None, **kwargs: Any
    ):
        super().__init__(rate, noise_shape=noise_shape, seed=explicit_seed(seed), **kwargs)
        self.seed = seed
