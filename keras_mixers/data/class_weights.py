"""The weight of each class in the loss, from the argument `class_weight`."""

import numpy as np

from keras_mixers import arguments

EXPECTED = '`class_weight` must be None, "balanced", or a dict {class name or number: weight}.'


def class_weights(value, source):
    """The weights of the classes, float32 `(num_classes,)`, or None."""
    if value is None:
        return None
    if source.train.num_classes is not None:
        raise ValueError(
            "`class_weight` must be None for images with several labels, which do not belong to one"
            " class. Give each image a weight instead. "
            f"{arguments.received(class_weight=value)}"
        )
    if isinstance(value, str) and value == "balanced":
        return balanced(source)
    if not isinstance(value, dict):
        error = ValueError if isinstance(value, str) else TypeError
        raise error(f"{EXPECTED} {arguments.received(class_weight=value)}")
    weights = np.ones(len(source.class_names), "float32")
    given = set()
    for key, weight in value.items():
        number = number_of(key, source.class_names)
        if number in given:
            raise ValueError(
                "`class_weight` must have one weight for a class. Received: two for"
                f" {source.class_names[number]!r}"
            )
        given.add(number)
        weights[number] = arguments.real(f"class_weight[{key!r}]", weight, 0.0)
    return weights


def number_of(key, class_names):
    """The number of the class that is the key of a dict: its name or its number."""
    if isinstance(key, str):
        key = class_names.index(arguments.choice("class_weight", key, class_names))
    return arguments.integer("class_weight", key, 0, len(class_names) - 1)


def balanced(source):
    """`n / (K n_k)` for n training images, K classes and n_k images of a class.

    The mean weight of the training images is 1, and each class has the same sum of weights.
    """
    if source.train.labels is None:
        raise ValueError(
            "`class_weight` must be None or a dict for a dataset that does not fit into 1 GiB,"
            " because its labels are not known. Received: class_weight='balanced'"
        )
    counts = np.bincount(source.train.labels(), minlength=len(source.class_names))
    if not counts.all():
        name = source.class_names[counts.argmin()]
        raise ValueError(
            "`class_weight` can be 'balanced' only if each class has training images. Received:"
            f" none of {name!r}"
        )
    return (counts.sum() / (len(counts) * counts)).astype("float32")
