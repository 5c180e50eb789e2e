"""Random access to image files, each with its label."""

import os

import numpy as np

from keras_mixers.data.random_access import Images
from keras_mixers.preprocessing.decode import traced_decoder


def from_files(pairs, channels=3, converted=None, num_classes=None):
    """`Images` of files in any size.

    Args:
        pairs: (path, class index), or with `num_classes` (path, class indices), for each image.
        channels: 1, 3 or 4.
        converted: `{path: the converted file that is read instead}`.
        num_classes: the number of classes, for multi-hot labels.
    """
    import tensorflow as tf

    converted = converted or {}
    names = tf.constant([os.fsencode(path) for path, _ in pairs])
    paths = tf.constant([os.fsencode(converted.get(path, path)) for path, _ in pairs])
    labels, label_of = (
        class_indices(pairs) if num_classes is None else multi_hot(pairs, num_classes)
    )

    def name_of(index):
        return tf.strings.unicode_transcode(names[index], "UTF-8", "UTF-8", errors="replace")

    def read(index):
        image, problem = traced_decoder(channels)(tf.io.read_file(paths[index]))
        return image, label_of(index), problem

    return Images(
        count=len(pairs),
        shape=(None, None, channels),
        read=read,
        name_of=name_of,
        labels=labels,
        num_classes=num_classes,
    )


def class_indices(pairs):
    """Two functions: () -> all class indices, int64; and index -> one of them."""
    import tensorflow as tf

    labels = tf.constant(np.array([label for _, label in pairs], "int64"))
    return labels.numpy, lambda index: tf.gather(labels, index)


def multi_hot(pairs, num_classes):
    """Two functions: () -> all multi-hot labels, float32 `(N, num_classes)`; and index -> one.

    They keep only the indices, because all multi-hot labels of a large dataset take gigabytes.
    """
    import tensorflow as tf

    ends = tf.constant(np.cumsum([0] + [len(indices) for _, indices in pairs]))
    flat = tf.constant(np.array([i for _, indices in pairs for i in indices], "int32"))

    def label_of(index):
        indices = flat[ends[index] : ends[index + 1]]
        return tf.reduce_sum(tf.one_hot(indices, num_classes), 0)

    def labels():
        found = np.zeros((len(pairs), num_classes), "float32")
        found[np.repeat(np.arange(len(pairs)), np.diff(ends)), flat] = 1
        return found

    return labels, label_of
