"""Pillow's antialiased resize in whole numbers."""

import math
import types

import numpy as np

# Pillow's fixed point: a weight is a whole number of 2^-22. Here in two parts, of 2^-10 and of what
# is left: either fits the 11 bits that a GPU keeps of a factor, and either's sums are exact.
FRACTION, COARSE = 2**22, 2**10
FINE = FRACTION // COARSE


# From here on `tensors` is keras.ops or, where tf.data calls, TensorFlow under the same names;
# `numbers` is that or, for images of known size, NumPy.


def tensorflow():
    """TensorFlow's functions under the names of keras.ops."""
    import tensorflow as tf

    return types.SimpleNamespace(
        abs=tf.abs,
        arange=tf.range,
        array=tf.cast,
        expand_dims=tf.expand_dims,
        floor=tf.floor,
        matmul=tf.matmul,
        maximum=tf.maximum,
        minimum=tf.minimum,
        round=tf.round,
        sum=tf.reduce_sum,
        transpose=tf.transpose,
    )


def resized(spec, images, height, width, tensors):
    """Images of `spec`'s size, whole numbers from 0 to 255 in float32.

    An unknown height or width is a scalar tensor.
    """
    known = isinstance(height, int) and isinstance(width, int)
    numbers = np if known else tensors
    if not known:
        height, width = (tensors.array(side, dtype="int64") for side in (height, width))
    resized = _resized_sides(spec, height, width, numbers)
    kernel = KERNELS[spec.interpolation]
    top, bottom, rows = _weights(kernel, height, resized[0], spec.size[0], numbers)
    left, right, columns = _weights(kernel, width, resized[1], spec.size[1], numbers)

    # A plane for each channel, the axis in work last but one: two large matrix products.
    x = tensors.transpose(images[:, top:bottom, left:right], (0, 3, 2, 1))
    x = _product(columns, tensors.array(x, dtype="float32"), tensors)
    x = _product(rows, tensors.transpose(x, (0, 1, 3, 2)), tensors)
    return tensors.transpose(x, (0, 2, 3, 1))


def normalized(spec, x):
    """`(x / 255 - mean) / std`."""
    return (x / 255 - np.array(spec.mean, "float32")) / np.array(spec.std, "float32")


def _resized_sides(spec, height, width, numbers):
    """(height, width) of the whole image resized, its crop being `spec.size`."""
    scale = _scale(spec.size, spec.crop_fraction)
    if scale[0] == scale[1]:  # torchvision's Resize: the longer side is cut to a whole number
        shorter = numbers.minimum(height, width)
        return scale[0] * height // shorter, scale[0] * width // shorter
    # timm's ResizeKeepRatio: it is rounded, a half to the even number, after two float64 divisions
    height, width = (numbers.array(side, dtype="float64") for side in (height, width))
    ratio = numbers.minimum(height / scale[0], width / scale[1])
    return tuple(
        numbers.array(numbers.round(side / ratio), dtype="int64") for side in (height, width)
    )


def _scale(size, crop_fraction):
    return tuple(math.floor(side / crop_fraction) for side in size)


def _weights(kernel, length, resized, crop, numbers):
    """Which pixels of an axis the crop depends on, and by what weights.

    Returns `first, last + 1, (coarse, fine)`: matrices (crop, pixels) of whole numbers, of which
    `coarse / COARSE + fine / FRACTION` is Pillow's weight.
    """
    kernel, radius = kernel
    margin = resized - crop
    offset = (margin + margin % 4 // 3) // 2  # margin / 2, a half to the even number as by round()

    # Centres of pixels in units of half a pixel of either image: whole numbers, so nothing is lost.
    target = (2 * (numbers.arange(crop, dtype="int64") + offset) + 1) * length
    wider = numbers.maximum(length, resized)  # the kernel grows with the image that shrinks
    first = numbers.maximum((target[0] - 2 * radius * wider) // (2 * resized), 0)
    end = numbers.minimum((target[-1] + 2 * radius * wider) // (2 * resized) + 1, length)
    source = (2 * numbers.arange(first, end, dtype="int64") + 1) * resized
    distance = numbers.abs(source - numbers.expand_dims(target, 1))
    distance = numbers.array(distance, dtype="float64") / (
        2 * numbers.array(wider, dtype="float64")
    )

    weights = kernel(distance, numbers)
    weights = weights / numbers.sum(weights, axis=1, keepdims=True)
    weights = numbers.round(weights * FRACTION)
    coarse = numbers.round(weights / FINE)
    return first, end, (coarse, weights - coarse * FINE)


def _product(weights, x, tensors):
    """Weights times bytes, to the nearest byte, a half up: Pillow's result, without any error."""
    coarse, fine = (tensors.matmul(tensors.array(part, dtype="float32"), x) for part in weights)
    x = tensors.floor((coarse + tensors.floor(fine / FINE) + COARSE // 2) / COARSE)
    return tensors.minimum(tensors.maximum(x, 0), 255)


def _triangle(distance, numbers):
    return 1 - numbers.minimum(distance, 1)


def _cubic(distance, numbers):
    # Either half is 0 where the other counts, which spares a choice between them.
    inner = numbers.minimum(distance, 1)
    outer = numbers.minimum(numbers.maximum(distance, 1), 2)
    return (1.5 * inner - 2.5) * inner * inner + 1 - 0.5 * (outer - 1) * (outer - 2) ** 2


KERNELS = {"bicubic": (_cubic, 2), "bilinear": (_triangle, 1)}  # how far each reaches
