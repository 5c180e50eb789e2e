"""Make batches of the arrays or the dataset of a user."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_mixers import arguments
from keras_mixers.data import sources
from keras_mixers.data.assemble import assemble
from keras_mixers.data.augmentation import Augmentation
from keras_mixers.data.hold_out import held_out
from keras_mixers.data.info import Info
from keras_mixers.data.random_access import Images
from keras_mixers.data.settings import Settings
from keras_mixers.data.user_arrays import images_of_arrays
from keras_mixers.data.user_dataset import PARTS, images_of_dataset
from keras_mixers.preprocessing import Preprocessing


def prepare(
    data: Any,
    image_size: int | tuple[int, int] | None = None,
    batch_size: int = 64,
    *,
    validation: Any = None,
    class_names: Sequence[str] | None = None,
    multi_label: bool = False,
    preprocessing: Preprocessing | None = None,
    augmentation: Augmentation | None = None,
    validation_fraction: float | None = None,
    class_weight: str | dict[str | int, float] | None = None,
    drop_remainder: bool = False,
    seed: int = 0,
    start: tuple[int, int] = (0, 0),
    shard: tuple[int, int] | None = None,
) -> tuple[Any, Any, Info]:
    """Make batches for training and validation from arrays or from a `tf.data.Dataset`.

    The result is that of `load`, with the same preprocessing, augmentation, order and resume.

    A dataset has single examples, so call `.unbatch()` if it has batches. It must yield the same
    examples in the same order in each iteration and each run. This excludes `.shuffle` without a
    seed, or without `reshuffle_each_iteration=False`.

    The function reads a dataset once, and keeps it in memory if its images take at most 1 GiB. A
    larger one is read again in each epoch, and a buffer of 1,024 images shuffles it. With
    `crop_scale` these images have their original size, which may need much memory. The dataset must
    know its length. A resume within an epoch then reads the images before its position again. With
    several processes, each reads all images, and augments only its share.

    Weights: `train` and `validation` have a third part, float32 `(batch,)`, if their data has
    weights. Keras multiplies the loss of each image by its weight. It does not use them in the
    `metrics` of `compile`, only in `weighted_metrics`. With MixUp or CutMix, a mixed image has the
    weight `w = part w1 + (1 - part) w2` and the label `(part w1 y1 + (1 - part) w2 y2) / w`. Its
    loss is then exactly the weighted sum of the losses for both labels. Do not pass `class_weight`
    to `fit` with mixed labels: Keras would use the weight of the largest soft label only.

    Args:
        data: `(images, labels)` or `(images, labels, weights)` as arrays, or a `tf.data.Dataset`
            of `(image, label)` or `(image, label, weight)`. Images are bytes, or floats in 0..255
            which are rounded to bytes: `(H, W, C)`, or `(H, W)` for grey images. The images of a
            dataset may differ in size. Labels are class numbers or one-hot. Weights are at least 0.
        image_size: as in `load`.
        batch_size: images in a batch.
        validation: validation data in one of the forms of `data`. `None` holds out a random part of
            each class in `data`, which is the same for each `seed`.
        class_names: one name for each class. `None` for the class numbers as text; it must be given
            for a dataset of more than 1 GiB.
        multi_label: whether an image may have several labels or none. Labels are then 0 or 1 for
            each class, `(num_classes,)`.
        preprocessing: as in `load`.
        augmentation: as in `load`. With MixUp or CutMix the labels of `train` are soft labels,
            float32 `(batch, num_classes)`.
        validation_fraction: fraction of the images to hold out if `validation` is `None`; `None`
            for a tenth.
        class_weight: as in `load`. It is multiplied by the weights of the images. For a dataset of
            more than 1 GiB it must be a dict.
        drop_remainder: as in `load`.
        seed: as in `load`.
        start: as in `load`.
        shard: as in `load`.

    Returns:
        `(train, validation, info)`, as `load` returns them.

    Raises:
        ValueError, TypeError: if an argument is invalid; the message names it.
        ValueError: if images, labels or weights have other shapes or values, or if images differ in
            size and `image_size` is `None`.
        ValueError: if a dataset has batches, is endless, is empty, or is larger than 1 GiB and does
            not know its length.
        tf.errors.InvalidArgumentError: in training, if a dataset of more than 1 GiB has an invalid
            image, label or weight.

    Example:
        >>> random = np.random.RandomState(0)
        >>> images = random.randint(0, 256, (100, 8, 8, 3)).astype("uint8")
        >>> train, validation, info = prepare(
        ...     (images, np.arange(100) % 2), class_names=["cat", "dog"], class_weight="balanced"
        ... )
        >>> info.num_train, info.num_validation, len(train)
        (90, 10, 2)
        >>> [part.shape.as_list() for part in next(iter(train))]
        [[64, 8, 8, 3], [64], [64]]
    """
    settings = Settings(
        image_size=image_size,
        batch_size=batch_size,
        preprocessing=preprocessing,
        augmentation=augmentation,
        validation_fraction=validation_fraction,
        class_weight=class_weight,
        drop_remainder=drop_remainder,
        seed=seed,
        start=start,
        shard=shard,
    )
    multi_label = arguments.flag("multi_label", multi_label)
    if validation is not None and validation_fraction is not None:
        raise ValueError(
            "`validation_fraction` must be None if `validation` is given. Received:"
            f" validation_fraction={settings.validation_fraction}"
        )
    if class_names is not None:
        class_names = _checked_names(class_names)
    train = _images_of("data", data, multi_label, class_names)
    if validation is None:
        validation_source = "train"
        train, held_out = _hold_out(train, settings.validation_fraction)
    else:
        validation_source = "validation"
        held_out = _images_of("validation", validation, multi_label, class_names)
    _check_shapes(train, held_out, settings.size_is_known)
    source = sources.Source(
        train=train,
        validation=held_out,
        validation_source=validation_source,
        class_names=_names_for([train, held_out], [data, validation], class_names),
    )
    return assemble(source, "dataset" if hasattr(data, "element_spec") else "arrays", settings)


def _images_of(name, value, multi_label, class_names):
    """`Images` or `InOrder` of an argument."""
    import tensorflow as tf

    if isinstance(value, tf.data.Dataset):
        return images_of_dataset(name, value, multi_label, class_names)
    if isinstance(value, (tuple, list)) and len(value) in (2, 3):
        return images_of_arrays(name, value, multi_label)
    expected = f"`{name}` must be arrays (images, labels) or (images, labels, weights)"
    raise TypeError(
        f"{expected}, or a tf.data.Dataset of {PARTS}. Received: a {type(value).__name__}"
        + (f" of {len(value)}" if isinstance(value, (tuple, list)) else "")
    )


def _hold_out(images, fraction):
    """(images for training, images for validation), chosen at random but always the same."""
    if not isinstance(images, Images):
        raise ValueError(
            "`validation` must be given, because the images of `data` do not fit into 1 GiB."
            " Received: validation=None"
        )
    fraction = sources.DEFAULT_VALIDATION_FRACTION if fraction is None else fraction
    count = max(1, round(fraction * images.count))
    if count >= images.count:
        raise ValueError(
            "`data` must have more images than are held out for validation. Received: data with"
            f" {images.count} images, and validation_fraction={fraction}"
        )
    shuffled = np.random.RandomState(0).permutation(images.count)
    chosen = held_out(images.labels()[shuffled], count)
    return images.at(np.sort(shuffled[~chosen])), images.at(np.sort(shuffled[chosen]))


def _check_shapes(train, validation, size_is_known):
    """Raise a ValueError if images or labels of both parts do not fit."""
    if not size_is_known and (None in train.shape or train.shape != validation.shape):
        raise ValueError(
            "`image_size` must be given, because the images differ in size. Received:"
            f" image_size=None, and images of the shapes {train.shape} and {validation.shape}"
        )
    if train.shape[-1] != validation.shape[-1] or train.num_classes != validation.num_classes:
        raise ValueError(
            "`validation` must have as many channels and classes as `data`. Received: images of the"
            f" shapes {validation.shape} and {train.shape}, and labels of the shapes"
            f" {validation.label_spec[0]} and {train.label_spec[0]}"
        )


def _checked_names(names):
    """Names of classes as a tuple."""
    expected = "`class_names` must be different strings, one for each class"
    names = arguments.sequence("class_names", names, arguments.LARGEST_INTEGER, expected)
    names = tuple(arguments.text("class_names", name) for name in names)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"{expected}. {arguments.received(class_names=names)}")
    return names


def _names_for(parts, values, names):
    """The names of the classes, after a check of their number against the labels."""
    classes, widths = parts[0].num_classes, [n for n in map(_width_of_labels, values) if n]
    is_exact = classes is not None or widths
    if classes is None:
        in_memory = [part for part in parts if isinstance(part, Images)]
        classes = max([2, *widths, *(int(part.labels().max()) + 1 for part in in_memory)])
    names = tuple(map(str, range(classes))) if names is None else names
    if len(names) < classes or (is_exact and len(names) != classes):
        raise ValueError(
            f"`class_names` must be {classes} strings, one for each class of the labels."
            f" {arguments.received(class_names=names)}"
        )
    return names


def _width_of_labels(value):
    """The number of classes of one-hot or multi-hot labels; None for class numbers.

    A class may have no images, so the labels themselves do not show it.
    """
    if value is None:
        return None
    is_dataset = hasattr(value, "element_spec")
    shape = value.element_spec[1].shape if is_dataset else np.shape(value[1])[1:]
    return shape[0] if len(shape) == 1 and shape[0] != 1 else None  # (N, 1) are class numbers
