"""A figure of the trials of a hyperparameter search."""

from typing import TYPE_CHECKING

import numpy as np

from keras_mixers import arguments
from keras_mixers.tuning.table import COSTS, SearchResults, shown
from keras_mixers.visualize.canvas import LITERAL, SEQUENTIAL, drawable_text, set_title

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AXIS_LABELS = {"params": "parameters", "flops": "multiply-adds", "latency_ms": "ms for one image"}
LOG_RATIO = 20  # of the largest to the smallest number, from which an axis is logarithmic
MOST_COLOURS = 10  # of texts, each with its own colour
# Accuracies near 1 differ little, so their axis is logarithmic in the error if errors differ much.
ERROR_RATIO = 5
ERROR_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 40, 60, 80, 95)  # in %
SMALLEST_ERROR = 0.1  # in %, drawn instead of 0


def plot_search(
    results: SearchResults, x: str = "params", *, color: str | None = None, label: str | None = None
) -> "Figure":
    """Plot the score of each trial against its cost or against a hyperparameter.

    If `x` is a cost, a line connects the trials that are better than all cheaper ones. Trials
    without a score are crosses at the lower edge. The title counts trials without a value of `x`.

    Args:
        results: the return value of `km.tuning.results`.
        x: `"params"`, `"flops"`, `"latency_ms"`, or the name of a hyperparameter.
        color: a cost or a hyperparameter that the colour shows, or None.
        label: a cost or a hyperparameter to write next to the trials of the front, or next to the
            best trial if `x` is a hyperparameter; None for no text.

    Returns:
        A matplotlib `Figure`.

    Raises:
        TypeError: if `results` is not a `SearchResults`.
        ValueError: if a name is not a cost or a hyperparameter of the search, or if no trial has a
            value of `x`.

    Example:
        >>> from keras_mixers.tuning import SearchResults, TrialResult
        >>> def trial(i, score, params, rate):
        ...     values = {"learning_rate": rate}
        ...     return TrialResult(str(i), "completed", score, values, params, 9, None, "", None)
        >>> trials = (trial(0, 0.9, 50_000, 1e-3), trial(1, 0.8, 20_000, 1e-4))
        >>> results = SearchResults("val_accuracy", "max", trials)
        >>> figure = plot_search(results, color="learning_rate")
        >>> figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()
        ('parameters', 'val_accuracy, %')
    """
    from matplotlib.figure import Figure

    if not isinstance(results, SearchResults):
        raise TypeError(
            "`results` must be the return value of `km.tuning.results`."
            f" {arguments.received(results=results)}"
        )
    names = list(dict.fromkeys([*COSTS, *(n for trial in results.trials for n in trial.values)]))
    for argument, name in (("x", x), ("color", color), ("label", label)):
        if name is not None:
            arguments.choice(argument, name, names)
    known = [trial for trial in results.trials if trial.value(x) is not None]
    if not known:
        raise ValueError(f"`x` must be known for a trial. {arguments.received(x=x)}")
    scored = [trial for trial in known if trial.score is not None]
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.subplots()
    places = dict(zip(known, x_places(axes, x, [trial.value(x) for trial in known]), strict=True))
    heights = dict(zip(scored, y_places(axes, results, scored), strict=True))

    best = results.front(x) if x in COSTS else scored[:1]
    if x in COSTS and best:
        draw_front(axes, places, heights, best)
    draw_points(axes, places, heights, color)
    draw_crosses(axes, [places[trial] for trial in known if trial.score is None])
    if label is not None:
        write_labels(axes, places, heights, best, label)

    missing = len(results.trials) - len(known)
    set_title(axes, f"{len(known)} trials" + (f" ({missing} without {x})" if missing else ""))
    axes.margins(0.1)
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[1]:
        figure.legend(loc="outside lower center", ncols=4, frameon=False)
    return figure


def x_places(axes, name, values):
    """Places along the x axis, which becomes logarithmic or has texts if the values need it."""
    from matplotlib.ticker import EngFormatter

    axes.set_xlabel(drawable_text(AXIS_LABELS.get(name, name)), **LITERAL)
    numbers, texts = as_numbers(values)
    if texts:
        names = [drawable_text(text) for text in texts]
        turned = {"rotation": 20, "ha": "right"} if max(map(len, names)) > 10 else {}
        axes.set_xticks(range(len(names)), names, **turned, **LITERAL)
        axes.set_xlim(-0.5, len(names) - 0.5)
    elif is_spread(numbers):
        axes.set_xscale("log")
    if name in ("params", "flops"):
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    return numbers


