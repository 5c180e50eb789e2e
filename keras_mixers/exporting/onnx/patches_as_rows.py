"""Embed patches by a product of matrices, which onnxruntime also computes in 8-bit integers."""

import math

from keras_mixers.exporting.onnx.lowerings import as_tensor, lower_conv


def lower_patch_conv(layer, x):
    """A convolution that cuts an image into patches: the patches are rows of one matrix."""
    import tensorflow as tf

    _, *sizes, channels = x.shape
    if not cuts_patches(layer, sizes):
        return lower_conv(layer, x)
    (height, width), patch = sizes, layer.kernel_size
    grid = (height // patch[0], width // patch[1])
    strips = tf.reshape(x, (-1, grid[0], patch[0], grid[1], patch[1] * channels))
    patches = tf.transpose(strips, (0, 1, 3, 2, 4))
    rows = tf.reshape(patches, (-1, math.prod(patch) * channels))
    rows = tf.matmul(rows, tf.reshape(as_tensor(layer.kernel, x), (-1, layer.filters)))
    if layer.bias is not None:
        rows = rows + as_tensor(layer.bias, x)
    y = tf.reshape(rows, (-1, *grid, layer.filters))
    return y if layer.activation is None else layer.activation(y)


def cuts_patches(layer, sizes):
    """Whether the windows of a `Conv2D` divide images of `sizes` into patches.

    Not if they are single places: onnxruntime's `Conv` is as fast there, and keeps its own layout.
    """
    return (
        layer.data_format == "channels_last"
        and layer.kernel_size == layer.strides != (1, 1)
        and layer.dilation_rate == (1, 1)
        and layer.groups == 1
        and None not in sizes
        and not any(size % side for size, side in zip(sizes, layer.kernel_size, strict=True))
    )
