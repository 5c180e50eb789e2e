"""The formulas of an evaluation, on arrays of all images or of a batch."""

import numpy as np

BINS = 15


def probabilities(outputs, kind):
    """Probabilities of `"softmax"` or `"sigmoid"` logits; `"identity"` returns the outputs."""
    if kind == "softmax":
        exponentials = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)
    return np.exp(-np.logaddexp(0, -outputs)) if kind == "sigmoid" else outputs


def rank(outputs, true):
    """How many classes come before the true one, from 0: `(N, num_classes), (N,) -> (N,)`.

    Of equal outputs, the first comes first, as for `argmax`.
    """
    of_true = np.take_along_axis(outputs, true[:, None], axis=1)
    is_earlier = np.arange(outputs.shape[1]) < true[:, None]
    return np.count_nonzero((outputs > of_true) | ((outputs == of_true) & is_earlier), axis=1)


def confusion_matrix(true, predicted, classes):
    """Number of images by (true class, predicted class): `(num_classes, num_classes)`."""
    pairs = np.bincount(true * classes + predicted, minlength=classes**2)
    return pairs.reshape(classes, classes)


def calibration_bins(probability, is_correct):
    """Images by the probability of the predicted class, in bins `(m / 15, (m + 1) / 15]`.

    Returns:
        `(counts, mean probabilities, accuracies)`, each `(15,)`; NaN in a bin without images.
    """
    edges = np.linspace(0, 1, BINS + 1)
    of_image = np.clip(np.digitize(probability, edges, right=True) - 1, 0, BINS - 1)
    counts = np.bincount(of_image, minlength=BINS)
    sums = (np.bincount(of_image, values, minlength=BINS) for values in (probability, is_correct))
    return (counts, *(ratio(total, counts) for total in sums))


def calibration_error(counts, mean_probabilities, accuracies):
    """Mean over the images of |accuracy - mean probability| of their bin."""
    gaps = np.nan_to_num(np.abs(accuracies - mean_probabilities))
    return float((counts * gaps).sum() / counts.sum())


def ratio(part, whole):
    """`part / whole`, which is NaN where both are 0."""
    with np.errstate(invalid="ignore"):
        return part / whole
