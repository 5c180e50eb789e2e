"""Run a classifier over a dataset, and collect what `Evaluation` needs of each batch."""

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np

from keras_mixers import arguments
from keras_mixers.data import Info
from keras_mixers.evaluation import metrics
from keras_mixers.evaluation.labels import class_numbers
from keras_mixers.evaluation.report import Evaluation, Mistake
from keras_mixers.models.image_model import fact_of, warn_of_colors
from keras_mixers.models.outputs import is_sigmoid
from keras_mixers.probe.images import check_images, numbers_of
from keras_mixers.probe.outputs import kind_of_output
from keras_mixers.probe.scale import warn_of_bytes

TOP = 5


def evaluate(
    model: keras.Model,
    dataset: Iterable[Any],
    info: Info | Sequence[str] | None = None,
    *,
    num_mistakes: int = 16,
) -> Evaluation:
    """Measure a classifier on a dataset: accuracy, confusion, calibration and worst mistakes.

    The probabilities are the softmax of the logits, or their sigmoid if the loss of the compiled
    model uses a sigmoid. A model with one output predicts class 1 with the sigmoid of its logit.
    If several classes have the largest logit, the first of them is the predicted one.

    The function keeps a few numbers for each image, and the images of the worst mistakes. In a
    training with several processes, each process evaluates its share of the dataset.

    Args:
        model: a functional model that ends in logits, or in a softmax.
        dataset: batches `(images, labels)`, such as the validation data of `km.data.load`. Images
            are `(N, H, W, C)`, as the model expects them. Labels are class numbers `(N,)` or
            one-hot `(N, num_classes)`. Weights, a third part, are ignored.
        info: the `Info` of the dataset, or only the names of its classes; `None` for the names of
            the model (see `ImageModel`). Other names than the model's are used, but not the same
            names in another order. A warning tells if the `Info` has another mean or standard
            deviation of the colours than the model.
        num_mistakes: how many of the worst mistakes to keep.

    Returns:
        An `Evaluation`; `print` shows it as a table.

    Raises:
        ValueError, TypeError: if an argument is invalid; the message names it.
        ValueError: if the dataset has no images, if a label is not one class of the model, or if
            the model returns NaN or infinity.

    Example:
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
    """
    kind = kind_of_probabilities(model)
    classes = max(model.outputs[0].shape[-1], 2)
    names = names_of(info, model, classes)
    num_mistakes = arguments.integer("num_mistakes", num_mistakes, 0)
    collected, mistakes, count = [], [], 0
    for images, true in batches(model, dataset, classes):
        outputs = outputs_of(model, images)
        predicted = outputs.argmax(axis=1)
        probability = metrics.probabilities(outputs, kind).max(axis=1)
        collected.append((true, predicted, probability, metrics.rank(outputs, true)))
        wrong = np.flatnonzero(predicted != true)
        worst = wrong[np.argsort(-probability[wrong], kind="stable")][:num_mistakes]
        mistakes += [
            Mistake(count + int(i), int(true[i]), int(predicted[i]), float(probability[i]), image)
            for i, image in zip(worst, images[worst], strict=True)
        ]
        mistakes = sorted(mistakes, key=lambda mistake: -mistake.probability)[:num_mistakes]
        count += len(images)
    if not count:
        raise ValueError("`dataset` must hold at least one image. Received: none")
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


def kind_of_probabilities(model):
    """How the model's outputs become probabilities: `"softmax"`, `"sigmoid"` or `"identity"`.

    Raises:
        ValueError: if the model does not end in logits or in a softmax of several classes.
    """
    kind = kind_of_output(model)
    if kind is None or (kind == "probabilities" and model.outputs[0].shape[-1] == 1):
        raise ValueError(
            "`model` must end in logits (a Dense layer without an activation) or in a softmax of"
            f" two or more logits. Received: '{model.name}', with the output shapes"
            f" {[tuple(output.shape) for output in model.outputs]}"
        )
    if kind == "probabilities":
        return "identity"
    return "sigmoid" if is_sigmoid(model) and model.outputs[0].shape[-1] > 1 else "softmax"


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


def batches(model, dataset, classes):
    """Yield (images, class numbers) as arrays, after checks; skip batches without images."""
    expected = "`dataset` must yield batches (images, labels)"
    if not isinstance(dataset, Iterable):
        raise TypeError(f"{expected}. {arguments.received(dataset=dataset)}")
    is_first = True
    for batch in dataset:
        if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
            size = f" of {len(batch)}" if isinstance(batch, (tuple, list)) else ""
            raise ValueError(f"{expected}. Received: a {type(batch).__name__}{size}")
        images = numbers_of("dataset", batch[0])
        if not images.shape or len(images):
            check_images(model, images)
            if is_first:
                warn_of_bytes(model, images)
            is_first = False
            yield images, class_numbers(batch[1], len(images), classes)


def outputs_of(model, images):
    """The outputs for a batch, `(N, num_classes)`; one output z becomes the two logits (0, z)."""
    outputs = np.asarray(model.predict_on_batch(images)).astype("float64")
    if not np.isfinite(outputs).all():
        raise ValueError(
            f"`model` must return finite numbers. Received: NaN or infinity from '{model.name}'"
        )
    if outputs.shape[1] == 1:
        return np.concatenate([np.zeros_like(outputs), outputs], axis=1)
    return outputs
