"""Read the batches of a dataset, and compute the outputs of a model."""

from collections.abc import Iterable

import numpy as np

from keras_mixers import arguments
from keras_mixers.probe.images import check_images, numbers_of
from keras_mixers.probe.scale import warn_of_bytes

EXPECTED = "`dataset` must yield batches (images, labels) or (images, labels, sample_weight)"
INFINITE = -1  # tf.data's cardinality of an endless dataset


def outputs_and_labels(model, dataset, read_labels):
    """Yield (images, outputs, labels) as arrays, after checks; skip batches without images.

    Args:
        model: the model.
        dataset: batches (images, labels) or (images, labels, sample_weight).
        read_labels: `(labels, number of images) -> array`.
    """
    check_ends(dataset)
    count = 0
    for batch in dataset:
        if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
            size = f" of {len(batch)}" if isinstance(batch, (tuple, list)) else ""
            raise ValueError(f"{EXPECTED}. Received: a {type(batch).__name__}{size}")
        images = numbers_of("dataset", batch[0])
        if not images.shape or len(images):
            check_images(model, images)
            if not count:
                warn_of_bytes(model, images)
            count += len(images)
            yield images, outputs_of(model, images), read_labels(batch[1], len(images))
    if not count:
        raise ValueError("`dataset` must hold at least one image. Received: none")


def check_ends(dataset):
    """Raise an error for what is not a dataset, or is known to be endless."""
    if not isinstance(dataset, Iterable):
        raise TypeError(f"{EXPECTED}. {arguments.received(dataset=dataset)}")
    cardinality = getattr(dataset, "cardinality", None)
    if callable(cardinality) and int(cardinality()) == INFINITE:
        raise ValueError(
            "`dataset` must end. Received: an endless dataset, as repeat() makes it;"
            " dataset.take(n) has its first n batches"
        )


def outputs_of(model, images):
    """The outputs for a batch, `(N, num_classes)`, float64."""
    outputs = np.asarray(model.predict_on_batch(images)).astype("float64")
    if not np.isfinite(outputs).all():
        raise ValueError(
            f"`model` must return finite numbers. Received: NaN or infinity from '{model.name}'"
        )
    return outputs
