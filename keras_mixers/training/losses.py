"""A loss and a metric that accept class indices as well as soft labels."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mixers import arguments
from keras_mixers.serialization import ConfigFromSignature, registered

KINDS = ("softmax", "sigmoid")


@registered
class Crossentropy(ConfigFromSignature, keras.losses.Loss):
    """Cross-entropy of logits, with class indices or soft labels.

    With `"softmax"`, `-sum(p log softmax(logits))`. With `"sigmoid"`, the sum over the classes of
    their binary cross-entropies. One loss thus serves training batches with mixed labels and
    validation batches with class indices. An index outside the classes makes the loss NaN, so that
    the mistake shows.

    Shapes: labels `(N,)`, `(N, 1)` or `(N, num_classes)`, logits `(N, num_classes)` -> a scalar.

    Args:
        label_smoothing: fraction of each label that is spread evenly over all classes.
        kind: `"softmax"` or `"sigmoid"`.
        **kwargs: arguments of `keras.losses.Loss`.

    Raises:
        ValueError, TypeError: if an argument is invalid; the message names it.

    Example:
        >>> loss = Crossentropy(label_smoothing=0.1)
        >>> of_index = loss(ops.array([1]), ops.array([[0.0, 2.0]]))
        >>> of_soft_label = loss(ops.array([[0.0, 1.0]]), ops.array([[0.0, 2.0]]))
        >>> round(float(of_index), 4), round(float(of_soft_label), 4)
        (0.2269, 0.2269)

    Source: "Rethinking the Inception Architecture for Computer Vision", arXiv 1512.00567; sigmoid:
    "Are we done with ImageNet?", arXiv 2006.07159.
    """

    def __init__(
        self,
        label_smoothing: float = 0.0,
        kind: str = "softmax",
        name: str = "crossentropy",
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        self.label_smoothing = arguments.rate("label_smoothing", label_smoothing)
        self.kind = arguments.choice("kind", kind, KINDS)

    def call(self, labels, logits):
        classes = logits.shape[-1]
        labels = soft_labels(labels, logits)
        is_class = ops.any(labels > 0, axis=-1)  # because one_hot of an invalid index is all zeros
        labels = labels * (1 - self.label_smoothing) + self.label_smoothing / classes
        if self.kind == "softmax":
            loss = -ops.sum(labels * ops.log_softmax(logits, axis=-1), axis=-1)
        else:
            loss = ops.sum(ops.softplus(logits) - labels * logits, axis=-1)
        return ops.where(is_class, loss, np.nan)


@registered
class Accuracy(keras.metrics.Mean):
    """Fraction of images whose largest logit is at the label, or at the largest soft label.

    Shapes: as in `Crossentropy`.

    Example:
        >>> accuracy = Accuracy()
        >>> accuracy.update_state([1, 0], [[0.0, 2.0], [0.0, 2.0]])
        >>> float(accuracy.result())
        0.5
    """

    def __init__(self, name: str = "accuracy", **kwargs: Any):
        super().__init__(name=name, **kwargs)

    def update_state(self, labels, logits, sample_weight=None):
        logits = ops.convert_to_tensor(logits)
        labels = soft_labels(ops.convert_to_tensor(labels), logits)
        is_correct = ops.argmax(labels, axis=-1) == ops.argmax(logits, axis=-1)
        super().update_state(ops.cast(is_correct, "float32"), sample_weight)


def soft_labels(labels, logits):
    """Class indices or soft labels -> soft labels `(N, num_classes)` in the dtype of the logits."""
    classes = logits.shape[-1]
    if len(labels.shape) == 2 and labels.shape[-1] == 1 and classes != 1:
        labels = ops.squeeze(labels, -1)
    if len(labels.shape) == 1:
        return ops.one_hot(ops.cast(labels, "int32"), classes, dtype=logits.dtype)
    return ops.cast(labels, logits.dtype)
