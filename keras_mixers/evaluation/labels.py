"""Read the labels of a batch."""

import numpy as np

from keras_mixers import arguments
from keras_mixers.probe.images import numbers_of


def class_numbers(labels, count, classes):
    """Class numbers `(N,)` of class numbers `(N,)` or `(N, 1)`, or of one-hot `(N, num_classes)`.

    Raises:
        ValueError, TypeError: if the labels have another shape, or do not give each image one
            class.
    """
    array = numbers_of("labels", labels)
    if array.shape == (count, 1):
        array = array[:, 0]
    if array.shape == (count,):
        is_valid = (array >= 0) & (array < classes) & (array == np.floor(array))
        numbers = array
    elif array.shape == (count, classes):
        is_valid = (np.count_nonzero(array, axis=1) == 1) & (array.max(axis=1) == 1)
        numbers = array.argmax(axis=1)
    else:
        raise ValueError(
            f"The labels of `dataset` must be of shape ({count},) or ({count}, {classes}) for"
            f" {count} images and {classes} classes. Received: shape {array.shape}"
        )
    if not is_valid.all():
        raise ValueError(
            f"Each label of `dataset` must be one class: an integer from 0 to {classes - 1}, or"
            f" one-hot. Received: {arguments.shown(array[~is_valid][0].tolist())}"
        )
    return numbers.astype("int64")
