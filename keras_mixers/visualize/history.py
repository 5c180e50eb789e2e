"""A figure of the learning curves of a training run."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import keras
import numpy as np

from keras_mixers import arguments
from keras_mixers.probe.images import numbers_of
from keras_mixers.visualize.canvas import set_title

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_history(history: keras.callbacks.History | Mapping[str, list[float]]) -> "Figure":
    """Plot learning curves: each metric by epoch, for training and validation data.

    Args:
        history: the return value of `model.fit`, or its `history` attribute:
            `{metric: [one value for each epoch]}`. Each panel shows `metric` and `val_metric`.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: if the history holds no epoch.

    Example:
        >>> figure = plot_history({"loss": [2.3, 1.1, 0.7], "val_loss": [2.1, 1.3, 1.0]})
        >>> [axes.get_title() for axes in figure.axes]
        ['Loss']
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    curves = read_curves(history)
    metrics = list(dict.fromkeys(name.removeprefix("val_") for name in curves))
    figure = Figure(figsize=(4.5 * len(metrics), 3.6), layout="constrained")
    for axes, metric in zip(
        figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True
    ):
        for name, label in ((metric, "training"), (f"val_{metric}", "validation")):
            if name in curves:
                epochs = np.arange(1, len(curves[name]) + 1)
                style = "o" if len(epochs) == 1 else "-"  # a line needs two points to be visible
                axes.plot(epochs, curves[name], style, label=label)
        set_title(axes, metric.replace("_", " ").capitalize())
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    return figure


def read_curves(history):
    """The curves of a history: `{metric: array with one value for each epoch}`."""
    curves = getattr(history, "history", history)
    names = list(curves) if isinstance(curves, Mapping) else []
    if names and all(isinstance(name, str) for name in names):
        found = {name: numbers_of("history", values) for name, values in curves.items()}
        if all(values.ndim == 1 and values.size for values in found.values()):
            return found
    raise ValueError(
        "`history` must be the return value of `model.fit`, with at least one epoch."
        f" {arguments.received(history=curves)}"
    )
