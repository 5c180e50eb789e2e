"""Resampling with the parts of the weights that are not 0, for images of photographs' size."""

import numpy as np

from keras_mixers.preprocessing.resample import Resampler, tensorflow_ops

BLOCK = 32  # rows of the result that are computed from the same pixels


class BandedResampler(Resampler):
    """`Resampler`, in TensorFlow and with a seventh of the multiplications for a photograph.

    A pixel of the result depends on few pixels of the image. So each block of rows of the weights
    is multiplied by the pixels on which one of its rows depends. The sums are the same, because all
    other products are 0.
    """

    def __init__(self, specification, height, width):
        super().__init__(specification, height, width, tensorflow_ops())

    def products(self, x, weights):
        """`weights . x` for two matrices `(rows, pixels)` over the last axis but one of x."""
        import tensorflow as tf

        coarse, fine = (tf.cast(part, "float32") for part in weights)
        rows, pixels = coarse.shape[0], tf.shape(coarse)[1]
        is_used = tf.cast((coarse != 0) | (fine != 0), "int32")
        first, last = tf.argmax(is_used, 1, "int32"), pixels - 1
        last -= tf.argmax(is_used[:, ::-1], 1, "int32")

        row_of = np.minimum(np.arange(-(-rows // BLOCK) * BLOCK), rows - 1).reshape(-1, BLOCK)
        begin = tf.reduce_min(tf.gather(first, row_of), 1)
        end = tf.reduce_max(tf.gather(last, row_of), 1) + 1
        window = tf.reduce_max(end - begin)
        columns = tf.minimum(begin, pixels - window)[:, None] + tf.range(window)
        used_pixels = tf.gather(x, columns, axis=-2)  # (N, C, blocks, window, ...)

        def product(matrix):
            band = tf.gather(tf.gather(matrix, row_of), columns, axis=2, batch_dims=1)
            blocks = tf.matmul(band, used_pixels)
            shape = tf.concat([tf.shape(x)[:-2], [row_of.size], tf.shape(x)[-1:]], 0)
            return tf.reshape(blocks, shape)[..., :rows, :]

        return product(coarse), product(fine)
