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
        is_multi_hot = array.shape == (count, classes) and np.isin(array, (0, 1)).all()
        hint = "; pass multi_label=True if an image may have several labels or none"
        hint = hint if is_multi_hot else ""
        raise ValueError(
            f"Each label of `dataset` must be one class: an integer from 0 to {classes - 1}, or"
            f" one-hot{hint}. Received: {arguments.shown(array[~is_valid][0].tolist())}"
        )
    return numbers.astype("int64")


def multi_hot(labels, count, classes):
    """Whether each image has each label, `(N, num_classes)`, bool.

    Raises:
        ValueError, TypeError: if the labels have another shape, or are not all 0 or 1.
    """
    array = numbers_of("labels", labels)
    if array.shape != (count, classes):
        raise ValueError(
            f"The labels of `dataset` must be of shape ({count}, {classes}) for {count} images and"
            f" {classes} labels, of which an image may have several. Received: shape {array.shape}"
        )
    is_valid = (array == 0) | (array == 1)
    if not is_valid.all():
        raise ValueError(
            "The labels of `dataset` must be 0 or 1 for each image and label. Received:"
            f" {array[~is_valid][0]:g}"
        )
    return array == 1
