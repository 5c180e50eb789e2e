"""Evaluate a classifier on images with several labels or none."""

import keras
import numpy as np

from keras_mixers.evaluation import metrics
from keras_mixers.evaluation.batches import outputs_and_labels
from keras_mixers.evaluation.labels import multi_hot
from keras_mixers.evaluation.multi_label_report import LabelMistake, MultiLabelEvaluation
from keras_mixers.models.outputs import kind_of_output


def evaluate_labels(model, dataset, names, num_mistakes):
    """The `MultiLabelEvaluation` of a model, from 5 bytes for each pair (image, label)."""
    check_separate(model)
    labels = len(names)
    collected, false_positives, false_negatives, count = [], [], [], 0
    batches = outputs_and_labels(model, dataset, lambda y, n: multi_hot(y, n, labels))
    for images, logits, true in batches:
        probability = sigmoid(logits)
        predicted = logits > 0
        collected.append((logits.astype("float32"), true))
        false_positives = worst_of(
            false_positives, predicted & ~true, -probability, images, count, num_mistakes
        )
        false_negatives = worst_of(
            false_negatives, ~predicted & true, probability, images, count, num_mistakes
        )
        count += len(images)
    logits, true = map(np.concatenate, zip(*collected, strict=True))
    bins = metrics.calibration_bins(sigmoid(logits).ravel(), true.ravel())
    return MultiLabelEvaluation(
        class_names=tuple(names),
        confusion=metrics.confusion_of_labels(true, logits > 0),
        average_precision=metrics.average_precision(true, logits),
        exact_match=float(np.mean((true == (logits > 0)).all(axis=1))),
        bin_counts=bins[0],
        bin_probabilities=bins[1],
        bin_accuracies=bins[2],
        false_positives=tuple(mistake for _, mistake in false_positives),
        false_negatives=tuple(mistake for _, mistake in false_negatives),
    )


def worst_of(found, is_mistake, order, images, first, most):
    """The first mistakes in an order: `[(order, LabelMistake), ...]`, at most `most`.

    Args:
        found: the mistakes of earlier batches.
        is_mistake: `(N, num_labels)`, the mistakes of this batch.
        order: `(N, num_labels)`, the probabilities or their negatives.
        images: the batch.
        first: the position of the first image of the batch.
        most: how many to return.
    """
    pairs = np.argwhere(is_mistake)
    pairs = pairs[np.argsort(order[tuple(pairs.T)], kind="stable")][:most]
    values = order[tuple(pairs.T)].tolist()
    new = [
        (value, LabelMistake(first + int(image), int(label), abs(value), images[image].copy()))
        for value, (image, label) in zip(values, pairs, strict=True)
    ]
    return sorted([*found, *new], key=lambda pair: pair[0])[:most]


def check_separate(model):
    """Check that each output of a model is a logit, which decides about one label."""
    kind, loss = kind_of_output(model), getattr(model, "loss", None)
    if kind != "logits" or getattr(loss, "kind", None) == "softmax":
        received = "a softmax" if kind else f"the loss {loss!r}"
        raise ValueError(
            "`model` must end in logits, and be trained with a loss that uses their sigmoid, such"
            " as that of Recipe(loss='sigmoid', multi_label=True), for images with several labels."
            f" Received: '{model.name}' with {received}"
        )


def sigmoid(logits):
    """The sigmoid as an array."""
    return keras.ops.convert_to_numpy(keras.ops.sigmoid(logits))
