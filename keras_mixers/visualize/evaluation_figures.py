"""Figures of what `km.evaluate` returns: confusion, average precision and calibration."""

from typing import TYPE_CHECKING

import numpy as np

from keras_mixers import arguments
from keras_mixers.evaluation import Evaluation, MultiLabelEvaluation
from keras_mixers.visualize.canvas import LITERAL, SEQUENTIAL, add_colorbar, drawable_text, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_NUMBERED = 20  # classes whose cells hold numbers, because smaller cells have no room
MOST_NAMED = 60  # classes whose rows and columns have names
MOST_BARS = 40  # labels in the figure of average precision
LONGEST_NAME = 20  # characters of a class name at an axis


def plot_confusion(evaluation: Evaluation) -> "Figure":
    """Plot the confusion matrix: how the images of each true class are predicted.

    The colour is the fraction of the images of the true class. A cell holds the number of images,
    for at most 20 classes. The row of a class without images is empty.

    Args:
        evaluation: the return value of `km.evaluate`, for images with one class.

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
    check_evaluation(evaluation, Evaluation, "images with one class")
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
        names = [axis_name(name) for name in evaluation.class_names]
        axes.set_xticks(range(classes), names, rotation=90, **LITERAL)
        axes.set_yticks(range(classes), names, **LITERAL)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    return figure


def plot_average_precision(evaluation: MultiLabelEvaluation) -> "Figure":
    """Plot a bar for each label: its average precision, with precision and recall at 0.5.

    The label with the lowest average precision is at the top. Of more than 40 labels, the figure
    has the 40 lowest. A label without images has no bar. The number of images with the label is
    next to its name.

    Args:
        evaluation: the return value of `km.evaluate`, for images with several labels.

    Returns:
        A matplotlib `Figure`.

    Raises:
        TypeError: if `evaluation` is not a `MultiLabelEvaluation`.

    Example:
        >>> import numpy as np
        >>> import keras_mixers as km
        >>> images, labels = np.random.rand(8, 4, 4, 1), np.eye(2)[[0, 1] * 4]
        >>> layers = [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
        >>> batches, names = [(images, labels)], ["cat", "dog"]
        >>> evaluation = km.evaluate(keras.Sequential(layers), batches, names, multi_label=True)
        >>> figure = plot_average_precision(evaluation)
        >>> sorted(label.get_text() for label in figure.axes[0].get_yticklabels())
        ['cat (4)', 'dog (4)']
    """
    check_evaluation(evaluation, MultiLabelEvaluation, "images with several labels")
    rows = np.argsort(evaluation.average_precision, kind="stable")[:MOST_BARS]  # NaN comes last
    lowest = (
        f" (bars: the {MOST_BARS} lowest labels)" if len(evaluation.class_names) > MOST_BARS else ""
    )
    title = f"Mean average precision {evaluation.mean_average_precision:.1%}{lowest}"
    side = 5.0
    figure, (axes,) = panels(1, title, side=side, aspect=(0.9 + 0.22 * len(rows)) / side)
    places = np.arange(len(rows))
    values = np.nan_to_num(evaluation.average_precision[rows])
    axes.barh(places, values, color="steelblue", label="average precision")
    at_half = {"linestyle": "", "markersize": 6, "clip_on": False}  # whole markers at 0 and 1
    axes.plot(
        evaluation.precision[rows], places, "o", color="crimson", label="precision", **at_half
    )
    axes.plot(evaluation.recall[rows], places, "d", color="orange", label="recall", **at_half)
    names = [f"{axis_name(evaluation.class_names[i])} ({evaluation.counts[i]})" for i in rows]
    axes.set_yticks(places, names, **LITERAL)
    axes.set(xlim=(0, 1), ylim=(len(rows) - 0.5, -0.5))
    axes.set_xlabel("average precision; precision and recall at probability 0.5")
    axes.set_ylabel("label (images)")
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def plot_calibration(evaluation: Evaluation | MultiLabelEvaluation) -> "Figure":
    """Plot a reliability diagram: the accuracy of predictions by their probability.

    Each bar is one of the 15 bins of `calibration_error`. Bars on the diagonal are calibrated:
    below it, the model is overconfident. A second panel has the number of images in each bin. For
    images with several labels, a prediction is about one label of an image, and its accuracy is the
    fraction with the label.

    Args:
        evaluation: the return value of `km.evaluate`.

    Returns:
        A matplotlib `Figure`.

    Raises:
        TypeError: if `evaluation` is neither an `Evaluation` nor a `MultiLabelEvaluation`.

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
    check_evaluation(evaluation, (Evaluation, MultiLabelEvaluation))
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
    left.set(xlim=(0, 1), ylim=(0, 1.02))
    right.bar(edges[:-1], evaluation.bin_counts, **bars)
    right.set(xlim=(0, 1))
    if isinstance(evaluation, Evaluation):
        labels = "probability of the predicted class", "accuracy", "images"
    else:
        labels = "probability of a label", "fraction with the label", "images and labels"
        right.set_yscale("log")  # because most labels of an image are absent
    left.set_ylabel(labels[1])
    right.set_ylabel(labels[2])
    for axes in (left, right):
        axes.set_xlabel(labels[0])
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def axis_name(name):
    """A class name, short enough for an axis."""
    line = " ".join(name.split())
    if len(line) > LONGEST_NAME:
        line = f"{line[: LONGEST_NAME - 3].rstrip()}..."
    return drawable_text(line)


def check_evaluation(evaluation, kinds, of=""):
    """Raise a TypeError for anything except a result of `km.evaluate` of these kinds."""
    if not isinstance(evaluation, kinds):
        raise TypeError(
            f"`evaluation` must be the return value of `km.evaluate`{of and f' for {of}'}."
            f" {arguments.received(evaluation=evaluation)}"
        )
