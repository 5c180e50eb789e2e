"""The part of each batch that a process reads, and the number of equal parts of a batch."""

import keras

from keras_mixers import arguments


def check_shard(name, value):
    """(index, count) of the share that this process reads; (0, 1) for whole batches.

    For `None`, the distribution of Keras decides. A distribution with `auto_shard_dataset` divides
    the batches itself, so it needs whole batches.
    """
    distribution = keras.distribution.distribution()
    divides = distribution is not None and distribution.num_processes > 1
    if value is None:
        if not divides or distribution.auto_shard_dataset:
            return 0, 1
        count = min(distribution.num_processes, distribution.num_model_replicas)
        return distribution.data_shard_id, count
    expected = f"`{name}` must be None or (index, count), with index from 0 to count - 1."
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(f"{expected} {arguments.received(**{name: value})}")
    count = arguments.integer(name, value[1])
    index = arguments.integer(name, value[0], 0)
    if index >= count:
        raise ValueError(f"{expected} {arguments.received(**{name: value})}")
    if divides and distribution.auto_shard_dataset:
        raise ValueError(
            f"`{name}` must be None if the distribution of Keras divides the batches. Set"
            f" `distribution.auto_shard_dataset = False`. {arguments.received(**{name: value})}"
        )
    return index, count


def replicas():
    """The number of equal parts into which Keras divides each batch."""
    distribution = keras.distribution.distribution()
    return 1 if distribution is None else distribution.num_model_replicas
