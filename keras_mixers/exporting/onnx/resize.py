"""Preprocessing in few ONNX operators."""

import types

import numpy as np

from keras_mixers.exporting.onnx.placeholders import placeholder_op
from keras_mixers.preprocessing.resample import Resampler, tensorflow_ops


def prepared(preprocessing, images):
    """`preprocessing(images)` for a batch of images, or the images if it is None."""
    import tensorflow as tf

    if preprocessing is None:
        return images
    _, height, width, _ = tf.unstack(tf.shape(images, "int64"))
    ops = types.SimpleNamespace(**{**vars(tensorflow_ops()), "clip": lower_clip})
    x = OnnxResampler(preprocessing, height, width, images.shape[-1], ops)(images)
    return standardize(preprocessing, tf.cast(x, "float32"))


def standardize(preprocessing, x):
    """`preprocessing.standardize(x)` with a mean and std for each value of a row.

    Runtimes compute slowly with constants of as few numbers as a pixel has channels.
    """
    import tensorflow as tf

    _, rows, columns, channels = x.shape

    def for_row(constant):
        row = np.broadcast_to(np.array(constant, "float32"), (columns, channels)).reshape(-1)
        return row[0] if (row == row[0]).all() else row

    x = tf.reshape(x, (-1, rows, columns * channels)) / 255
    x = (x - for_row(preprocessing.mean)) / for_row(preprocessing.std)
    return tf.reshape(x, (-1, rows, columns, channels))


def lower_clip(x, low, high):
    """One `Clip`."""
    import tensorflow as tf

    limits = [tf.constant(limit, x.dtype) for limit in (low, high)]
    return placeholder_op("Clip", [x, *limits], x.shape)


def lower_preprocess_images(layer, x):
    """The same for a layer of a model, whose images may have one known size."""
    # The node hides the size. Known weights would be constants, and int8 would quantize them.
    sizes = (None, None, None, x.shape[-1])
    return prepared(layer.specification, placeholder_op("Identity", [x], sizes))


class OnnxResampler(Resampler):
    """`Resampler` that cuts out each strip of an image by one node."""

    def strips(self, x, top, bottom, left, right):
        import tensorflow as tf

        count = left.shape[0]

        def pieces(row, columns):
            pairs = tf.stack([tf.broadcast_to(row, [count]), columns], axis=1)
            return tf.split(tf.reshape(pairs, [2 * count]), count)

        axes = tf.constant([1, 2], "int64")
        return [
            placeholder_op("Slice", [x, begin, end, axes], (None, None, None))
            for begin, end in zip(pieces(top, left), pieces(bottom, right), strict=True)
        ]
