"""Check a `tf.data.Dataset` of a user, and read it into memory if it fits."""

import numpy as np

from keras_mixers import arguments
from keras_mixers.data.in_order import InOrder
from keras_mixers.data.random_access import (
    CHUNK,
    KEPT_BYTES,
    THREADS,
    Images,
    from_arrays,
    plain,
    without_autotune,
)
from keras_mixers.data.user_arrays import (
    HIGHEST,
    LOWEST,
    check_scale,
    checked_labels,
    checked_weights,
)

PARTS = "(image, label) or (image, label, weight)"


def images_of_dataset(name, dataset, multi_label, class_names):
    """`Images` of a dataset of single examples, or `InOrder` if they do not fit into memory."""
    import tensorflow as tf

    image, label = check_elements(name, dataset)
    count = int(dataset.cardinality())
    if count == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            f"`{name}` must be finite, because an epoch has each image once. Received: an endless"
            " dataset. Omit `.repeat()`, or call `.take(n)` for epochs of n images"
        )
    bytes_of = bytes_in_graph(name, image)
    elements = dataset.map(plain(lambda image, *rest: (bytes_of(image), *rest)), THREADS)
    found = read(name, elements, image, count)
    if found is not None:
        flat, shapes, labels, *weights = found
        labels = checked_labels(name, labels, len(labels), multi_label)
        weights = [checked_weights(name, each, len(labels)) for each in weights]
        return images_in_memory(flat, shapes, labels, *weights)

    if count == tf.data.UNKNOWN_CARDINALITY:
        raise ValueError(
            f"`{name}` must know its length, because its images do not fit into 1 GiB. Received: a"
            " dataset of unknown length. Call"
            " `.apply(tf.data.experimental.assert_cardinality(n))` for n images"
        )
    if class_names is None:
        raise ValueError(
            f"`class_names` must be given, because the images of `{name}` do not fit into 1 GiB."
            " Received: class_names=None"
        )
    label_of = label_in_graph(name, label, multi_label, len(class_names))
    weight_of = weight_in_graph(name)
    elements = elements.map(
        plain(lambda image, label, *weight: (image, label_of(label), *map(weight_of, weight))),
        THREADS,
    )
    shape = tuple(elements.element_spec[0].shape)
    num_classes = len(class_names) if multi_label else None
    return InOrder(without_autotune(elements), count, shape, num_classes)


def check_elements(name, dataset):
    """The specifications of an image and a label, after checks of the form of the elements."""
    import tensorflow as tf

    spec = dataset.element_spec
    expected = f"`{name}` must be a dataset of single examples {PARTS}"
    if not (
        isinstance(spec, (tuple, list))
        and len(spec) in (2, 3)
        and all(isinstance(part, tf.TensorSpec) for part in spec)
    ):
        raise ValueError(f"{expected}. Received: elements of the form {arguments.shown(spec)}")
    image, label = spec[:2]
    if image.shape.rank == 4 or (label.shape.rank == 1 and label.shape[0] is None):
        raise ValueError(
            f"{expected}. Received: batches, whose images have the shape {image.shape} and whose"
            f" labels have the shape {label.shape}. Call `.unbatch()`"
        )
    if image.shape.rank not in (2, 3) or (image.shape.rank == 3 and image.shape[-1] is None):
        raise ValueError(
            f"{expected}, with images (H, W, C) of known C, or (H, W). Received: images of the"
            f" shape {image.shape}"
        )
    for part in spec:
        if not (part.dtype.is_integer or part.dtype.is_floating):
            raise ValueError(f"{expected}, which are numbers. Received: {part.dtype.name}")
    return image, label


def bytes_in_graph(name, spec):
    """A function image -> bytes `(H, W, C)`, which raises if a value is not in 0..255."""
    import tensorflow as tf

    def bytes_of(image):
        if spec.shape.rank == 2:  # a grey image without an axis of channels
            image = image[..., None]
        if spec.dtype == tf.uint8:
            return image
        image = tf.cast(image, tf.float32)
        is_valid = tf.reduce_all((image >= LOWEST) & (image <= HIGHEST))
        message = f"The images of `{name}` must be bytes, or floats in 0..255"
        with tf.control_dependencies([tf.debugging.Assert(is_valid, [message])]):
            return tf.cast(tf.clip_by_value(tf.floor(image + 0.5), 0, 255), tf.uint8)

    return bytes_of


