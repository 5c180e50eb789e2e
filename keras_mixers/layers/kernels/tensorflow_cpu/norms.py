"""Layer normalization and batch normalization."""

import tensorflow as tf

from keras_mixers.layers.kernels.tensorflow_cpu.activations import compiled
from keras_mixers.layers.kernels.tensorflow_cpu.products import on_rows


def layer_normalization(x, gamma, beta, epsilon):
    """In training: x, its means and its deviations are all that is kept."""

    @tf.custom_gradient
    def call(x, gamma, beta):
        y, mean, reciprocal = _layer_normalization_forward(x, gamma, beta, epsilon)
        return y, lambda dy: _layer_normalization_backward(x, mean, reciprocal, gamma, dy)

    return on_rows(lambda x: call(x, gamma, beta), x)


@compiled
def _layer_normalization_forward(x, gamma, beta, epsilon):
    mean = tf.reduce_mean(x, -1, keepdims=True)
    centred = x - mean
    reciprocal = tf.math.rsqrt(tf.reduce_mean(centred * centred, -1, keepdims=True) + epsilon)
    return centred * (reciprocal * gamma) + beta, mean, reciprocal


@compiled
def _layer_normalization_backward(x, mean, reciprocal, gamma, dy):
    normal = (x - mean) * reciprocal
    along = dy * normal
    # Sums over a row as products with a vector: XLA has a faster loop for those.
    share = gamma / x.shape[-1]
    offset, slope = (tf.linalg.matvec(part, share)[:, None] for part in (dy, along))
    dx = reciprocal * (dy * gamma - offset - normal * slope)
    return dx, tf.reduce_sum(along, 0), tf.reduce_sum(dy, 0)


def layer_normalization_inference(x, gamma, beta, epsilon):
    """Each row as a channel of one image whose channels are normalised: one kernel of oneDNN.

    TensorFlow finds that pattern where ones and zeros are filled in as it runs, for this layer
    alone. So their count is hidden from it until then, or it would make them constants and share
    them between the layers.
    """
    count = tf.raw_ops.PlaceholderWithDefault(input=[tf.size(x) // x.shape[-1]], shape=[1])
    none = tf.zeros([0])
    normal, *_ = tf.raw_ops.FusedBatchNormV3(
        x=tf.reshape(x, [1, -1, x.shape[-1], 1]),
        scale=tf.fill(count, 1.0),
        offset=tf.fill(count, 0.0),
        mean=none,
        variance=none,
        epsilon=epsilon,
        data_format="NCHW",
    )
    return tf.reshape(normal, tf.shape(x)) * gamma + beta


def batch_normalization(x, gamma, beta, epsilon):
    """In training, over all axes but the last: what comes out, the means and the variances."""
    none = tf.zeros([0])
    y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x, scale=gamma, offset=beta, mean=none, variance=none, epsilon=epsilon
    )
    count = tf.cast(tf.size(x) // x.shape[-1], x.dtype)
    return y, mean, variance * (count - 1) / count  # the kernel's is of a sample
