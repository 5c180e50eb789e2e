"""A loss and a metric that accept class numbers as well as soft labels."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mixers import arguments
from keras_mixers.serialization import ConfigFromSignature, registered

KINDS = ("softmax", "sigmoid")


@registered
class Crossentropy(ConfigFromSignature, keras.losses.Loss):
    """Cross-entropy of logits, with class numbers or soft labels.

    With `"softmax"`, `-sum(p log softmax(logits))`. With `"sigmoid"`, the sum over the classes of
    their binary cross-entropies. One loss thus serves training batches with mixed labels and
    validation batches with class numbers.

    With `"sigmoid"`, an image may have several labels or none, and a model may have one output,
    whose labels are 0 or 1.

    A class number outside the classes raises an error if the loss sees the numbers: in eager mode,
    and in TensorFlow graphs without XLA. In a step that XLA compiles, it makes the loss NaN.

    Shapes: labels `(N,)`, `(N, 1)` or `(N, num_classes)`, logits `(N, num_classes)` -> a scalar.

    Args:
        label_smoothing: fraction of each label that is spread evenly over all classes.
        kind: `"softmax"` or `"sigmoid"`.
        **kwargs: arguments of `keras.losses.Loss`.

    Raises:
        ValueError, TypeError: if an argument is invalid; the message names it.
        ValueError: if a class number is outside the classes, or if `kind` is `"softmax"` for a
            model with one output.

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
        super().__init__(name=checked_name(name), **kwargs)
        self.label_smoothing = arguments.rate("label_smoothing", label_smoothing)
        self.kind = arguments.choice("kind", kind, KINDS)

    def call(self, labels, logits):
        classes = logits.shape[-1]
        if self.kind == "softmax" and classes == 1:
            raise ValueError(
                "`kind` must be 'sigmoid' for a model with one output, because the softmax of one"
                " logit is always 1. Received: kind='softmax'"
            )
        labels, is_valid = soft_labels(labels, logits)
        # One output decides between two classes.
        labels = labels * (1 - self.label_smoothing) + self.label_smoothing / max(classes, 2)
        if self.kind == "softmax":
            loss = -ops.sum(labels * ops.log_softmax(logits, axis=-1), axis=-1)
        else:
            loss = ops.sum(ops.softplus(logits) - labels * logits, axis=-1)
        return loss if is_valid is None else ops.where(is_valid, loss, np.nan)


@registered
class Accuracy(keras.metrics.Mean):
    """Fraction of images whose largest logit is at the label, or at a largest soft label.

    Images without labels are not counted. A model with one output predicts 1 if its logit is
    above 0.

    Shapes: as in `Crossentropy`.

    Raises:
        ValueError: if a class number is outside the classes, as in `Crossentropy`.

    Example:
        >>> accuracy = Accuracy()
        >>> accuracy.update_state([1, 0], [[0.0, 2.0], [0.0, 2.0]])
        >>> float(accuracy.result())
        0.5
    """

    def __init__(self, name: str = "accuracy", **kwargs: Any):
        super().__init__(name=checked_name(name), **kwargs)
        # Because Keras's callbacks raise for a metric of unknown direction.
        self._direction = "up"

    def update_state(self, labels, logits, sample_weight=None):
        logits = ops.convert_to_tensor(logits)
        labels, _ = soft_labels(ops.convert_to_tensor(labels), logits)
        if logits.shape[-1] == 1:
            logits = ops.concatenate([-logits, logits], axis=-1)
            labels = ops.concatenate([1 - labels, labels], axis=-1)
        largest = ops.max(labels, axis=-1, keepdims=True)
        best = ops.expand_dims(ops.argmax(logits, axis=-1), -1)
        is_correct = ops.take_along_axis(labels, best, axis=-1) >= largest
        weight = ops.cast(largest > 0, "float32")
        if sample_weight is not None:
            weight = weight * ops.reshape(ops.cast(sample_weight, "float32"), (-1, 1))
        super().update_state(ops.cast(is_correct, "float32"), weight)


def checked_name(name):
    """Check a name; None lets Keras choose one."""
    return None if name is None else arguments.text("name", name)


def soft_labels(labels, logits):
    """`(soft labels, is_valid)` of class numbers or soft labels.

    The soft labels have the shape and dtype of the logits. `is_valid`, `(N,)`, is whether each
    class number is one of the classes; `None` for soft labels.

    Raises:
        ValueError: if a class number is invalid and its value is known.
    """
    classes = logits.shape[-1]
    if len(labels.shape) == 2 and labels.shape[-1] == 1:
        labels = ops.squeeze(labels, -1)
    if len(labels.shape) != 1:
        return ops.cast(labels, logits.dtype), None
    if keras.backend.standardize_dtype(labels.dtype) == "bool":
        labels = ops.cast(labels, "int32")
    indices = ops.cast(labels, "int32")
    if classes == 1:
        is_valid = (labels >= 0) & (labels <= 1)  # also a probability
        expected = "from 0 to 1, because the model has one output"
    else:
        is_valid = (labels >= 0) & (labels < classes) & (ops.cast(indices, labels.dtype) == labels)
        expected = f"integers from 0 to {classes - 1}, because the model has {classes} outputs"
    # First, because `one_hot` on torch has its own error, which does not show the number.
    require(is_valid, labels, f"Class numbers must be {expected}")
    if classes == 1:
        soft = ops.expand_dims(ops.cast(labels, logits.dtype), -1)
    else:
        soft = ops.one_hot(indices, classes, dtype=logits.dtype)
    return soft, is_valid


def require(is_valid, labels, message):
    """Raise an error if a label is invalid; do nothing where the values are unknown."""
    try:
        invalid = ~np.asarray(ops.convert_to_numpy(is_valid))
    except (NotImplementedError, TypeError, ValueError):  # the tensor is symbolic
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            tf.debugging.Assert(tf.reduce_all(is_valid), [f"{message}. Received:", labels])
        return
    if invalid.any():
        received = ops.convert_to_numpy(labels)[invalid]
        raise ValueError(f"{message}. Received: {received[0]:g}")
