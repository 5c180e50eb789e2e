"""Choose which images to hold out for validation."""

import numpy as np


def held_out(labels, count):
    """Whether each image is held out: the first of each class, in proportion to the classes.

    A random choice of few images could have none of a class. The numbers of the classes are rounded
    by their largest remainders, so that they add up to `count`.

    Args:
        labels: class numbers `(N,)`; with multi-hot labels `(N, num_classes)`, the first images are
            held out.
        count: the number of images to hold out.

    Returns:
        A bool array `(N,)`.
    """
    labels = np.asarray(labels)
    if labels.ndim > 1:
        return np.arange(len(labels)) < count
    classes, first, sizes = np.unique(labels, return_index=True, return_counts=True)
    exact = count * sizes / len(labels)
    numbers = np.floor(exact).astype(int)
    by_remainder = np.lexsort((first, numbers - exact))  # of equal ones, the first in the order
    numbers[by_remainder[: count - numbers.sum()]] += 1
    chosen = np.zeros(len(labels), bool)
    for label, number in zip(classes, numbers, strict=True):
        chosen[np.flatnonzero(labels == label)[:number]] = True
    return chosen
