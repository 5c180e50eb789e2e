"""Evaluate a classifier on images with one class each."""

import keras
import numpy as np

from keras_mixers.evaluation import metrics
from keras_mixers.evaluation.batches import outputs_and_labels
from keras_mixers.evaluation.labels import class_numbers
from keras_mixers.evaluation.report import Evaluation, Mistake
from keras_mixers.models.outputs import check_one_logit, probabilities

TOP = 5


def evaluate_classes(model, dataset, names, num_mistakes):
    """The `Evaluation` of a model, from a few numbers for each image."""
    check_one_logit(model)
    classes = len(names)
    collected, mistakes, count = [], [], 0
    batches = outputs_and_labels(model, dataset, lambda y, n: class_numbers(y, n, classes))
    for images, outputs, true in batches:
        all_probabilities = keras.ops.convert_to_numpy(probabilities(model, outputs))
        if outputs.shape[1] == 1:  # one output z, which has the order of the two logits (0, z)
            all_probabilities = np.concatenate([1 - all_probabilities, all_probabilities], axis=1)
            outputs = np.concatenate([np.zeros_like(outputs), outputs], axis=1)
        predicted = outputs.argmax(axis=1)
        probability = all_probabilities.max(axis=1)
        collected.append((true, predicted, probability, metrics.rank(outputs, true)))
        wrong = np.flatnonzero(predicted != true)
        worst = wrong[np.argsort(-probability[wrong], kind="stable")][:num_mistakes]
        mistakes += [
            Mistake(count + int(i), int(true[i]), int(predicted[i]), float(probability[i]), image)
            for i, image in zip(worst, images[worst], strict=True)
        ]
        mistakes = sorted(mistakes, key=lambda mistake: -mistake.probability)[:num_mistakes]
        count += len(images)
    true, predicted, probability, rank = map(np.concatenate, zip(*collected, strict=True))
    bins = metrics.calibration_bins(probability, predicted == true)
    return Evaluation(
        class_names=tuple(names),
        confusion=metrics.confusion_matrix(true, predicted, classes),
        top5_accuracy=float(np.mean(rank < TOP)) if classes > TOP else None,
        bin_counts=bins[0],
        bin_probabilities=bins[1],
        bin_accuracies=bins[2],
        mistakes=tuple(mistakes),
    )
