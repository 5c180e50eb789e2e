"""A figure of a batch: the images as the model receives them, with labels and weights."""

import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_mixers import arguments
from keras_mixers.data import Info
from keras_mixers.data.position import first_batch
from keras_mixers.visualize.canvas import (
    LITERAL,
    MOST_LINES,
    drawable,
    drawable_text,
    panels,
    restored,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LONGEST_LINE = 28  # characters


def plot_batch(dataset: Iterable[Any], info: Info, count: int = 16) -> "Figure":
    """Plot the first images of the next batch, with augmentation, as the model receives them.

    The normalization is undone. The title of an image has its class, its soft label such as
    "cat 0.7, dog 0.3", all its labels, or "none"; and its weight, if there are weights.

    The next iteration over a dataset of `km.data.load` still begins with this batch, so the figure
    does not change a training.

    Args:
        dataset: batches `(images, labels)` or `(images, labels, weights)`, such as `train` or
            `validation` of `km.data.load` or `km.data.prepare`.
        info: the `Info` of the dataset.
        count: how many images to show, at most.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError, TypeError: if an argument is invalid; the message names it.
        ValueError: if the dataset has no such batch, or its labels are not those of `info`.

    Example:
        >>> import keras_mixers as km
        >>> mixed = km.data.Augmentation(translation=0.1, mixup=0.5)
        >>> train, _, info = km.data.load("digits", augmentation=mixed)
        >>> figure = plot_batch(train, info, count=8)
        >>> len(figure.axes)
        8
    """
    if not isinstance(info, Info):
        raise TypeError(f"`info` must be the Info of the dataset. {arguments.received(info=info)}")
    count = arguments.integer("count", count)
    images, labels, weights = _parts(dataset, info)
    shown = min(count, len(images))
    title = f"{shown} of the {len(images)} images of a batch"
    if shown == len(images):
        title = f"The {shown} images of a batch"
    figure, all_axes = panels(shown, title, 1.6, images.shape[1] / images.shape[2], min(shown, 8))
    for i, axes in enumerate(all_axes):
        axes.imshow(drawable("dataset", images[i]), interpolation="nearest")
        axes.set_axis_off()
        text = _label_text(labels[i], info.class_names)
        weight = [] if weights is None else [f"weight {weights[i]:.3g}"]
        lines = textwrap.wrap(
            text, LONGEST_LINE, max_lines=MOST_LINES - len(weight), placeholder=" ..."
        )
        lines += weight
        axes.set_title(drawable_text("\n".join(lines)), fontsize=9, **LITERAL)
    return figure


def _parts(dataset, info):
    """(images in [0, 1], labels, weights or None) of the first batch, as arrays."""
    expected = "`dataset` must yield batches (images, labels) or (images, labels, weights)"
    if not isinstance(dataset, Iterable):
        raise TypeError(f"{expected}. {arguments.received(dataset=dataset)}")
    batch = first_batch(dataset)
    if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
        received = "none" if batch is None else f"a {type(batch).__name__}"
        raise ValueError(f"{expected}. Received: {received}")
    images, labels, *weights = map(np.asarray, batch)
    if images.shape[1:] != info.input_shape or not len(images):
        raise ValueError(
            f"`dataset` must have images of the shape {info.input_shape} of `info`. Received:"
            f" images of the shape {images.shape}"
        )
    classes = len(info.class_names)
    if labels.shape == (len(images),):
        is_valid = 0 <= labels.min() and labels.max() < classes
    else:
        is_valid = labels.shape == (len(images), classes)
    if not is_valid:
        raise ValueError(
            f"`dataset` must have labels of the {classes} classes of `info`. Received: labels of"
            f" the shape {labels.shape}, with values from {labels.min()} to {labels.max()}"
        )
    return restored(images, info.preprocessing), labels, *(weights or [None])


def _label_text(label, names):
    """A class number, a soft label or a multi-hot label as text."""
    if not label.shape:
        return names[int(label)]
    parts = [(round(float(label[i]), 2), names[i]) for i in np.argsort(-label, kind="stable")]
    # With a no-break space, so that a number stays next to its name.
    texts = [
        name if part == 1 else f"{name}\N{NO-BREAK SPACE}{part:g}" for part, name in parts if part
    ]
    return ", ".join(texts) or "none"
