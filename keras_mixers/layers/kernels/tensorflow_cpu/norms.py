"""Layer, RMS and batch normalization."""

import functools

import tensorflow as tf

from keras_mixers.layers.kernels.tensorflow_cpu.activations import compiled
from keras_mixers.layers.kernels.tensorflow_cpu.half import narrow, wide
from keras_mixers.layers.kernels.tensorflow_cpu.products import on_rows


def layer_normalization(x, gamma, beta, epsilon):
    """Layer normalization in training; it stores x, means and deviations for the gradient."""
    gamma, beta = tf.cast(gamma, tf.float32), tf.cast(beta, tf.float32)

    @tf.custom_gradient
    def call(x, gamma, beta):
        y, mean, reciprocal = _layer_normalization_forward(x, gamma, beta, epsilon)
        return y, lambda dy: _layer_normalization_backward(x, mean, reciprocal, gamma, dy)

    return on_rows(lambda x: call(x, gamma, beta), x)


@compiled
def _layer_normalization_forward(x, gamma, beta, epsilon):
    dtype, x = x.dtype, wide(x)
    mean = _mean(x)
    centred = x - mean
    reciprocal = tf.math.rsqrt(_mean(centred * centred) + epsilon)
    return narrow(centred * (reciprocal * gamma) + beta, dtype), mean, reciprocal


def _mean(x):
    """The mean of each row, by a product with a vector, because XLA has a faster loop for it."""
    width = x.shape[-1]
    return tf.linalg.matvec(x, tf.ones(width, x.dtype))[:, None] / width


@compiled
def _layer_normalization_backward(x, mean, reciprocal, gamma, dy):
    dtype, x, dy = x.dtype, wide(x), wide(dy)
    normal = (x - mean) * reciprocal
    dy_normal = dy * normal
    # These means over a row are products with a vector, because XLA has a faster loop for those.
    scale = gamma / x.shape[-1]
    mean_dy, mean_dy_normal = (tf.linalg.matvec(part, scale)[:, None] for part in (dy, dy_normal))
    dx = reciprocal * (dy * gamma - mean_dy - normal * mean_dy_normal)
    return narrow(dx, dtype), tf.reduce_sum(dy_normal, 0), tf.reduce_sum(dy, 0)


def rms_normalization(x, gamma, epsilon):
    """RMS normalization in training; it stores x and the reciprocals for the gradient."""
    gamma = tf.cast(gamma, tf.float32)

    @tf.custom_gradient
    def call(x, gamma):
        y, reciprocal = _rms_normalization_forward(x, gamma, epsilon)
        return y, lambda dy: _rms_normalization_backward(x, reciprocal, gamma, dy)

    return on_rows(lambda x: call(x, gamma), x)


@compiled
def _rms_normalization_forward(x, gamma, epsilon):
    dtype, x = x.dtype, wide(x)
    reciprocal = tf.math.rsqrt(_mean(x * x) + epsilon)
    return narrow(x * (reciprocal * gamma), dtype), reciprocal


@compiled
def _rms_normalization_backward(x, reciprocal, gamma, dy):
    dtype, x, dy = x.dtype, wide(x), wide(dy)
    normal = x * reciprocal
    dy_normal = dy * normal
    # This mean over a row is a product with a vector, because XLA has a faster loop for that.
    mean_dy_normal = tf.linalg.matvec(dy_normal, gamma / x.shape[-1])[:, None]
    dx = reciprocal * (dy * gamma - normal * mean_dy_normal)
    return narrow(dx, dtype), tf.reduce_sum(dy_normal, 0)


def layer_normalization_inference(x, gamma, beta, epsilon):
    """Layer normalization at inference, which TensorFlow replaces by one kernel of oneDNN.

    That kernel takes float32. In bfloat16, the kernel for training is as fast.

    Batch normalization of one image normalizes each channel. Here each row of x is a channel.

    TensorFlow's graph optimizer recognizes this pattern only if `tf.fill` computes scale and offset
    at run time, for this layer only. If the optimizer knew their size, it would fold them into
    constants that layers share. `PlaceholderWithDefault` hides the size.
    """
    if x.dtype == tf.bfloat16:
        return layer_normalization(x, gamma, beta, epsilon)
    count = tf.raw_ops.PlaceholderWithDefault(input=[tf.size(x) // x.shape[-1]], shape=[1])
    unused = tf.zeros([0])
    normal, *_ = tf.raw_ops.FusedBatchNormV3(
        x=tf.reshape(x, [1, -1, x.shape[-1], 1]),
        scale=tf.fill(count, 1.0),
        offset=tf.fill(count, 0.0),
        mean=unused,
        variance=unused,
        epsilon=epsilon,
        data_format="NCHW",
    )
    return tf.reshape(normal, tf.shape(x)) * gamma + beta


def activated_normalization(x, bias, activation, gamma, beta, mean, variance, epsilon, residual):
    """`residual + norm(activation(x + bias))` at inference, where `norm` uses a given mean.

    Bias, activation and residual may be None.
    """
    bias = None if bias is None else tf.convert_to_tensor(bias)
    vectors = [tf.convert_to_tensor(vector) for vector in (gamma, beta, mean, variance)]
    return _activated_normalization(activation)(x, bias, *vectors, epsilon, residual)


@functools.cache
def _activated_normalization(activation):
    @compiled
    def call(x, bias, gamma, beta, mean, variance, epsilon, residual):
        y = wide(x) if bias is None else wide(x) + wide(bias)
        y = activation.inference(y) if activation else y
        scale = wide(gamma) * tf.math.rsqrt(wide(variance) + epsilon)
        y = y * scale + (wide(beta) - wide(mean) * scale)
        return narrow(y if residual is None else wide(residual) + y, x.dtype)

    return call


def batch_normalization(x, gamma, beta, epsilon):
    """Batch normalization in training, over all axes except the last.

    Returns:
        The output, and the mean and variance of each channel, in float32.
    """
    unused = tf.zeros([0])
    y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x,
        scale=tf.cast(gamma, tf.float32),
        offset=tf.cast(beta, tf.float32),
        mean=unused,
        variance=unused,
        epsilon=epsilon,
    )
    # The kernel returns the unbiased variance, with a divisor of count - 1.
    count = tf.cast(tf.size(x) // x.shape[-1], tf.float32)
    return y, mean, variance * (count - 1) / count
