"""The ConvMixer block at inference, as one kernel for small inputs."""

import functools

import tensorflow as tf

from keras_mixers.layers.kernels.tensorflow_cpu.activations import compiled
from keras_mixers.layers.kernels.tensorflow_cpu.half import narrow, wide


def conv_mixer_block(x, depthwise, pointwise, norm1, norm2, activation):
    """`x + norm1(activation(depthwise(x)))`, then `norm2(activation(pointwise(x)))`.

    One kernel takes less time than the convolutions of oneDNN, each of which wakes other threads.
    It computes in float32.

    Args:
        x: a grid `(N, H, W, D)` of known shape.
        depthwise: kernel `(height, width, D, 1)` and bias of a convolution with padding "SAME".
        pointwise: kernel `(D, D)` and bias.
        norm1: gamma, beta, mean, variance and epsilon of a batch normalization.
        norm2: like `norm1`.
        activation: one of `ACTIVATIONS`.
    """
    weights = tf.nest.map_structure(tf.convert_to_tensor, (depthwise, pointwise, norm1, norm2))
    return _block(activation)(x, *weights)


@functools.cache
def _block(activation):
    @compiled
    def call(x, depthwise, pointwise, norm1, norm2):
        y = wide(x)
        y = y + _normalize(activation.inference(_convolve(y, *depthwise)), *norm1)
        kernel, bias = pointwise
        rows = tf.matmul(tf.reshape(y, (-1, x.shape[-1])), wide(kernel)) + wide(bias)
        rows = _normalize(activation.inference(rows), *norm2)
        return narrow(tf.reshape(rows, x.shape), x.dtype)

    return call


def _convolve(x, kernel, bias):
    """The depthwise convolution as a sum of shifted products, which XLA computes as one loop.

    Each row of the kernel has a separate sum, because the processor computes these side by side.
    """
    height, width = x.shape[1:3]
    pads = [((side - 1) // 2, side // 2) for side in kernel.shape[:2]]
    padded = tf.pad(x, [(0, 0), *pads, (0, 0)])
    kernel, y = wide(kernel)[..., 0], wide(bias)
    for row in range(kernel.shape[0]):
        rows = padded[:, row : row + height]
        columns = range(kernel.shape[1])
        y = y + tf.add_n([rows[:, :, i : i + width] * kernel[row, i] for i in columns])
    return y


def _normalize(x, gamma, beta, mean, variance, epsilon):
    scale = wide(gamma) * tf.math.rsqrt(wide(variance) + epsilon)
    return x * scale + (wide(beta) - wide(mean) * scale)