def y_places(axes, results, trials):
    """Places along the y axis: scores, or accuracies in %, logarithmic in the error if it helps."""
    scores = np.array([trial.score for trial in trials], dtype=float)
    is_accuracy = results.direction == "max" and results.objective.endswith("accuracy")
    axes.set_ylabel(drawable_text(results.objective + (", %" if is_accuracy else "")), **LITERAL)
    if not is_accuracy:
        return scores
    errors = np.maximum(100 - 100 * scores, SMALLEST_ERROR)
    if not errors.size or errors.max() < ERROR_RATIO * errors.min():
        return 100 * scores
    axes.set_yscale("log")
    low, high = 0.7 * errors.min(), 1.4 * errors.max()
    ticks = [error for error in ERROR_TICKS if low <= error <= high]
    axes.set_yticks(ticks, [f"{100 - error:g}" for error in ticks])
    axes.set_yticks([], minor=True)
    axes.set_ylim(high, low)  # because a smaller error is higher
    return errors


def draw_front(axes, places, heights, front):
    """Draw steps through the trials of the front, up to the most expensive trial."""
    steps = [*(places[trial] for trial in front), max(places.values())]
    levels = [heights[trial] for trial in (*front, front[-1])]
    style = {"where": "post", "color": "grey", "zorder": 1, "label": "best up to this cost"}
    axes.step(steps, levels, "--", **style)


def draw_crosses(axes, places):
    """Draw crosses at the lower edge, for the trials without a score."""
    if places:
        style = {"s": 40, "c": "grey", "marker": "x", "label": "no score"}
        axes.scatter(places, [0.03] * len(places), transform=axes.get_xaxis_transform(), **style)


def write_labels(axes, places, heights, trials, name):
    """Write a value of each of some trials next to its point."""
    style = {"textcoords": "offset points", "fontsize": 9, **LITERAL}
    for trial in trials:
        text = drawable_text(shown(name, trial.value(name)))
        axes.annotate(text, (places[trial], heights[trial]), (6, 5), **style)


def draw_points(axes, places, heights, color):
    """Draw a point for each trial with a score, in the colour of one of its values."""
    style = {"s": 55, "edgecolors": "#444444", "linewidths": 0.6, "zorder": 2}
    values = {trial: None if color is None else trial.value(color) for trial in heights}
    with_value = [trial for trial, value in values.items() if value is not None]
    without = [trial for trial, value in values.items() if value is None]

    def coordinates(trials):
        return [places[trial] for trial in trials], [heights[trial] for trial in trials]

    if without:
        name = None if color is None else drawable_text(f"no {color}")
        axes.scatter(
            *coordinates(without), c="steelblue" if name is None else "white", label=name, **style
        )
    if not with_value:
        return
    numbers, texts = as_numbers([values[trial] for trial in with_value])
    if texts is None:
        scale = "log" if is_spread(numbers) else "linear"
        drawn = axes.scatter(
            *coordinates(with_value), c=numbers, cmap=SEQUENTIAL, norm=scale, **style
        )
        axes.figure.colorbar(drawn, ax=axes, label=drawable_text(AXIS_LABELS.get(color, color)))
        return
    if len(texts) > MOST_COLOURS:
        raise ValueError(
            f"`color` must have at most {MOST_COLOURS} different texts. Received: color={color!r}"
            f" with {len(texts)}"
        )
    for i, text in enumerate(texts):
        trials = [trial for trial, number in zip(with_value, numbers, strict=True) if number == i]
        axes.scatter(*coordinates(trials), c=f"C{i}", label=drawable_text(text), **style)


def as_numbers(values):
    """(numbers, None), or for texts (their positions in the sorted list of texts, the list)."""
    if all(isinstance(value, (int, float)) for value in values):
        return [float(value) for value in values], None
    texts = sorted({str(value) for value in values})
    return [texts.index(str(value)) for value in values], texts


def is_spread(numbers):
    """Whether numbers suit a logarithmic scale."""
    return min(numbers) > 0 and max(numbers) > LOG_RATIO * min(numbers)