def read(name, elements, image, count):
    """(all pixels in one row, shapes, labels, weights if there are) as arrays, if they fit.

    Otherwise None, after a look at the scale of the first images.
    """
    import tensorflow as tf

    def flattened(image, *rest):
        return tf.reshape(image, [-1]), tf.shape(image), *rest

    size = image.shape.num_elements()
    is_large = size is not None and count * size > KEPT_BYTES
    batches = without_autotune(elements.map(plain(flattened), THREADS).ragged_batch(CHUNK))
    found, used = [], 0
    for flat, *rest in batches:
        pixels = (
            flat.values if isinstance(flat, tf.RaggedTensor) else tf.reshape(flat, [-1])
        ).numpy()
        found.append((pixels, *(part.numpy() for part in rest)))
        used += len(pixels)
        if is_large or used > KEPT_BYTES:
            break
    if not found:
        raise ValueError(f"`{name}` must have at least one image. Received: an empty dataset")
    dtype = np.dtype(image.dtype.as_numpy_dtype)
    check_scale(name, max(pixels.max() for pixels, *_ in found), dtype)
    if is_large or used > KEPT_BYTES:
        return None
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]


def images_in_memory(flat, shapes, labels, weights=None):
    """`Images` whose pixels are one row of bytes; `shapes` has the shape of each image."""
    import tensorflow as tf

    if (shapes == shapes[0]).all():
        return from_arrays(flat.reshape(-1, *shapes[0]), labels, weights)
    offsets = np.cumsum([0, *shapes.prod(axis=1, dtype="int64")])
    with tf.device("CPU:0"):
        flat, shapes, offsets = map(tf.convert_to_tensor, (flat, shapes, offsets))
    of_labels = from_arrays(np.zeros((len(labels), 1, 1, 1), "uint8"), labels, weights)

    def read(index):
        begin, end = offsets[index], offsets[index + 1]
        image = tf.reshape(flat[begin:end], tf.gather(shapes, index))
        return image, of_labels.read(index)[1], ""

    return Images(
        count=len(labels),
        shape=(None, None, int(shapes[0, 2])),
        read=read,
        name_of=of_labels.name_of,
        labels=of_labels.labels,
        num_classes=of_labels.num_classes,
        weights=of_labels.weights,
    )


def label_in_graph(name, spec, multi_label, classes):
    """A function label -> a class number, or with `multi_label` a multi-hot label."""
    import tensorflow as tf

    if multi_label or spec.shape.rank == 1:
        if spec.shape != (classes,):
            raise ValueError(
                f"The labels of `{name}` must have the shape ({classes},), one number for each name"
                f" in `class_names`. Received: labels of the shape {spec.shape}"
            )
    elif spec.shape.rank or not spec.dtype.is_integer:
        raise ValueError(
            f"The labels of `{name}` must be class numbers. Received: labels of the shape"
            f" {spec.shape}, {spec.dtype.name}"
        )

    def label_of(label):
        if spec.shape.rank:
            is_valid = tf.reduce_all((label == 0) | (label == 1))
            if not multi_label:
                is_valid &= tf.reduce_sum(tf.cast(label, tf.float32)) == 1
        else:
            is_valid = (label >= 0) & (label < tf.cast(classes, label.dtype))
        form = "0 or 1 for each class" if multi_label else f"one of {classes} classes"
        message = f"A label of `{name}` must be {form}"
        with tf.control_dependencies([tf.debugging.Assert(is_valid, [message, label])]):
            if multi_label:
                return tf.cast(label, tf.float32)
            return tf.argmax(label) if spec.shape.rank else tf.cast(label, tf.int64)

    return label_of


def weight_in_graph(name):
    """A function weight -> a float32 scalar, which raises if the weight is negative or NaN."""
    import tensorflow as tf

    def weight_of(weight):
        message = f"A weight of `{name}` must be at least 0"
        with tf.control_dependencies([tf.debugging.Assert(weight >= 0, [message, weight])]):
            return tf.reshape(tf.cast(weight, tf.float32), [])

    return weight_of
