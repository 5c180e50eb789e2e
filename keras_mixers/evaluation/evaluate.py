"""Measure a classifier on a dataset, for images with one class or with several labels."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import keras

from keras_mixers import arguments
from keras_mixers.data import Info
from keras_mixers.evaluation.multi_label_report import MultiLabelEvaluation
from keras_mixers.evaluation.one_class import evaluate_classes
from keras_mixers.evaluation.report import Evaluation
from keras_mixers.evaluation.several_labels import evaluate_labels
from keras_mixers.models.image_model import fact_of, warn_of_colors
from keras_mixers.models.outputs import kind_of_output


def evaluate(
    model: keras.Model,
    dataset: Iterable[Any],
    info: Info | Sequence[str] | None = None,
    *,
    num_mistakes: int = 16,
    multi_label: bool | None = None,
) -> Evaluation | MultiLabelEvaluation:
    """Measure a classifier on a dataset: accuracy, each class, calibration and worst mistakes.

    For images with one class, the probabilities are the softmax of the logits, or their sigmoid if
    the loss of the compiled model uses a sigmoid. A model with one output predicts class 1 with the
    sigmoid of its logit. If several classes have the largest logit, the first of them is predicted.

    For images with several labels or none, the probabilities are the sigmoid of the logits, and
    those above 0.5 are predicted. The function then keeps 5 bytes for each image and label.
    Otherwise it keeps a few numbers for each image. It also keeps the images of the worst mistakes.

    In a training with several processes, each process evaluates its share of the dataset.

    Args:
        model: a functional model that ends in logits, or in a softmax.
        dataset: batches `(images, labels)`, such as the validation data of `km.data.load`. Images
            are `(N, H, W, C)`, as the model expects them. Labels are class numbers `(N,)` or
            one-hot `(N, num_classes)`; with several labels they are 0 or 1, `(N, num_classes)`.
            Sample weights, as third element, have no effect, as on `metrics` of Keras's `compile`.
        info: the `Info` of the dataset, or only the names of its classes; `None` for the names of
            the model (see `ImageModel`). Other names than the model's are used, but not the same
            names in another order. A warning tells if the `Info` has another mean or standard
            deviation of the colours than the model.
        num_mistakes: how many of the worst mistakes to keep, of each kind.
        multi_label: whether an image may have several labels or none. `None`: `info.multi_label`,
            or that of the model if `info` is not an `Info`. The labels never decide it.

    Returns:
        An `Evaluation`, or a `MultiLabelEvaluation` for images with several labels; `print` shows
        it as a table.

    Raises:
        ValueError, TypeError: if an argument is invalid; the message names it.
        ValueError: if the dataset has no images or is endless, if the labels of an image are not
            valid for the model, or if the model returns NaN or infinity.

    Example:
        >>> import numpy as np
        >>> images = np.array([[3.0, 0.0], [0.0, 3.0], [1.0, 0.0], [0.0, 2.0]]).reshape(4, 1, 1, 2)
        >>> logits = keras.layers.Dense(2, use_bias=False, kernel_initializer="identity")
        >>> model = keras.Sequential([keras.Input((1, 1, 2)), keras.layers.Flatten(), logits])
        >>> print(evaluate(model, [(images, np.array([0, 1, 1, 1]))], ["cat", "dog"]))
        4 images, 2 classes: accuracy 75.0%, calibration error 23.6%
        <BLANKLINE>
        class  images  precision  recall
        cat         1      50.0%  100.0%
        dog         3     100.0%   66.7%
        <BLANKLINE>
        most frequent mistakes
          dog as cat: 1 image
        <BLANKLINE>
        worst mistakes, by the probability of the predicted class
          image 2: dog as cat (73.1%)
        >>> several = np.array([[1, 0], [1, 1], [0, 0], [0, 1]])
        >>> found = evaluate(model, [(images, several)], ["cat", "dog"], multi_label=True)
        >>> found.average_precision.round(3)
        array([0.75, 1.  ])
    """
    check_classifies(model)
    num_mistakes = arguments.integer("num_mistakes", num_mistakes, 0)
    if multi_label is None:
        multi_label = getattr(info, "multi_label", bool(fact_of(model, "multi_label")))
    outputs = model.outputs[0].shape[-1]
    if arguments.flag("multi_label", multi_label):
        names = names_of(info, model, outputs)
        return with_files(evaluate_labels(model, dataset, names, num_mistakes), dataset)
    names = names_of(info, model, max(outputs, 2))
    return with_files(evaluate_classes(model, dataset, names, num_mistakes), dataset)


def with_files(result, dataset):
    """The result, whose mistakes have the paths of their images if the dataset knows them."""
    files = getattr(dataset, "keras_mixers_files", None)
    if files is None:
        return result
    changed = {
        kind: tuple(dataclasses.replace(each, file=files[each.index]) for each in mistakes)
        for kind in ("mistakes", "false_positives", "false_negatives")
        if (mistakes := getattr(result, kind, None))
    }
    return dataclasses.replace(result, **changed)


def check_classifies(model):
    """Raise a ValueError if a model ends neither in logits nor in a softmax of several."""
    if kind_of_output(model) is None:
        raise ValueError(
            "`model` must end in logits (a Dense layer without an activation) or in a softmax of"
            f" two or more logits. Received: '{model.name}', with the output shapes"
            f" {[tuple(output.shape) for output in model.outputs]}"
        )


def names_of(info, model, classes):
    """The class names of an `Info`, a sequence of them, or the model's if `info` is None."""
    known = fact_of(model, "class_names")
    names = known if info is None else getattr(info, "class_names", info)
    if names is None:
        raise TypeError(
            "`info` must be the Info of the dataset, or the names of its classes, for a model"
            f" without class names. {arguments.received(info=info)}"
        )
    try:
        names = arguments.class_names(names, classes)
    except (TypeError, ValueError) as error:
        raise type(error)(f"`info` must fit the {classes} classes of `model`: {error}") from None
    if known and tuple(names) != known and sorted(names) == sorted(known):
        i = next(i for i, name in enumerate(names) if name != known[i])
        raise ValueError(
            "`info` must have the class names in the order of the model's. Received:"
            f" class {i} is {arguments.shown(names[i])}, the model's is {arguments.shown(known[i])}"
        )
    expected = fact_of(model, "preprocessing")
    if isinstance(info, Info) and expected:
        warn_of_colors("info", info.preprocessing, expected)
    return names
