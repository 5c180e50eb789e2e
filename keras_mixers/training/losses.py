"""A loss and a metric that take class numbers as well as the shares of each class."""

import keras
import numpy as np
from keras import ops

from keras_mixers import arguments
from keras_mixers.serialization import ConfigFromSignature, registered

KINDS = ("softmax", "sigmoid")


@registered
class Crossentropy(ConfigFromSignature, keras.losses.Loss):
    """Cross-entropy of logits, with labels that are numbers of classes or shares of each.

    `-sum(p log softmax(logits))`, or with `"sigmoid"` the sum over classes of each one's binary
    cross-entropy. Training batches mixed from two classes and plain validation batches then do
    with one loss. A number that is no class makes it NaN, so that it cannot go unseen.

    Shapes: labels `(N,)`, `(N, 1)` or `(N, num_classes)`, logits `(N, num_classes)` -> a number.

    Args:
        label_smoothing: share of each label that is spread over all classes.
        kind: `"softmax"` or `"sigmoid"`.
        **kwargs: of `keras.losses.Loss`.

    Example:
        >>> loss = Crossentropy(label_smoothing=0.1)
        >>> number = loss(ops.array([1]), ops.array([[0.0, 2.0]]))
        >>> share = loss(ops.array([[0.0, 1.0]]), ops.array([[0.0, 2.0]]))
        >>> round(float(number), 4), round(float(share), 4)
        (0.2269, 0.2269)

    Source: "Rethinking the Inception Architecture for Computer Vision", arXiv 1512.00567; sigmoid:
    "Are we done with ImageNet?", arXiv 2006.07159.
    """

    def __init__(
        self, label_smoothing: float = 0.0, kind: str = "softmax", name="crossentropy", **kwargs
    ):
        super().__init__(name=name, **kwargs)
        self.label_smoothing = arguments.rate("label_smoothing", label_smoothing)
        self.kind = arguments.choice("kind", kind, KINDS)

    def call(self, labels, logits):
        classes = logits.shape[-1]
        labels = as_shares(labels, logits)
        is_class = ops.any(labels > 0, axis=-1)
        labels = labels * (1 - self.label_smoothing) + self.label_smoothing / classes
        if self.kind == "softmax":
            loss = -ops.sum(labels * ops.log_softmax(logits, axis=-1), axis=-1)
        else:
            loss = ops.sum(ops.softplus(logits) - labels * logits, axis=-1)
        return ops.where(is_class, loss, np.nan)


@registered
class Accuracy(keras.metrics.Mean):
    """Share of images whose highest logit is the label, or the class with the largest share.

    Shapes: as in `Crossentropy`.

    Example:
        >>> accuracy = Accuracy()
        >>> accuracy.update_state([1, 0], [[0.0, 2.0], [0.0, 2.0]])
        >>> float(accuracy.result())
        0.5
    """

    def __init__(self, name="accuracy", **kwargs):
        super().__init__(name=name, **kwargs)

    def update_state(self, labels, logits, sample_weight=None):
        logits = ops.convert_to_tensor(logits)
        shares = as_shares(ops.convert_to_tensor(labels), logits)
        right = ops.argmax(shares, axis=-1) == ops.argmax(logits, axis=-1)
        super().update_state(ops.cast(right, "float32"), sample_weight)


def as_shares(labels, logits):
    """Labels as shares of each class, `(N, num_classes)`, in the dtype of the logits."""
    classes = logits.shape[-1]
    if len(labels.shape) == 2 and labels.shape[-1] == 1 and classes != 1:
        labels = ops.squeeze(labels, -1)
    if len(labels.shape) == 1:
        return ops.one_hot(ops.cast(labels, "int32"), classes, dtype=logits.dtype)
    return ops.cast(labels, logits.dtype)
