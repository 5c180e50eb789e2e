"""Figures of an `Evaluation`: the confusion matrix and the calibration."""

from typing import TYPE_CHECKING

import numpy as np

from keras_mixers import arguments
from keras_mixers.evaluation import Evaluation
from keras_mixers.visualize.canvas import LITERAL, SEQUENTIAL, add_colorbar, drawable_text, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_NUMBERED = 20  # classes whose cells hold numbers, because smaller cells have no room
MOST_NAMED = 60  # classes whose rows and columns have names
LONGEST_NAME = 20  # characters of a class name at an axis


def plot_confusion(evaluation: Evaluation) -> "Figure":
    """Plot the confusion matrix: how the images of each true class are predicted.

    The colour is the fraction of the images of the true class. A cell holds the number of images,
    for at most 20 classes. The row of a class without images is empty.

    Args:
        evaluation: the return value of `km.evaluate`.

    Returns:
        A matplotlib `Figure`.

    Raises:
        TypeError: if `evaluation` is not an `Evaluation`.

    Example:
        >>> import keras_mixers as km
        >>> _, validation, info = km.data.load("digits")
        >>> layers = [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]
        >>> evaluation = km.evaluate(keras.Sequential(layers), validation, info)
        >>> figure = plot_confusion(evaluation)
        >>> figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()
        ('predicted class', 'true class')
    """
    check_evaluation(evaluation)
    counts, classes = evaluation.confusion, len(evaluation.class_names)
    title = f"Confusion matrix (accuracy {evaluation.accuracy:.1%})"
    figure, (axes,) = panels(1, title, side=min(2.4 + 0.35 * classes, 9))
    fractions = counts / np.where(evaluation.counts, evaluation.counts, np.nan)[:, None]
    drawn = axes.imshow(fractions, cmap=SEQUENTIAL, vmin=0, vmax=1)
    add_colorbar(figure, axes, drawn, "fraction of the true class")
    if classes <= MOST_NUMBERED:
        for row, column in np.argwhere(counts):
            colour = "black" if fractions[row, column] > 0.6 else "white"
            axes.text(column, row, counts[row, column], ha="center", va="center", color=colour)
    if classes <= MOST_NAMED:
        names = [
            drawable_text(" ".join(name.split())[:LONGEST_NAME]) for name in evaluation.class_names
        ]
        axes.set_xticks(range(classes), names, rotation=90, **LITERAL)
        axes.set_yticks(range(classes), names, **LITERAL)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    return figure


def plot_calibration(evaluation: Evaluation) -> "Figure":
    """Plot a reliability diagram: the accuracy of the images by their predicted probability.

    Each bar is one of the 15 bins of `Evaluation.calibration_error`. Bars on the diagonal are
    calibrated: below it, the model is overconfident. A second panel has the number of images in
    each bin.

    Args:
        evaluation: the return value of `km.evaluate`.

    Returns:
        A matplotlib `Figure`.

    Raises:
        TypeError: if `evaluation` is not an `Evaluation`.

    Example:
        >>> import keras_mixers as km
        >>> _, validation, info = km.data.load("digits")
        >>> layers = [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]
        >>> evaluation = km.evaluate(keras.Sequential(layers), validation, info)
        >>> figure = plot_calibration(evaluation)
        >>> [axes.get_ylabel() for axes in figure.axes]
        ['accuracy', 'images']

    Source: "On Calibration of Modern Neural Networks", arXiv 1706.04599, figure 1.
    """
    check_evaluation(evaluation)
    error = evaluation.calibration_error
    figure, (left, right) = panels(2, f"Calibration error {error:.1%}", side=3.2, columns=2)
    edges = np.linspace(0, 1, len(evaluation.bin_counts) + 1)
    bars = {"width": edges[1], "align": "edge", "color": "steelblue", "edgecolor": "white"}
    left.bar(edges[:-1], np.nan_to_num(evaluation.bin_accuracies), **bars)
    left.plot([0, 1], [0, 1], "--", color="grey", label="calibrated")
    filled = evaluation.bin_counts > 0
    left.plot(
        evaluation.bin_probabilities[filled],
        evaluation.bin_accuracies[filled],
        "o",
        color="crimson",
        label="mean of a bin",
    )
    left.legend(loc="upper left")
    left.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="accuracy")
    right.bar(edges[:-1], evaluation.bin_counts, **bars)
    right.set(xlim=(0, 1), ylabel="images")
    for axes in (left, right):
        axes.set_xlabel("probability of the predicted class")
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
    return figure


def check_evaluation(evaluation):
    """Raise a TypeError for anything except an `Evaluation`."""
    if not isinstance(evaluation, Evaluation):
        raise TypeError(
            "`evaluation` must be the return value of `km.evaluate`."
            f" {arguments.received(evaluation=evaluation)}"
        )
