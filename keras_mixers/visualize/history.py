"""Learning curves."""

from collections.abc import Mapping

import keras
import numpy as np


def plot_history(history: keras.callbacks.History | Mapping[str, list[float]]):
    """Learning curves of a training: each quantity by epoch, in training and in validation.

    Args:
        history: what `model.fit` returns, or its `history`: `{quantity: a number an epoch}`;
            `val_loss` is drawn beside `loss`.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: there is no epoch in it.

    Example:
        >>> figure = plot_history({"loss": [2.3, 1.1, 0.7], "val_loss": [2.1, 1.3, 1.0]})
        >>> [axes.get_title() for axes in figure.axes]
        ['Loss']
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    curves = getattr(history, "history", history)
    fits = isinstance(curves, Mapping) and curves
    if not fits or not all(len(values) for values in curves.values()):
        raise ValueError(
            "`history` must be what `model.fit` returned, of an epoch or more. Received:"
            f" {curves!r}"
        )
    quantities = list(dict.fromkeys(name.removeprefix("val_") for name in curves))
    figure = Figure(figsize=(4.5 * len(quantities), 3.6), layout="constrained")
    everywhere = figure.subplots(1, len(quantities), squeeze=False)[0]
    for axes, quantity in zip(everywhere, quantities, strict=True):
        for name, label in ((quantity, "training"), (f"val_{quantity}", "validation")):
            if name in curves:
                epochs = np.arange(1, len(curves[name]) + 1)
                # a line of one point would not be seen
                axes.plot(epochs, curves[name], "o" if len(epochs) == 1 else "-", label=label)
        axes.set(title=quantity.replace("_", " ").capitalize(), xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    return figure
