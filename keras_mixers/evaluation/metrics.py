"""The formulas of an evaluation, on arrays of all images or of a batch."""

import numpy as np

BINS = 15


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


def confusion_of_labels(true, predicted):
    """Number of images by (has the label, is predicted to have it): bools `(N, K) -> (K, 2, 2)`."""
    hits = np.count_nonzero(true & predicted, axis=0)
    with_label, as_label = np.count_nonzero(true, axis=0), np.count_nonzero(predicted, axis=0)
    neither = len(true) - with_label - as_label + hits
    table = np.array([[neither, as_label - hits], [with_label - hits, hits]])
    return table.transpose(2, 0, 1)


def average_precision(true, scores):
    """Mean over the images with a label of the precision at each: `(N, K), (N, K) -> (K,)`.

    The precision at an image is the fraction of the images with at least its score that have the
    label. The mean is the sum over the thresholds of (change of recall) * precision. NaN for a
    label that no image has.
    """
    found = np.full(true.shape[1], np.nan)
    for label in np.flatnonzero(true.any(axis=0)):
        order = np.argsort(-scores[:, label], kind="stable")
        sorted_scores, hits = scores[order, label], true[order, label]
        # The last of the images with an equal score.
        last = np.searchsorted(-sorted_scores, -sorted_scores, side="right") - 1
        precision = np.cumsum(hits)[last] / (last + 1)
        found[label] = precision[hits].mean()
    return found


def calibration_bins(probability, is_correct):
    """Predictions by their probability, in bins `(m / 15, (m + 1) / 15]`; the first also has 0.

    Returns:
        `(counts, mean probabilities, accuracies)`, each `(15,)`; NaN in a bin that is empty.
    """
    edges = np.linspace(0, 1, BINS + 1)
    of_image = np.clip(np.digitize(probability, edges, right=True) - 1, 0, BINS - 1)
    counts = np.bincount(of_image, minlength=BINS)
    sums = (np.bincount(of_image, values, minlength=BINS) for values in (probability, is_correct))
    return (counts, *(ratio(total, counts) for total in sums))


def calibration_error(counts, mean_probabilities, accuracies):
    """Mean over the predictions of |accuracy - mean probability| of their bin."""
    gaps = np.nan_to_num(np.abs(accuracies - mean_probabilities))
    return float((counts * gaps).sum() / counts.sum())


def ratio(part, whole):
    """`part / whole`, which is NaN where both are 0."""
    with np.errstate(invalid="ignore"):
        return part / whole
